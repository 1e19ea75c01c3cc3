//! A live view of what arrives, for people who set up a tracker.
//!
//! While somebody looks, one consumer (a group of its own, which commits nothing) follows the topics `events` and `rejected`
//! from where they end; while nobody does, nothing is read. Each who looks has a queue, which is bounded: who is too slow
//! loses the oldest, and is told how many. Nothing here slows what is followed.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use prost::Message;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tonic::Status;
use trackway_enrich::user_agent;
use trackway_eventlog::{Consumer, ConsumerEvent, ConsumerOptions, LogError, Record, TopicPartition};
use trackway_wire::log::{decode, pb as log_pb};

use crate::check;
use crate::pb;
use crate::service::{Desk, refuse};
use crate::status::Fault;

/// What waits for one who is slow: some screens.
const QUEUE_MAX: usize = 1_000;
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Bytes of one item that are shown.
const EXCERPT_BYTES_MAX: usize = 4 << 10;
/// Records that wait in memory for us.
const BUFFER_BYTES_MAX: usize = 16 << 20;
const BATCH_RECORDS_MAX: usize = 500;
/// How long a beginning tail waits for the topics' ends.
const BEGIN_WAIT: Duration = Duration::from_secs(10);
/// How often we look whether anybody looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after the log refused.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

type Responses = Pin<Box<dyn Stream<Item = Result<pb::TailResponse, Status>> + Send>>;

/// Everybody who looks.
#[derive(Debug)]
pub(crate) struct Tails {
    tails: Mutex<Vec<Arc<Tail>>>,
    /// Somebody came.
    came: Notify,
    /// Whether it is known from where on the topics are followed.
    following: watch::Sender<bool>,
}

impl Default for Tails {
    fn default() -> Self {
        Self { tails: Mutex::default(), came: Notify::new(), following: watch::Sender::new(false) }
    }
}

/// One who looks.
#[derive(Debug)]
struct Tail {
    shows: check::Tail,
    queue: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(pb::TailResponse, usize)>,
    bytes: usize,
    skipped: u64,
}

impl Queue {
    /// Puts one in; the oldest ones make room.
    fn push(&mut self, response: pb::TailResponse) {
        let bytes = response.encoded_len();
        while !self.waiting.is_empty() && (self.waiting.len() >= QUEUE_MAX || self.bytes + bytes > QUEUE_BYTES_MAX) {
            if let Some((_, bytes)) = self.waiting.pop_front() {
                self.bytes -= bytes;
                self.skipped += 1;
            }
        }
        self.bytes += bytes;
        self.waiting.push_back((response, bytes));
    }

    fn pop(&mut self) -> Option<pb::TailResponse> {
        let (mut response, bytes) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        response.skipped = std::mem::take(&mut self.skipped);
        Some(response)
    }
}

impl Tail {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, body: pb::tail_response::Body) {
        self.queue().push(pb::TailResponse { body: Some(body), skipped: 0 });
        self.arrived.notify_one();
    }

    fn shows_event(&self, event: &log_pb::Event, events: &log_pb::VisitorEvents) -> bool {
        let shows = &self.shows;
        let any_or = |wanted: &str, have: &str| wanted.is_empty() || wanted == have;
        // A user's server-side self is the user too.
        let user_id =
            if events.visitor_is_user && event.user_id.is_empty() { &events.visitor_id } else { &event.user_id };
        !shows.rejected_only && any_or(&shows.event, &event.name) && any_or(&shows.user_id, user_id)
    }

    /// Whether it shows anything of events of this visitor.
    fn shows_visitor(&self, events: &log_pb::VisitorEvents) -> bool {
        let shows = &self.shows;
        shows.project.as_str() == events.project
            && (shows.protocol.is_empty() || shows.protocol == events.protocol)
            && (shows.visitor_id.is_empty() || shows.visitor_id == events.visitor_id)
    }

    fn shows_rejected(&self, rejected: &log_pb::RejectedRecord) -> bool {
        let shows = &self.shows;
        shows.project.as_str() == rejected.project
            && (shows.protocol.is_empty() || shows.protocol == rejected.protocol)
            && shows.event.is_empty()
            && shows.visitor_id.is_empty()
            && shows.user_id.is_empty()
    }
}

impl Tails {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Tail>>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether following may end. Said in one step with looking: who comes after it waits until it goes on.
    fn nobody_looks(&self) -> bool {
        let tails = self.all();
        if tails.is_empty() {
            self.following.send_replace(false);
        }
        tails.is_empty()
    }

    /// Those who may want to see one record.
    fn who(&self, wants: impl Fn(&Tail) -> bool) -> Vec<Arc<Tail>> {
        self.all().iter().filter(|tail| wants(tail)).map(Arc::clone).collect()
    }

