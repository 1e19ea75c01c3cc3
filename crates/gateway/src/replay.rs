//! A rejected request that is sent again, after a fix: which of its items count, under which ids, and from when.
//!
//! `trackway replay-rejected` sends such headers beside the ones that were kept. Whoever has a write key may do so: they let
//! nothing in that the key would not.

use hyper::HeaderMap;
use trackway_domain::limits::OLDEST_EVENT_MS;
use trackway_domain::time::ReceivedAt;
use trackway_wire::Item;

/// Header: a write key of the project, in place of what the request itself says.
const PROJECT_KEY: &str = "x-trackway-project-key";
/// Header: `partition.offset` of the record in topic `rejected`.
const REPLAY: &str = "x-trackway-replay";
/// Header: places of the items that were rejected, separated by commas; absent: all.
const ONLY: &str = "x-trackway-only";
/// Header: when the request came first, ms.
const RECEIVED: &str = "x-trackway-received";
/// Header, kept with a rejected request: the id derived for a visitor who has none.
pub(crate) const VISITOR: &str = "x-trackway-visitor";

/// Bytes of a header of ours that are believed; a record's place has some twenty.
const PLACE_BYTES_MAX: usize = 64;

/// What the headers say.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    /// The write key to use.
    pub project_key: Option<&'a str>,
    /// Visitor who had no id.
    pub visitor: Option<&'a str>,
    place: &'a str,
    /// In rising order.
    only: Option<Vec<usize>>,
    received: Option<ReceivedAt>,
}

impl<'a> Replay<'a> {
    /// Of a request that says it is one.
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let place = text(REPLAY).filter(|place| place.len() <= PLACE_BYTES_MAX)?;
        let received = text(RECEIVED).and_then(|ms| ms.parse().ok()).filter(|ms| *ms >= OLDEST_EVENT_MS);
        Some(Self {
            project_key: text(PROJECT_KEY),
            visitor: text(VISITOR).filter(|id| id.len() <= PLACE_BYTES_MAX),
            place,
            only: text(ONLY).map(places),
            received: received.map(ReceivedAt),
        })
    }

    /// When the events came: then, if that is not in our future.
    pub(crate) fn received(&self, now: ReceivedAt) -> ReceivedAt {
        self.received.filter(|then| *then <= now).unwrap_or(now)
    }

    /// Leaves what was rejected, and gives it an id, so that sending it twice makes no second event.
    pub(crate) fn keep(&self, items: &mut [Item]) {
        for (index, item) in items.iter_mut().enumerate() {
            if self.only.as_ref().is_some_and(|only| only.binary_search(&index).is_err()) {
                *item = Item::Nothing;
            } else if let Item::Event { event, .. } = item
                && event.id.is_none()
            {
                event.id = Some(format!("rejected:{}.{index}", self.place));
            }
        }
    }
}

/// A stranger may name very many.
fn places(list: &str) -> Vec<usize> {
    let mut places: Vec<usize> = list.split(',').filter_map(|place| place.trim().parse().ok()).collect();
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use trackway_wire::segment;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_what_was_rejected_counts_and_has_an_id() {
        let headers = headers(&[(REPLAY, "0.7"), (ONLY, "2, 1"), (RECEIVED, "1795360811000")]);
        let replay = Replay::of(&headers).expect("a replay");
        let body = br#"{"batch":[{"type":"track","event":"a","userId":"u"},{"type":"track","event":"b","userId":"u"},
            {"type":"track","event":"c","userId":"u","messageId":"m"}]}"#;
        let mut items = segment::parse(segment::Call::Batch, body, 10).expect("JSON").items;
        replay.keep(&mut items);
        let ids = items.iter().map(|item| match item {
            Item::Event { event, .. } => event.id.as_deref(),
            Item::Nothing => Some("nothing"),
            Item::Rejected { reason, .. } => panic!("{reason}"),
        });
        assert_eq!(ids.collect::<Vec<_>>(), [Some("nothing"), Some("rejected:0.7.1"), Some("m")]);
        assert_eq!(replay.received(ReceivedAt(1_795_360_812_000)), ReceivedAt(1_795_360_811_000));
        assert_eq!(replay.received(ReceivedAt(1_795_360_810_000)), ReceivedAt(1_795_360_810_000));
    }

    #[test]
    fn a_request_that_does_not_say_so_is_no_replay() {
        assert!(Replay::of(&headers(&[(ONLY, "1")])).is_none());
    }
}
