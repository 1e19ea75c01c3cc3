//! Every librdkafka setting we rely on, written out with its reason. What is not here has librdkafka's default.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::Config;
use crate::{ConsumerOptions, RECORD_BYTES_MAX};

/// A record's frame (headers, batch) on top of its value.
const FRAME_BYTES: usize = 64 << 10;

/// What `message.max.bytes` of clients and `max.message.bytes` of topics are set to.
pub(super) fn message_bytes_max() -> usize {
    RECORD_BYTES_MAX + FRAME_BYTES
}

fn common(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "trackway")
        // A dead connection is noticed within this time even when the kernel still believes in it.
        .set("socket.timeout.ms", "30000")
        .set("socket.keepalive.enable", "true")
        // Small answers (acks, commits) must not wait for more.
        .set("socket.nagle.disable", "true")
        // A restarted broker is back within seconds; librdkafka's default would find it after up to 10.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Topics are made by `migrate` only, with the right settings.
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", message_bytes_max().to_string())
        .set_log_level(RDKafkaLogLevel::Warning);
    client
}

/// The operator's properties go last, so they win.
fn with_properties(mut client: ClientConfig, config: &Config) -> ClientConfig {
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    client
}

pub(super) fn producer(config: &Config) -> ClientConfig {
    let mut client = common(config);
    client
        // No duplicates and no reordering by retries inside one producer session.
        .set("enable.idempotence", "true")
        // Acknowledged means: all in-sync replicas have it. That is what `append` promises.
        .set("acks", "all")
        // The most that idempotence allows; enough to fill the line.
        .set("max.in.flight.requests.per.connection", "5")
        // The deadline decides, not a count of attempts.
        .set("message.send.max.retries", "2147483647")
        .set("retry.backoff.ms", "50")
        .set("delivery.timeout.ms", config.delivery_timeout.as_millis().to_string())
        .set("request.timeout.ms", config.delivery_timeout.as_millis().clamp(1000, 30_000).to_string())
        .set("linger.ms", (config.linger.as_micros() as f64 / 1000.0).to_string())
        .set("compression.type", config.compression.name())
        // Cost is per record; large batches also compress better. Broker limit: the topic's max.message.bytes.
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        // Our own byte budget (`queue_bytes_max`) bounds memory and makes callers wait; librdkafka's limits are set above
        // it so that they are not met. A count limit of 0 means none; bytes have room for one append beyond the budget.
        .set("queue.buffering.max.messages", "0")
        .set(
            "queue.buffering.max.kbytes",
            (config.queue_bytes_max / 1024 * 2 + 64 * 1024).min(2_147_483_647).to_string(),
        )
        // The caller chooses the partition; an error here would be a bug of ours and must be seen at once.
        .set("topic.metadata.propagation.max.ms", "5000");
    with_properties(client, config)
}

/// Look-ups: metadata, watermarks, offsets by time. No group, nothing fetched.
pub(super) fn admin(config: &Config) -> ClientConfig {
    let mut client = common(config);
    client
        .set("enable.auto.commit", "false")
        // No group is joined; but librdkafka checks it against an operator's `max.poll.interval.ms`.
        .set("session.timeout.ms", config.session_timeout.as_millis().to_string());
    with_properties(client, config)
}

fn fetching(config: &Config) -> ClientConfig {
    let mut client = common(config);
    client
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("session.timeout.ms", config.session_timeout.as_millis().to_string())
        // An offset that is gone is an error that we report; jumping elsewhere silently would lose or repeat records.
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "false")
        .set("check.crcs", "true")
        // Answer as soon as there is anything: the latency of the whole chain matters more than the broker's rest.
        .set("fetch.min.bytes", "1")
        // A partition that is started or resumed joins the next fetch, so this is what starting may cost when idle.
        .set("fetch.wait.max.ms", "100")
        // Default 1000 ms: a pause after each full buffer would throttle catching up.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("max.partition.fetch.bytes", (1 << 20).to_string())
        .set("receive.message.max.bytes", (4 * message_bytes_max()).to_string())
        .set("fetch.max.bytes", (message_bytes_max() * 2).to_string());
    client
}

pub(super) fn member(config: &Config, options: &ConsumerOptions) -> ClientConfig {
    let mut client = fetching(config);
    let wait = options.handover_timeout.saturating_mul(2).max(Duration::from_secs(300));
    client
        .set("group.id", &options.group)
        // Moving one partition must not stop the others.
        .set("partition.assignment.strategy", "cooperative-sticky")
        // Our thread polls all the time, so this only guards against the thread itself hanging. It is also how long the
        // group waits for a member that hands over, so it must exceed the handover.
        .set("max.poll.interval.ms", wait.as_millis().min(86_400_000).to_string())
        .set("heartbeat.interval.ms", (config.session_timeout.as_millis() / 10).clamp(100, 3000).to_string())
        // Half of the reader's budget may wait inside librdkafka, half in our own buffer.
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", (options.buffer_bytes_max / 2 / 1024).clamp(1, 2_097_151).to_string());
    with_properties(client, config)
}

pub(super) fn reader(config: &Config) -> ClientConfig {
    let mut client = fetching(config);
    // A group name is needed by the protocol's client only; nothing is subscribed or committed.
    client
        .set("group.id", "trackway-read")
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "4096");
    with_properties(client, config)
}
