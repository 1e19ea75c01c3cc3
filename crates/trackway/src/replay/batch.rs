//! Rows as a tracker would send them: Segment batches.

use super::rows::{Row, quote};
use super::time;

/// Events of one request at most in bytes, far below what a gateway takes by default (4 MiB).
const BODY_BYTES_MAX: usize = 512 * 1024;

/// One request in the making, then on its way.
#[derive(Debug, Default)]
pub struct Batch {
    /// The body, without its end.
    body: String,
    /// Number in the file of each event in it, in order.
    pub numbers: Vec<u64>,
}

impl Batch {
    /// Adds a row as a `track` call.
    pub fn push(&mut self, row: &Row) {
        self.body.push_str(if self.numbers.is_empty() { r#"{"batch":["# } else { "," });
        self.body.push_str(r#"{"type":"track","messageId":"#);
        self.body.push_str(&quote(&row.id));
        for (name, id) in [("userId", &row.user), ("anonymousId", &row.visitor)] {
            if !id.is_empty() {
                self.body.push_str(&format!(r#","{name}":{}"#, quote(id)));
            }
        }
        // No `sentAt`: with it the gateway would correct the times, as if the clock of whoever wrote the file were wrong.
        // The row's number keeps the order of the file among events of one time.
        self.body.push_str(&format!(
            r#","timestamp":"{}","event":{},"properties":{},"context":{{"sequence":{},"library":{{"name":"trackway-replay","version":"{}"}}}}}}"#,
            time::format(row.time_ms),
            quote(&row.event),
            row.properties,
            u32::try_from(row.number).unwrap_or(u32::MAX),
            env!("CARGO_PKG_VERSION"),
        ));
        self.numbers.push(row.number);
    }

    /// Whether it should be sent before it grows further.
    pub fn is_full(&self, events_max: usize) -> bool {
        self.numbers.len() >= events_max || self.body.len() >= BODY_BYTES_MAX
    }

    /// The request's body.
    pub fn body(&self) -> String {
        format!("{}]}}", self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row() -> Row {
        Row {
            number: 7,
            user: "a\"nn".into(),
            visitor: String::new(),
            event: "buy".into(),
            time_ms: 1_704_067_200_000,
            id: "i".into(),
            properties: r#"{"price":9.50}"#.into(),
        }
    }

    #[test]
    fn a_row_is_a_track_call_with_its_time_and_place() {
        let mut batch = Batch::default();
        batch.push(&row());
        batch.push(&Row { number: 8, visitor: "v".into(), user: String::new(), ..row() });
        let body: Value = serde_json::from_str(&batch.body()).expect("JSON");
        let first = &body["batch"][0];
        assert_eq!(first["userId"], "a\"nn");
        assert_eq!(first["timestamp"], "2024-01-01T00:00:00.000Z");
        assert_eq!(first["properties"], json!({"price": 9.50}));
        assert_eq!((&first["messageId"], &first["context"]["sequence"]), (&json!("i"), &json!(7)));
        assert!(first.get("sentAt").is_none() && first.get("anonymousId").is_none());
        assert_eq!(body["batch"][1]["anonymousId"], "v");
        assert_eq!(batch.numbers, [7, 8]);
    }

    #[test]
    fn a_batch_is_full_by_events_or_by_bytes() {
        let mut batch = Batch::default();
        batch.push(&row());
        assert!(!batch.is_full(2));
        assert!(batch.is_full(1));
        batch.push(&Row { properties: format!("{{\"x\":\"{}\"}}", "y".repeat(BODY_BYTES_MAX)), ..row() });
        assert!(batch.is_full(1000));
    }
}
