//! What is counted about appends, alike for both logs.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram, Label};

/// Counters of one topic. Looked up once, because a look-up costs more than an increment; and at the first append, not
/// when the log is opened, because handles made before the recorder is installed count into nothing.
pub(crate) struct AppendMeter {
    log: &'static str,
    topic: String,
    handles: OnceLock<Handles>,
}

struct Handles {
    seconds: Histogram,
    bytes: Counter,
    records: Counter,
    errors: Counter,
}

impl AppendMeter {
    /// - `log`: `kafka` or `embedded`.
    pub(crate) fn new(log: &'static str, topic: &str) -> AppendMeter {
        AppendMeter { log, topic: topic.to_owned(), handles: OnceLock::new() }
    }

    fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| Handles::new(self.log, &self.topic))
    }

    /// An append became durable.
    pub(crate) fn appended(&self, took: Duration, records: usize, bytes: usize) {
        let handles = self.handles();
        handles.seconds.record(took.as_secs_f64());
        handles.records.increment(records as u64);
        handles.bytes.increment(bytes as u64);
    }

    /// An append failed.
    pub(crate) fn failed(&self) {
        self.handles().errors.increment(1);
    }
}

impl Handles {
    fn new(log: &'static str, topic: &str) -> Handles {
        let labels = vec![Label::new("log", log), Label::new("topic", topic.to_owned())];
        Handles {
            seconds: metrics::histogram!("eventlog_append_seconds", labels.clone()),
            bytes: metrics::counter!("eventlog_append_bytes_total", labels.clone()),
            records: metrics::counter!("eventlog_append_records_total", labels.clone()),
            errors: metrics::counter!("eventlog_append_errors_total", labels),
        }
    }
}
