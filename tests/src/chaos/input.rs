//! What trackers send in a round: few visitors, coarse times, so that sessions touch, bridge and overlap; some events again,
//! some days late, users and aliases out of order, and some that are no events.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::random::Random;

/// Sessions end after 30 minutes: three steps still join, a millisecond more does not.
const STEP_MS: i64 = 10 * 60_000;

const HOUR_MS: i64 = 3_600_000;

/// The projects of an installation. The second is quiet.
pub(super) const PROJECTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Names of events; audiences look at the first two.
const NAMES: [&str; 4] = ["purchase", "signup", "visit", "search"];

/// What kind of call an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Track,
    Page,
    Identify,
    Alias,
}

impl Kind {
    pub fn is_activity(self) -> bool {
        matches!(self, Self::Track | Self::Page)
    }

    /// As the tables say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Page => "page",
            Self::Identify => "identify",
            Self::Alias => "alias",
        }
    }
}

/// One event as its tracker means it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub project: &'static str,
    pub id: String,
    pub kind: Kind,
    /// Of a track call; else the kind's.
    pub name: &'static str,
    pub device: Option<String>,
    pub user: Option<String>,
    /// Of an alias: the id that the user had before.
    pub other: Option<String>,
    pub time_ms: i64,
    pub sequence: u32,
    pub path: Option<String>,
    /// Came from a search.
    pub search: bool,
    pub bot: bool,
}

impl Sent {
    fn segment(&self) -> Value {
        let mut event = json!({"type": self.kind.name(), "messageId": self.id, "timestamp": time(self.time_ms),
            "context": {"sequence": self.sequence}});
        if self.kind == Kind::Track {
            event["event"] = self.name.into();
        }
        for (member, value) in [("anonymousId", &self.device), ("userId", &self.user), ("previousId", &self.other)] {
            if let Some(value) = value {
                event[member] = value.as_str().into();
            }
        }
        let context = &mut event["context"];
        if let Some(path) = &self.path {
            context["page"] = json!({"url": url(path)});
            if self.search {
                context["page"]["referrer"] = SEARCH.into();
            }
        }
        if self.bot {
            context["userAgent"] = CRAWLER.into();
        }
        event
    }

    fn own(&self) -> Value {
        let mut event = json!({"type": self.kind.name(), "id": self.id, "time": self.time_ms,
            "sequence": self.sequence, "context": {}});
        if self.kind == Kind::Track {
            event["event"] = self.name.into();
        }
        for (member, value) in [("visitor_id", &self.device), ("user_id", &self.user), ("other_id", &self.other)] {
            if let Some(value) = value {
                event[member] = value.as_str().into();
            }
        }
        let context = &mut event["context"];
        if let Some(path) = &self.path {
            context["url"] = url(path).into();
            if self.search {
                context["referrer"] = SEARCH.into();
            }
        }
        if self.bot {
            context["user_agent"] = CRAWLER.into();
        }
        event
    }
}

const SEARCH: &str = "https://www.google.com/";
const CRAWLER: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

fn url(path: &str) -> String {
    format!("https://shop.example{path}")
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).expect("a time").to_string()
}

/// One request, in one of the protocols.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub project: &'static str,
    pub path: &'static str,
    pub body: String,
    /// Events in it.
    pub events: usize,
    /// Items in it that are no events.
    pub bad: usize,
}

/// Who there is in a project.
#[derive(Debug, Default)]
struct People {
    devices: Vec<String>,
    users: Vec<String>,
    /// Whose a device is.
    user_of: BTreeMap<String, String>,
}

/// Makes up what an installation is sent, round by round.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    people: BTreeMap<&'static str, People>,
    round: usize,
}

impl Inputs {
    /// Requests of one round, in the order in which they are sent, and the different events in them.
    ///
    /// - `events`: how many events there are to be, some of which are sent again.
    /// - `now`: no event is later.
    pub fn round(&mut self, random: &mut Random, events: usize, now: i64) -> (Vec<Request>, Vec<Sent>) {
        self.round += 1;
        for project in PROJECTS {
            let people = self.people.entry(project).or_default();
            for n in 0..4 {
                people.users.push(format!("user-{}-{n}", self.round));
            }
            for n in 0..8 {
                let device = format!("device-{}-{n}", self.round);
                if random.percent(50) {
                    let user = random.pick(&people.users).clone();
                    people.user_of.insert(device.clone(), user);
                }
                people.devices.push(device);
            }
        }
        let sent: Vec<Sent> = (0..events).map(|n| self.event(random, n, now)).collect();
        let mut requests = Vec::new();
        for project in PROJECTS {
            let mut places: Vec<usize> = (0..sent.len()).filter(|&n| sent[n].project == project).collect();
            // Out of order, and some again, in another request and often in another protocol.
            let again: Vec<usize> = places.iter().copied().filter(|_| random.percent(20)).collect();
            places.extend(again);
            random.shuffle(&mut places);
            let mut rest = places.as_slice();
            while !rest.is_empty() {
                let size = if random.percent(40) { 1 } else { 1 + random.below(12) };
                let (these, others) = rest.split_at(size.min(rest.len()));
                rest = others;
                let these: Vec<&Sent> = these.iter().map(|&n| &sent[n]).collect();
                requests.push(request(random, project, &these));
            }
        }
        random.shuffle(&mut requests);
        (requests, sent)
    }

