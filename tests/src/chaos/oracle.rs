//! What must be in the tables, from the events that were accepted alone: without any thought of order of arrival, of
//! partitions or of time that passes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::rules::SessionRules;
use trackway_domain::session::{Facts, Landing, Role, SessionEvent, oracle};
use trackway_domain::time::EventTime;

use super::commands::{Command, Parts};
use super::input::{PROJECTS, Sent};

/// An audience as the installations here have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AudienceRule {
    pub name: &'static str,
    pub event: &'static str,
    pub count_min: usize,
    pub window_ms: i64,
    /// Nobody leaves while a run lasts, so who is in at the end is known whatever the watermark says.
    pub is_long: bool,
}

/// In every project.
pub(super) const AUDIENCES: [AudienceRule; 3] = [
    AudienceRule { name: "buyers", event: "purchase", count_min: 1, window_ms: 300 * DAY_MS, is_long: true },
    AudienceRule { name: "keen", event: "purchase", count_min: 3, window_ms: 2 * HOUR_MS, is_long: false },
    AudienceRule { name: "new", event: "signup", count_min: 2, window_ms: 300 * DAY_MS, is_long: true },
];

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// One row of `events`, but for what its way through the system decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventRow {
    pub project: String,
    pub key: u64,
    pub visitor: u128,
    pub time_ms: i64,
    pub sequence: u32,
    pub kind: String,
    pub event: String,
    pub path: String,
    pub is_bot: bool,
}

/// One session that stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionRow {
    pub project: String,
    pub visitor: u128,
    pub start_ms: i64,
    pub end_ms: i64,
    pub events: u32,
    pub page_views: u32,
    pub entry_page: String,
    pub exit_page: String,
    /// Of its first event.
    pub channel: String,
}

/// One stay of one person, who is named by the smallest of all keys that are this person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stay {
    pub project: String,
    pub audience: String,
    pub person: u128,
    pub entered_ms: i64,
    pub left_ms: i64,
}

/// All that must be there.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub events: Vec<EventRow>,
    pub sessions: Vec<SessionRow>,
    /// By project, day and name: how many, and the latest.
    pub daily: BTreeMap<(String, i64, String), (u64, i64)>,
    /// The person of every event, by project and event key.
    pub persons: BTreeMap<(String, u64), u128>,
    pub stays: Vec<Stay>,
    /// By project: events and persons that answers count, which machines are not in.
    pub totals: BTreeMap<&'static str, (u64, u64)>,
    /// By project and key: whose it is.
    pub members: BTreeMap<&'static str, Components>,
}

/// Works out everything.
///
/// - `sent`: the different events that were accepted, in order as far as `commands` came between them.
pub(super) fn expected(sent: &[Sent], commands: &[Command]) -> Expected {
    let mut all = Expected::default();
    for project in PROJECTS {
        let id = ProjectId::parse(project).expect("a project");
        let events = known(sent, project, &id);
        let parted = Parted::of(commands, project, &id);
        all.events.extend(events.iter().map(Known::row));
        sessions(&events, &mut all.sessions);
        let people: Vec<&Known<'_>> = events.iter().filter(|event| !event.sent.bot).collect();
        for event in &people {
            let day = event.sent.time_ms.div_euclid(DAY_MS);
            let count = all.daily.entry((project.to_owned(), day, event.sent.name.to_owned())).or_insert((0, i64::MIN));
            *count = (count.0 + 1, count.1.max(event.sent.time_ms));
        }
        let persons = Components::of(&[identified(&events, &parted), aliased(&events, &id, &parted)].concat());
        for event in &events {
            all.persons.insert((project.to_owned(), event.key.0), persons.of_key(event.belongs_to()));
        }
        let different: BTreeSet<u128> = people.iter().map(|event| persons.of_key(event.belongs_to())).collect();
        all.totals.insert(project, (people.len() as u64, different.len() as u64));
        stays(project, &people, &persons, &mut all.stays);
        all.members.insert(project, persons);
    }
    all.events.sort();
    all.sessions.sort();
    all.stays.sort();
    all
}

/// The events of a project.
fn known<'a>(sent: &'a [Sent], project: &str, id: &ProjectId) -> Vec<Known<'a>> {
    let mine = sent.iter().enumerate().filter(|(_, sent)| sent.project == project);
    mine.map(|(place, sent)| Known::of(sent, place, id)).collect()
}

/// What commands part: pairs that come of events before these places no longer hold.
struct Parted {
    devices: BTreeMap<u128, usize>,
    users: BTreeMap<[u128; 2], usize>,
}