    fn on_events(&self, record: &Record) {
        let Ok(log_pb::EventsRecord { body: Some(log_pb::events_record::Body::Events(mut events)) }) =
            decode(record.value.clone())
        else {
            return; // A tick or rules; what cannot be read the worker sends to `rejected`.
        };
        let tails = self.who(|tail| tail.shows_visitor(&events));
        if tails.is_empty() {
            return;
        }
        for event in std::mem::take(&mut events.events) {
            let wanted: Vec<_> = tails.iter().filter(|tail| tail.shows_event(&event, &events)).collect();
            if let Some((last, others)) = wanted.split_last() {
                let shown = shown_event(record.timestamp_ms, &events, event);
                others.iter().for_each(|tail| tail.push(pb::tail_response::Body::Event(shown.clone())));
                last.push(pb::tail_response::Body::Event(shown));
            }
        }
    }

    fn on_rejected(&self, at: &TopicPartition, record: &Record) {
        let Some(rejected) = crate::rejected::read(at, record) else { return };
        let tails = self.who(|tail| tail.shows_rejected(&rejected));
        if tails.is_empty() {
            return;
        }
        for shown in shown_rejected(at, record, &rejected) {
            tails.iter().for_each(|tail| tail.push(pb::tail_response::Body::Rejected(shown.clone())));
        }
    }
}

/// Begins to look, as soon as it is known where the topics end.
pub(crate) async fn begin(desk: Arc<Desk>, shows: check::Tail) -> Result<Responses, Fault> {
    let place = Arc::clone(&desk.subscriber_places)
        .try_acquire_owned()
        .map_err(|_| Fault::Subscribers { limit: desk.config.subscribers_max })?;
    let tail = Arc::new(Tail { shows, queue: Mutex::default(), arrived: Notify::new() });
    desk.tails.all().push(Arc::clone(&tail));
    metrics::gauge!("tails").increment(1);
    // From here on it goes away by itself.
    let looker = Looker { desk, tail, ended: false, _place: place };
    looker.desk.tails.came.notify_one();
    let mut following = looker.desk.tails.following.subscribe();
    tokio::select! {
        known = tokio::time::timeout(BEGIN_WAIT, following.wait_for(|&known| known)) => match known {
            Ok(_) => {}
            Err(_) => return Err(Fault::TailBegin { limit: BEGIN_WAIT }),
        },
        () = looker.desk.stopping.cancelled() => return Err(Fault::Stopping),
    }
    Ok(Box::pin(futures_util::stream::unfold(looker, Looker::turn)))
}

