//! Topics, their settings, and look-ups that need no group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::Logged;
use super::settings::message_bytes_max;
use crate::{LogError, LogFault, OffsetBounds, TopicSpec};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Admin {
    client: AdminClient<Logged>,
    lookup: BaseConsumer<Logged>,
}

impl Admin {
    pub fn new(config: &ClientConfig) -> Result<Admin, KafkaError> {
        let client = AdminClient::from_config_and_context(config, Logged { part: "admin" })?;
        let lookup = BaseConsumer::from_config_and_context(config, Logged { part: "lookup" })?;
        Ok(Admin { client, lookup })
    }

    /// Answers when a broker does. Blocks.
    pub fn reach(&self) -> Result<(), KafkaError> {
        // One topic that does not exist, so that a cluster with many topics does not send them all.
        self.lookup.fetch_metadata(Some("trackway-reach"), REQUEST_TIMEOUT).map(drop)
    }

    /// Number of partitions; `None` if there is no such topic. Blocks.
    pub fn partitions(&self, topic: &str) -> Result<Option<u32>, KafkaError> {
        let metadata = self.lookup.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let Some(found) = found else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len() as u32).filter(|count| *count > 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(KafkaError::MetadataFetch(code)),
        }
    }

    /// Creates a topic or sets the retention of the one that exists.
    pub async fn create(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let fault =
            |source: LogFault| LogError::Operation { what: "create the topic", subject: spec.name.clone(), source };
        let settings = settings(spec);
        let mut topic = NewTopic::new(
            &spec.name,
            i32::try_from(spec.partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(i32::from(spec.replicas)),
        );
        for (name, value) in &settings {
            topic = topic.set(name, value);
        }
        let made = self.client.create_topics([&topic], &options()).await.map_err(|error| fault(error.into()))?;
        match made.into_iter().next() {
            None | Some(Ok(_)) => Ok(()),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                self.set_retention(spec, &settings).await.map_err(fault)
            }
            Some(Err((_, code))) => Err(fault(KafkaError::AdminOp(code).into())),
        }
    }

    async fn set_retention(&self, spec: &TopicSpec, settings: &BTreeMap<&str, String>) -> Result<(), LogFault> {
        let described = self.client.describe_configs([&ResourceSpecifier::Topic(&spec.name)], &options()).await?;
        let Some(current) = described.into_iter().next().transpose().map_err(KafkaError::AdminOp)? else {
            return Ok(());
        };
        debug_assert!(matches!(&current.specifier, OwnedResourceSpecifier::Topic(name) if *name == spec.name));
        let wanted = &settings["retention.ms"];
        if current.get("retention.ms").and_then(|entry| entry.value.as_ref()) == Some(wanted) {
            return Ok(());
        }
        // The request replaces all of a topic's own settings: what an operator has set by hand is sent along.
        let mut all: BTreeMap<&str, &str> = current
            .entries
            .iter()
            .filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic))
            .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
            .collect();
        all.insert("retention.ms", wanted);
        let mut altered = AlterConfig::new(ResourceSpecifier::Topic(&spec.name));
        for (name, value) in all {
            altered = altered.set(name, value);
        }
        let done = self.client.alter_configs([&altered], &options()).await?;
        done.into_iter().next().transpose().map_err(|(_, code)| KafkaError::AdminOp(code))?;
        Ok(())
    }

    /// Blocks.
    pub fn bounds(&self, topic: &str, partitions: u32) -> Result<BTreeMap<u32, OffsetBounds>, KafkaError> {
        let mut bounds = BTreeMap::new();
        for partition in 0..partitions {
            let (low, high) = self.lookup.fetch_watermarks(topic, partition as i32, REQUEST_TIMEOUT)?;
            bounds.insert(partition, OffsetBounds { start: low as u64, end: high as u64 });
        }
        Ok(bounds)
    }

    /// Blocks.
    pub fn offsets_at(&self, topic: &str, partitions: u32, at_ms: i64) -> Result<BTreeMap<u32, u64>, KafkaError> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            // Negative numbers have other meanings in the protocol.
            asked.add_partition_offset(topic, partition as i32, Offset::Offset(at_ms.max(0)))?;
        }
        let found = self.lookup.offsets_for_times(asked, REQUEST_TIMEOUT)?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                // Nothing that new: the end.
                _ => self.lookup.fetch_watermarks(topic, element.partition(), REQUEST_TIMEOUT)?.1,
            };
            offsets.insert(element.partition() as u32, offset as u64);
        }
        Ok(offsets)
    }
}

/// Every topic setting we rely on.
fn settings(spec: &TopicSpec) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::from([
        // Our received time; see KAFKA.md on why never the event's.
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A gateway that could not reach the log for long, or whose clock is off, must not be refused.
        ("message.timestamp.before.max.ms", i64::MAX.to_string()),
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
        ("max.message.bytes", message_bytes_max().to_string()),
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", spec.retention.map_or(-1, |r| i64::try_from(r.as_millis()).unwrap_or(i64::MAX)).to_string()),
        // Stored as the producer compressed it.
        ("compression.type", "producer".to_owned()),
        // A broker that fell behind must not become leader: acknowledged records would vanish.
        ("unclean.leader.election.enable", "false".to_owned()),
    ]);
    if spec.replicas > 1 {
        // Acknowledged means two copies at least; with three, one broker may be away.
        settings.insert("min.insync.replicas", "2".to_owned());
    }
    settings
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

/// Runs something of the admin client that blocks.
pub(super) async fn blocking<T: Send + 'static>(
    admin: &Arc<Admin>,
    act: impl FnOnce(&Admin) -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, LogFault> {
    let admin = Arc::clone(admin);
    Ok(tokio::task::spawn_blocking(move || act(&admin)).await??)
}