impl Parted {
    fn of(commands: &[Command], project: &str, id: &ProjectId) -> Self {
        let mut all = Self { devices: BTreeMap::new(), users: BTreeMap::new() };
        for command in commands.iter().filter(|command| command.project == project) {
            match &command.parts {
                Parts::Visitor(device) => all.devices.insert(PersonKey::of_device(id, device).0, command.after),
                Parts::Users(a, b) => {
                    all.users.insert(pair([a, b].map(|user| PersonKey::of_user(id, user).0)), command.after)
                }
            };
        }
        all
    }

    fn device_holds(&self, device: u128, event: &Known<'_>) -> bool {
        self.devices.get(&device).is_none_or(|&after| event.place >= after)
    }

    fn users_hold(&self, users: [u128; 2], event: &Known<'_>) -> bool {
        self.users.get(&pair(users)).is_none_or(|&after| event.place >= after)
    }
}

/// The same for (a, b) and (b, a).
fn pair(mut of: [u128; 2]) -> [u128; 2] {
    of.sort_unstable();
    of
}

/// Whether a device is joined with both users.
pub(super) fn one_device_has_both(project: &str, sent: &[Sent], commands: &[Command], users: [&String; 2]) -> bool {
    let id = ProjectId::parse(project).expect("a project");
    let (events, parted) = (known(sent, project, &id), Parted::of(commands, project, &id));
    let users = users.map(|user| PersonKey::of_user(&id, user).0);
    let pairs: BTreeSet<_> =
        [identified(&events, &parted), aliased(&events, &id, &parted)].concat().into_iter().collect();
    pairs
        .iter()
        .any(|&(device, user)| user == users[0] && !users.contains(&device) && pairs.contains(&(device, users[1])))
}

/// An event with its keys.
struct Known<'a> {
    sent: &'a Sent,
    /// Place among all events.
    place: usize,
    key: EventKey,
    visitor: PersonKey,
    user: Option<PersonKey>,
}

impl<'a> Known<'a> {
    fn of(sent: &'a Sent, place: usize, project: &ProjectId) -> Self {
        let user = sent.user.as_ref().map(|user| PersonKey::of_user(project, user));
        let device = sent.device.as_ref().map(|device| PersonKey::of_device(project, device));
        let visitor = device.or(user).expect("an event has a device or a user");
        Self { sent, place, key: EventKey::of_id(project, &sent.id), visitor, user }
    }

    fn order(&self) -> OrderKey {
        OrderKey { time: EventTime(self.sent.time_ms), sequence: self.sent.sequence, key: self.key }
    }

    /// An event that names a user is that user's, whoever else uses the device.
    fn belongs_to(&self) -> u128 {
        self.user.unwrap_or(self.visitor).0
    }

    fn row(&self) -> EventRow {
        EventRow {
            project: self.sent.project.to_owned(),
            key: self.key.0,
            visitor: self.visitor.0,
            time_ms: self.sent.time_ms,
            sequence: self.sent.sequence,
            kind: self.sent.kind.name().to_owned(),
            event: self.sent.name.to_owned(),
            path: self.sent.path.clone().unwrap_or_default(),
            is_bot: self.sent.bot,
        }
    }

    fn facts(&self) -> Facts {
        let page = self.is_page().then(|| self.sent.path.as_deref().unwrap_or_default().into());
        let role = if self.is_page() { Role::View } else { Role::Action };
        let landing = Landing { channel: "Organic Search".to_owned(), ..Landing::default() };
        Facts { role, page, landing: self.sent.search.then(|| Arc::new(landing)), ..Facts::default() }
    }

    fn is_page(&self) -> bool {
        self.sent.kind.name() == "page"
    }
}

/// Sorts each visitor's activity, and cuts.
fn sessions(events: &[Known<'_>], rows: &mut Vec<SessionRow>) {
    let mut visitors: BTreeMap<u128, Vec<&Known<'_>>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.sent.kind.is_activity() && !event.sent.bot) {
        visitors.entry(event.visitor.0).or_default().push(event);
    }
    for (visitor, mut events) in visitors {
        events.sort_by_key(|event| event.order());
        let cut: Vec<SessionEvent> = events
            .iter()
            .map(|event| SessionEvent { facts: Arc::new(event.facts()), ..SessionEvent::at(event.order()) })
            .collect();
        let mut from = events.iter();
        for session in oracle::sessions(&cut, &SessionRules::USUAL) {
            let first = from.next().expect("sessions have all events");
            rows.push(SessionRow {
                project: first.sent.project.to_owned(),
                visitor,
                start_ms: session.start.0,
                end_ms: session.end.0,
                events: session.events,
                page_views: session.page_views,
                entry_page: session.entry_page.as_deref().unwrap_or_default().to_owned(),
                exit_page: session.exit_page.as_deref().unwrap_or_default().to_owned(),
                channel: session.landing.map_or_else(|| "Direct".to_owned(), |landing| landing.channel.clone()),
            });
            let others = session.events as usize - 1;
            assert_eq!(from.by_ref().take(others).count(), others, "sessions have all events");
        }
    }
}

