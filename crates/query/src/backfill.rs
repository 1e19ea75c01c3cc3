//! What happened before an audience was made counts for it too.
//!
//! The partitions of `journeys` learn of an audience by a record, and follow it from there on. What came before they do not
//! hold; the tables do. So when every partition follows the audience, and everything that came before is in the tables, its
//! occurrences are read from there and appended to the partitions. What a partition has seen live by then it gets
//! a second time and counts once, by the event's key; so there is no moment to hit, and doing it again does no harm. An
//! audience made late has the same members as one made early.

use std::time::Duration;

use tokio::time::Instant;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_eventlog::NewRecord;
use trackway_store::rows::AudienceDefinition;
use trackway_wire::log::{encode, pb as log_pb};

use crate::freshness::{PartitionState, partition_states};
use crate::service::Desk;
use crate::status::Fault;

/// How long to wait for the worker to be where the past begins. It is there within a second or two, unless it is far behind.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often to look.
const PAUSE: Duration = Duration::from_millis(50);

/// Occurrences in one record: some 130 KB.
const OCCURRENCES_MAX: usize = 5_000;

/// Records in one append.
const RECORDS_MAX: usize = 500;

/// Gives an audience its past. `journeys` has its definition already.
pub(crate) async fn run(desk: &Desk, audience: &AudienceDefinition) -> Result<(), Fault> {
    let events = desk.events_state().await?;
    let nothing_on_its_way = events.iter().all(|state| state.pending() == 0);
    if nothing_on_its_way && desk.store.latest_event_ms(&audience.project).await?.is_none() {
        return Ok(());
    }
    let topics = &desk.config.topics;
    wait_for(desk, &topics.journeys, audience).await?;
    // Only then: whatever a partition applied before it followed the audience lies before the ends that are read now.
    wait_for(desk, &topics.events, audience).await?;

    let mut occurrences = desk.store.past(&audience.project, &audience.event, desk.config.limits).await?;
    let mut past = Past { desk, audience, person: None, state: log_pb::PersonState::default(), records: Vec::new() };
    while let Some(block) = occurrences.next().await? {
        for n in 0..block.persons.len() {
            let person = PersonKey(block.persons[n]);
            past.add(person, block.times_ms[n], block.event_keys[n], block.received_ms[n]).await?;
            past.name(&block.user_ids[n], &block.visitor_ids[n]);
        }
    }
    past.close_person();
    past.append().await
}

/// Waits until the tables have all that a topic has now.
async fn wait_for(desk: &Desk, topic: &str, audience: &AudienceDefinition) -> Result<(), Fault> {
    let ends = desk.log.bounds(topic).await?;
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let states = partition_states(&*desk.log, &desk.store, topic).await?;
        let reached = |state: &PartitionState| {
            let end = ends.get(&state.partition).map_or(0, |bounds| bounds.end);
            state.done.map_or(0, |done| done.offset).max(state.start) >= end
        };
        if states.iter().all(reached) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Fault::WorkerBehind { audience: audience.audience.clone(), limit: WAIT_MAX });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The past on its way, person by person.
struct Past<'a> {
    desk: &'a Desk,
    audience: &'a AudienceDefinition,
    person: Option<PersonKey>,
    state: log_pb::PersonState,
    records: Vec<NewRecord>,
}

impl Past<'_> {
    async fn add(&mut self, person: PersonKey, time_ms: i64, key: u64, received_ms: i64) -> Result<(), Fault> {
        let full = self.state.audiences.first().is_some_and(|times| times.times_ms.len() >= OCCURRENCES_MAX);
        if full || self.person != Some(person) {
            self.close_person();
            if self.records.len() >= RECORDS_MAX {
                self.append().await?;
            }
            self.person = Some(person);
            self.state.audiences.push(log_pb::AudienceTimes {
                audience: self.audience.audience.clone(),
                ..log_pb::AudienceTimes::default()
            });
        }
        let times = self.state.audiences.last_mut().expect("pushed above");
        times.times_ms.push(time_ms);
        times.keys.push(key);
        times.received_ms.push(received_ms);
        Ok(())
    }

    fn name(&mut self, user_id: &str, visitor_id: &str) {
        if self.state.user_id.is_empty() {
            user_id.clone_into(&mut self.state.user_id);
        }
        if self.state.visitor_id.is_empty() && self.state.user_id.is_empty() {
            // A user's server-side self is a visitor by the user's id.
            let is_user = ProjectId::parse(&self.audience.project)
                .is_some_and(|project| self.person == Some(PersonKey::of_user(&project, visitor_id)));
            let id = if is_user { &mut self.state.user_id } else { &mut self.state.visitor_id };
            visitor_id.clone_into(id);
        }
    }

    /// Addressed to the key that the events are stored under. Where that visitor was identified meanwhile, its partition
    /// knows and passes the past on.
    fn close_person(&mut self) {
        let Some(person) = self.person.take() else { return };
        let mut state = std::mem::take(&mut self.state);
        state.project.clone_from(&self.audience.project);
        state.person = person.0.to_be_bytes().to_vec().into();
        let record = log_pb::JourneysRecord { body: Some(log_pb::journeys_record::Body::Moved(state)) };
        self.records.push(NewRecord {
            partition: person.partition(self.desk.journeys_partitions),
            timestamp_ms: (self.desk.clock)().0,
            value: encode(&record),
        });
    }

    async fn append(&mut self) -> Result<(), Fault> {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.desk.log.append(&self.desk.config.topics.journeys, records).await?;
        }
        Ok(())
    }
}