/// The stream of one who looks; takes the queue with it when it goes.
struct Looker {
    desk: Arc<Desk>,
    tail: Arc<Tail>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Looker {
    async fn turn(mut self) -> Option<(Result<pb::TailResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            if self.desk.stopping.is_cancelled() {
                self.ended = true;
                return Some((Err(refuse("tail", &Fault::Stopping)), self));
            }
            let next = self.tail.queue().pop();
            if let Some(response) = next {
                return Some((Ok(response), self));
            }
            tokio::select! {
                () = self.tail.arrived.notified() => {}
                () = self.desk.stopping.cancelled() => {}
            }
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.desk.tails.all().retain(|tail| !Arc::ptr_eq(tail, &self.tail));
        metrics::gauge!("tails").decrement(1);
    }
}

/// Follows the topics whenever somebody looks, until the stop.
pub(crate) async fn follow(desk: &Desk) {
    // No two servers may share a group: each must see everything.
    let group = format!("{}-tail-{}-{}", desk.config.topics.events, (desk.clock)().0, std::process::id());
    let following = async {
        loop {
            while desk.tails.nobody_looks() {
                desk.tails.came.notified().await;
            }
            let mut places = HashMap::new();
            while !desk.tails.nobody_looks() {
                if let Err(error) = follow_on(desk, &group, &mut places).await {
                    tracing::warn!(%error, "what arrives cannot be followed, will try again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = desk.stopping.cancelled() => {}
        () = following => {}
    }
}

/// Follows until nobody looks. `places`: the next record of each partition, kept over a fault.
async fn follow_on(desk: &Desk, group: &str, places: &mut HashMap<TopicPartition, u64>) -> Result<(), LogError> {
    let topics = [&desk.config.topics.events, &desk.config.topics.rejected];
    // Before joining, which may take seconds: nobody misses what comes meanwhile.
    for topic in topics {
        for (partition, bounds) in desk.log.bounds(topic).await? {
            let place = places.entry(TopicPartition { topic: topic.as_str().into(), partition }).or_insert(bounds.end);
            *place = (*place).max(bounds.start);
        }
    }
    desk.tails.following.send_replace(true);
    let consumer = desk
        .log
        .consume(ConsumerOptions {
            group: group.to_owned(),
            topics: topics.map(Clone::clone).to_vec(),
            batch_records_max: BATCH_RECORDS_MAX,
            batch_bytes_max: BUFFER_BYTES_MAX,
            buffer_bytes_max: BUFFER_BYTES_MAX,
            handover_timeout: Duration::from_secs(1),
        })
        .await?;
    while !desk.tails.nobody_looks() {
        let Ok(event) = tokio::time::timeout(LOOK_EVERY, consumer.next()).await else { continue };
        on_event(desk, &*consumer, event?, places)?;
    }
    Ok(())
}

fn on_event(
    desk: &Desk,
    consumer: &dyn Consumer,
    event: ConsumerEvent,
    places: &mut HashMap<TopicPartition, u64>,
) -> Result<(), LogError> {
    match event {
        ConsumerEvent::Assigned { partitions } => {
            for (at, _) in partitions {
                consumer.start(&at, places.get(&at).copied().unwrap_or(0))?;
            }
        }
        ConsumerEvent::Revoked { partitions } => consumer.released(&partitions),
        // Assigned again when the broker hears of us.
        ConsumerEvent::Lost { .. } => {}
        ConsumerEvent::Batch { partition: at, records } => {
            let is_rejected = *at.topic == *desk.config.topics.rejected;
            for record in &records {
                if is_rejected {
                    desk.tails.on_rejected(&at, record);
                } else {
                    desk.tails.on_events(record);
                }
            }
            if let Some(last) = records.last() {
                places.insert(at, last.offset + 1);
            }
        }
    }
    Ok(())
}

fn shown_event(received_ms: i64, events: &log_pb::VisitorEvents, event: log_pb::Event) -> pb::TailEvent {
    use log_pb::event::{Consent, Kind, TimeSource};
    let user_agent = if event.user_agent.is_empty() { events.user_agent.clone() } else { event.user_agent.clone() };
    let bot = match events.bot.as_str() {
        "" => user_agent::parse(&user_agent).bot.map(|bot| bot.as_str().to_owned()).unwrap_or_default(),
        bot => bot.to_owned(),
    };
    let object = |text: String| if text.is_empty() { "{}".to_owned() } else { text };
    pb::TailEvent {
        received_ms,
        protocol: events.protocol.clone(),
        visitor_id: events.visitor_id.clone(),
        visitor_is_user: events.visitor_is_user,
        kind: match event.kind() {
            Kind::Unspecified => "",
            Kind::Track => "track",
            Kind::Page => "page",
            Kind::Screen => "screen",
            Kind::Identify => "identify",
            Kind::Group => "group",
            Kind::Alias => "alias",
        }
        .to_owned(),
        time_source: match event.time_source() {
            TimeSource::Unspecified => "",
            TimeSource::Client => "client",
            TimeSource::Corrected => "corrected",
            TimeSource::Received => "received",
            TimeSource::Replaced => "replaced",
        }
        .to_owned(),
        consent: match event.consent() {
            Consent::Unknown => "",
            Consent::Granted => "granted",
            Consent::Denied => "denied",
        }
        .to_owned(),
        user_id: event.user_id,
        event: event.name,
        event_id: event.id,
        time_ms: event.time_ms,
        url: event.url,
        page_name: event.page_name,
        referrer: event.referrer,
        library: event.library,
        library_version: event.library_version,
        user_agent,
        ip: if event.ip.is_empty() { events.ip.clone() } else { event.ip },
        properties: object(event.properties),
        traits: object(event.traits),
        bot,
        revenue_micros: event.revenue_micros,
        currency: event.currency,
        session: event.session,
        other_id: event.other_id,
    }
}

/// One for each rejected item; or one for the request as a whole.
fn shown_rejected(at: &TopicPartition, record: &Record, rejected: &log_pb::RejectedRecord) -> Vec<pb::TailRejected> {
    let whole = pb::TailRejected {
        received_ms: record.timestamp_ms,
        protocol: rejected.protocol.clone(),
        index: None,
        reason: rejected.reason.clone(),
        message: rejected.message.clone(),
        method: rejected.method.clone(),
        target: rejected.target.clone(),
        excerpt: excerpt(&rejected.body),
        partition: at.partition,
        offset: record.offset,
    };
    if rejected.items.is_empty() {
        return vec![whole];
    }
    let item = |item: &log_pb::RejectedItem| pb::TailRejected {
        index: Some(item.index),
        reason: item.reason.clone(),
        message: item.message.clone(),
        excerpt: excerpt(&item.content),
        ..whole.clone()
    };
    rejected.items.iter().map(item).collect()
}

fn excerpt(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(EXCERPT_BYTES_MAX)].to_vec()
}

#[cfg(test)]
mod tests;