/// Each device with its user: the first one, by time, that was named on it since it was parted.
fn identified(events: &[Known<'_>], parted: &Parted) -> Vec<(u128, u128)> {
    let mut first: BTreeMap<u128, (OrderKey, u128)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.sent.device.is_some()) {
        let Some(user) = event.user.filter(|_| parted.device_holds(event.visitor.0, event)) else { continue };
        let place = first.entry(event.visitor.0).or_insert((event.order(), user.0));
        if event.order() < place.0 {
            *place = (event.order(), user.0);
        }
    }
    first.into_iter().map(|(visitor, (_, user))| (visitor, user)).collect()
}

/// Users with the ids that they had before, which may be devices' or users'.
fn aliased(events: &[Known<'_>], project: &ProjectId, parted: &Parted) -> Vec<(u128, u128)> {
    let pairs = events.iter().filter_map(|event| {
        let (user, other) = (event.user?.0, event.sent.other.as_ref()?);
        let (as_user, as_device) = (PersonKey::of_user(project, other).0, PersonKey::of_device(project, other).0);
        let users = Some((as_user, user)).filter(|_| parted.users_hold([as_user, user], event));
        Some([users, Some((as_device, user)).filter(|_| parted.device_holds(as_device, event))])
    });
    pairs.flatten().flatten().collect()
}

/// Keys that are one person.
#[derive(Debug, Default)]
pub(super) struct Components(BTreeMap<u128, u128>);

impl Components {
    /// By going over all pairs until nothing changes; each component is named by its smallest key.
    pub fn of(pairs: &[(u128, u128)]) -> Self {
        let mut label: BTreeMap<u128, u128> = pairs.iter().flat_map(|&(a, b)| [(a, a), (b, b)]).collect();
        loop {
            let mut changed = false;
            for (a, b) in pairs {
                let low = label[a].min(label[b]);
                for key in [a, b] {
                    changed |= label.insert(*key, low) != Some(low);
                }
            }
            if !changed {
                return Self(label);
            }
        }
    }

    pub fn of_key(&self, key: u128) -> u128 {
        self.0.get(&key).copied().unwrap_or(key)
    }
}

/// Stays in every audience, by asking at every moment at which the answer can change.
fn stays(project: &str, people: &[&Known<'_>], persons: &Components, all: &mut Vec<Stay>) {
    for rule in AUDIENCES {
        let mut times: BTreeMap<u128, Vec<i64>> = BTreeMap::new();
        for event in people.iter().filter(|event| event.sent.kind.is_activity() && event.sent.name == rule.event) {
            times.entry(persons.of_key(event.belongs_to())).or_default().push(event.sent.time_ms);
        }
        for (person, times) in times {
            for (entered_ms, left_ms) in stays_of(&times, rule.count_min, rule.window_ms) {
                let (project, audience) = (project.to_owned(), rule.name.to_owned());
                all.push(Stay { project, audience, person, entered_ms, left_ms });
            }
        }
    }
}

/// A window of events ends just before the first of them is `window_ms` old.
fn stays_of(times: &[i64], count_min: usize, window_ms: i64) -> Vec<(i64, i64)> {
    let moments: BTreeSet<i64> = times.iter().flat_map(|&time| [time, time + window_ms]).collect();
    let holds = |at: i64| times.iter().filter(|&&time| at - window_ms < time && time <= at).count() >= count_min;
    let mut stays = Vec::new();
    let mut entered = None;
    for at in moments {
        match (entered, holds(at)) {
            (None, true) => entered = Some(at),
            (Some(since), false) => {
                stays.push((since, at));
                entered = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trackway_domain::audience::{AudienceRule, oracle};

    use super::*;

    #[test]
    fn stays_asked_at_few_moments_are_those_asked_at_every_one() {
        let mut random = super::super::random::Random::new(7);
        for _ in 0..2_000 {
            let times: Vec<i64> = (0..random.below(9)).map(|_| random.between(0..24)).collect();
            let (count_min, window) = (1 + random.below(3), 1 + random.below(8) as i64);
            let rule = AudienceRule::EventCount {
                event: String::new(),
                count_min: count_min as u32,
                window: Duration::from_millis(window as u64),
            };
            let asked: Vec<_> = oracle::stays(&times, &rule).iter().map(|stay| (stay.entered.0, stay.left.0)).collect();
            assert_eq!(stays_of(&times, count_min, window), asked, "{times:?} {count_min} {window}");
        }
    }

    #[test]
    fn components_follow_chains_and_circles() {
        let found = Components::of(&[(1, 5), (5, 9), (9, 1), (7, 8)]);
        assert_eq!([1, 5, 9, 7, 8, 3].map(|key| found.of_key(key)), [1, 1, 1, 7, 7, 3]);
    }
}
