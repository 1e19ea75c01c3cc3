//! What all clients share: librdkafka's messages go to `tracing`.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Says which client speaks.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub part: &'static str,
}

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let part = self.part;
        match level {
            // librdkafka's own levels know nothing of consequences: it reconnects by itself, and what is lost or refused
            // comes back to us as the result of a call.
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(part, facility, message, "kafka client reports an error");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::warn!(part, facility, message, "kafka client warns");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(part, facility, message, "kafka client"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(part = self.part, error = %error, reason, "kafka client reports an error");
    }
}
