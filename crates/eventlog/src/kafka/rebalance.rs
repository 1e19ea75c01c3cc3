//! Rebalances, as librdkafka calls back with them: only noted here. The thread in `member.rs` answers.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::client::Logged;
use super::lock;

/// What the group wants of us; `true`: the partitions are lost already.
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList, bool),
}

/// Notes rebalances for the loop.
pub(super) struct MemberContext {
    logged: Logged,
    pub rebalances: Mutex<VecDeque<Rebalance>>,
    /// Set when the consumer is being closed: nobody answers rebalances any more.
    pub closing: AtomicBool,
}

impl MemberContext {
    pub fn new() -> MemberContext {
        let logged = Logged { part: "consumer" };
        MemberContext { logged, rebalances: Mutex::default(), closing: AtomicBool::new(false) }
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.logged.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logged.error(error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            let answered = if assign { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answered {
                tracing::debug!(error = %error, "rebalance while closing");
            }
            return;
        }
        let noted = match assign {
            true => Rebalance::Assign(list.clone()),
            false => Rebalance::Revoke(list.clone(), consumer.assignment_lost()),
        };
        lock(&self.rebalances).push_back(noted);
    }
}