    fn event(&self, random: &mut Random, n: usize, now: i64) -> Sent {
        let project = random.weighted(&[(6, PROJECTS[0]), (1, PROJECTS[1]), (3, PROJECTS[2])]);
        let people = &self.people[project];
        // Mostly who is new this round; the others' state lies in snapshots by now.
        let new = |random: &mut Random, all: &[String], count: usize| {
            let from = if random.percent(70) { all.len() - count } else { 0 };
            all[from + random.below(all.len() - from)].clone()
        };
        let device = new(random, &people.devices, 8);
        let grid = now - now.rem_euclid(STEP_MS);
        let days = random.weighted(&[(70, 0), (15, 1), (8, 3), (7, 9)]);
        let time_ms = if random.percent(10) {
            now - random.between(0..20_000)
        } else {
            grid - days * 24 * HOUR_MS - random.between(0..15) * STEP_MS + random.weighted(&[(6, 0), (1, -1), (1, 1)])
        };
        let mut event = Sent {
            project,
            id: format!("{}-{n}", self.round),
            kind: random.weighted(&[(60, Kind::Track), (25, Kind::Page), (10, Kind::Identify), (5, Kind::Alias)]),
            name: NAMES[random.below(NAMES.len())],
            device: None,
            user: None,
            other: None,
            time_ms: time_ms.min(now),
            // Equal times happen, and then equal sequences too: the event's key decides.
            sequence: random.below(3) as u32,
            path: None,
            search: false,
            bot: random.percent(4),
        };
        // Now and then somebody else uses the device. Whose it is follows from who was named on it first, by time.
        let user_of = |random: &mut Random| match people.user_of.get(&device) {
            Some(_) if random.percent(20) => Some(random.pick(&people.users).clone()),
            user => user.cloned(),
        };
        match event.kind {
            Kind::Track | Kind::Page => {
                if random.percent(8) {
                    // A server speaks of its user.
                    event.user = Some(new(random, &people.users, 4));
                } else {
                    event.user = user_of(random).filter(|_| random.percent(25));
                    event.device = Some(device);
                }
                if event.kind == Kind::Page || random.percent(30) {
                    event.path = Some(format!("/page/{}", random.below(4)));
                    event.search = random.percent(25);
                }
            }
            Kind::Identify => {
                // Who has no user says who a user is, from a server.
                event.user = user_of(random);
                match event.user {
                    Some(_) => event.device = Some(device),
                    None => event.user = Some(new(random, &people.users, 4)),
                }
            }
            Kind::Alias => {
                event.user = Some(new(random, &people.users, 4));
                let other = if random.percent(50) { &people.users } else { &people.devices };
                event.other = Some(random.pick(other).clone());
                // Of an id to itself: there is nothing to record.
                if event.other == event.user {
                    event.other = Some(format!("before-{}-{n}", self.round));
                }
                event.bot = false;
            }
        }
        if event.kind != Kind::Track {
            event.name = event.kind.name();
        }
        event
    }
}

fn request(random: &mut Random, project: &'static str, events: &[&Sent]) -> Request {
    let mut bad = 0;
    let (path, body) = match (random.percent(50), events) {
        (true, [event]) if random.percent(50) => {
            let path = match event.kind {
                Kind::Track => "/v1/track",
                Kind::Page => "/v1/page",
                Kind::Identify => "/v1/identify",
                Kind::Alias => "/v1/alias",
            };
            (path, event.segment())
        }
        (true, _) => {
            let mut items: Vec<Value> = events.iter().map(|event| event.segment()).collect();
            if random.percent(10) {
                bad = 1;
                items.insert(random.below(items.len() + 1), json!({"type": "track", "anonymousId": "nameless"}));
            }
            ("/v1/batch", json!({"batch": items}))
        }
        (false, [event]) if random.percent(50) => ("/v1/events", event.own()),
        (false, _) => {
            let mut items: Vec<Value> = events.iter().map(|event| event.own()).collect();
            if random.percent(10) {
                bad = 1;
                items.insert(random.below(items.len() + 1), json!({"type": "track", "visitor_id": "nameless"}));
            }
            ("/v1/events", json!({"events": items}))
        }
    };
    Request { project, path, body: body.to_string(), events: events.len(), bad }
}
