//! An event as a row: what the tracker said, and what we make of it.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use trackway_domain::event::{Consent, EventKind, TimeSource};
use trackway_domain::feedback::{self, Feedback};
use trackway_domain::id::PersonKey;
use trackway_domain::revenue::Revenue;
use trackway_domain::rules::ProjectRules;
use trackway_domain::session::{Facts, Landing, LandingKind, Role};
use trackway_domain::time::ReceivedAt;
use trackway_domain::touchpoint::{self, TouchpointRule};
use trackway_enrich::geo::{Place, Places};
use trackway_enrich::landing::{self, Arrival};
use trackway_enrich::language::{Language, language};
use trackway_enrich::page::{self, Page};
use trackway_enrich::query::Tags;
use trackway_enrich::screen;
use trackway_enrich::user_agent::{self, UserAgent};
use trackway_store::rows::EventRow;
use trackway_wire::activity;
use trackway_wire::log::LoggedEvent;
use trackway_wire::properties::property;

use super::Request;

/// What is remembered of user agents, pages, landings and facts, so that equal ones are worked out and stored once. Cleared when
/// full: what is looked up often is soon back.
const REMEMBERED_MAX: usize = 20_000;

/// What we make of an event.
pub(super) struct Enriched<'a> {
    /// The page or screen, if the event is a view of one.
    page: Option<Arc<str>>,
    /// The page's host, if the event is a view of one.
    host: Option<Arc<str>>,
    landing: Option<Arc<Landing>>,
    /// Why the sender is taken for a machine, or empty.
    pub bot: &'a str,
    at: Page<'a>,
    language: Language,
    user_agent: Arc<UserAgent>,
    place: Arc<Place>,
    touchpoint: Option<&'a TouchpointRule>,
    feedback: Option<Feedback<'a>>,
}

/// Where a row comes from.
pub(super) struct Origin {
    pub partition: u32,
    pub offset: u64,
    pub index: u32,
}

/// What was decided of an event before its row.
pub(super) struct Stamp {
    pub kind: EventKind,
    pub time_source: TimeSource,
    pub late: bool,
    pub received: ReceivedAt,
}

#[derive(Debug, Default)]
pub(super) struct Enricher {
    /// The operator's database of places, if there is one.
    pub places: Option<Arc<Places>>,
    /// By address as it is kept.
    found_places: HashMap<String, Arc<Place>>,
    /// Where everything is without a database.
    nowhere: Arc<Place>,
    user_agents: HashMap<String, Arc<UserAgent>>,
    /// Pages and hosts.
    texts: HashSet<Arc<str>>,
    landings: HashTable<Arc<Landing>>,
    facts: HashSet<Arc<Facts>>,
    hasher: DefaultHashBuilder,
}

impl Enricher {
    pub fn enrich<'a>(
        &mut self,
        event: &LoggedEvent<'a>,
        kind: EventKind,
        request: &Request<'a>,
        rules: &'a ProjectRules,
    ) -> Enriched<'a> {
        let at = page::parse(event.url);
        let tags = Tags {
            source: Cow::Borrowed(event.utm_source),
            medium: Cow::Borrowed(event.utm_medium),
            name: Cow::Borrowed(event.utm_campaign),
        };
        let landing = landing::arrival(event.url, &at, event.referrer, tags, &rules.channels);
        let landing = landing.map(|arrival| self.landing(arrival));
        let (page, host) = match kind {
            EventKind::Page => (Some(self.text(at.path)), Some(self.text(at.host))),
            EventKind::Screen => (Some(self.text(event.page_name)), None),
            EventKind::Track | EventKind::Identify | EventKind::Group | EventKind::Alias => (None, None),
        };
        let agent = if event.user_agent.is_empty() { request.user_agent } else { event.user_agent };
        let (mut touchpoint, mut feedback) = (None, None);
        if kind.is_activity() {
            let channel = landing.as_ref().map_or("", |landing| landing.channel.as_str());
            let properties = event.properties;
            let property = |name: &str| property(properties, name);
            touchpoint = touchpoint::find(&rules.touchpoints, event.name, at.path, channel, property);
            feedback = feedback::find(rules.feedback(), event.name, property);
        }
        let user_agent = self.user_agent(agent);
        // What the gateway knows of the sender (its address) comes before what the sender says of itself.
        let bot = match (request.bot, user_agent.bot) {
            ("", Some(bot)) => bot.as_str(),
            (bot, _) => bot,
        };
        let place = self.place(address(event, request));
        Enriched {
            page,
            host,
            landing,
            bot,
            at,
            language: language(event.locale),
            user_agent,
            place,
            touchpoint,
            feedback,
        }
    }

    fn user_agent(&mut self, agent: &str) -> Arc<UserAgent> {
        remembered(&mut self.user_agents, agent, user_agent::parse)
    }

    /// Where an address is. What the database says is no part of the state, nor of what is decided: like the data for user
    /// agents, it may be newer when a block is made again after a crash. The block then counts as it was sent first.
    fn place(&mut self, ip: &str) -> Arc<Place> {
        let Some(places) = &self.places else { return self.nowhere.clone() };
        let find = |ip: &str| ip.parse().map_or_else(|_| Place::default(), |address| places.find(address));
        remembered(&mut self.found_places, ip, find)
    }

    /// What a session needs of an event.
    ///
    /// - `user`: the user that the event names, if the project's sessions split by it.
    pub fn facts(
        &mut self,
        event: &LoggedEvent<'_>,
        kind: EventKind,
        enriched: &Enriched<'_>,
        request: &Request<'_>,
        user: Option<PersonKey>,
    ) -> Arc<Facts> {
        let role = activity::role(request.protocol, kind, event.name, event.properties);
        let is_view = role == Role::View;
        let facts = Facts {
            role,
            page: enriched.page.clone().filter(|_| is_view),
            host: enriched.host.clone().filter(|_| is_view),
            landing: enriched.landing.clone(),
            user,
            revenue: event.revenue_micros.map(|micros| Revenue { micros, currency: event.currency.to_owned() }),
        };
        if facts.user.is_some() || facts.revenue.is_some() {
            // Hardly ever the same twice.
            return Arc::new(facts);
        }
        if let Some(found) = self.facts.get(&facts) {
            return found.clone();
        }
        let facts = Arc::new(facts);
        remember(&mut self.facts, facts.clone());
        facts
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(found) = self.texts.get(text) {
            return found.clone();
        }
        let text: Arc<str> = text.into();
        remember(&mut self.texts, text.clone());
        text
    }

    fn landing(&mut self, arrival: Arrival<'_>) -> Arc<Landing> {
        let hash = |parts: ([&str; 4], LandingKind)| self.hasher.hash_one(parts);
        let parts = ([arrival.channel, &arrival.source, &arrival.medium, &arrival.campaign], arrival.kind);
        let hashed = hash(parts);
        if let Some(found) = self.landings.find(hashed, |landing| parts_of(landing) == parts) {
            return found.clone();
        }
        if self.landings.len() >= REMEMBERED_MAX {
            self.landings.clear();
        }
        let landing: Arc<Landing> = Arc::new(arrival.into());
        self.landings.insert_unique(hashed, landing.clone(), |landing| hash(parts_of(landing)));
        landing
    }
}

fn remember<T: Eq + Hash>(known: &mut HashSet<T>, new: T) {
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(new);
}

fn parts_of(landing: &Landing) -> ([&str; 4], LandingKind) {
    ([&landing.channel, &landing.source, &landing.medium, &landing.campaign], landing.kind)
}

/// What is known of `text`, worked out where it is met for the first time.
pub(super) fn remembered<T>(known: &mut HashMap<String, Arc<T>>, text: &str, find: impl FnOnce(&str) -> T) -> Arc<T> {
    if let Some(found) = known.get(text) {
        return found.clone();
    }
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    let found = Arc::new(find(text));
    known.insert(text.to_owned(), found.clone());
    found
}

/// The client's address: where a server speaks for it, the event's own.
fn address<'a>(event: &LoggedEvent<'a>, request: &Request<'a>) -> &'a str {
    if event.ip.is_empty() { request.ip } else { event.ip }
}

/// The row of an event, all borrowed.
pub(super) fn to_row<'a>(
    event: &'a LoggedEvent<'a>,
    request: &'a Request<'a>,
    under: PersonKey,
    enriched: &'a Enriched<'a>,
    origin: Origin,
    stamp: Stamp,
) -> EventRow<&'a str> {
    let landing = enriched.landing.as_deref();
    let of_landing = |part: fn(&Landing) -> &String| landing.map_or("", |landing| part(landing));
    let touchpoint = enriched.touchpoint;
    let feedback = enriched.feedback.as_ref();
    let (user_agent, place) = (&enriched.user_agent, &enriched.place);
    EventRow {
        project: request.project.as_str(),
        person: under.0,
        visitor: request.visitor_key.0,
        visitor_id: request.sender.id(),
        user_id: event.user_id,
        time_ms: event.time.0,
        sequence: event.sequence,
        event_key: event.key.0,
        event_id: event.id,
        kind: match stamp.kind {
            EventKind::Track => "track",
            EventKind::Page => "page",
            EventKind::Screen => "screen",
            EventKind::Identify => "identify",
            EventKind::Group => "group",
            EventKind::Alias => "alias",
        },
        event: event.name,
        host: enriched.at.host,
        path: enriched.at.path,
        url: event.url,
        title: event.title,
        referrer: event.referrer,
        channel: of_landing(|landing| &landing.channel),
        landing: landing.map_or("", |landing| landing.kind.as_str()),
        source: of_landing(|landing| &landing.source),
        medium: of_landing(|landing| &landing.medium),
        campaign: of_landing(|landing| &landing.campaign),
        term: event.utm_term,
        content: event.utm_content,
        touchpoint: touchpoint.map_or("", |rule| &rule.name),
        stage: touchpoint.map_or("", |rule| &rule.stage),
        feedback: feedback.map_or("", |said| said.kind.as_str()),
        score_micros: feedback.and_then(|said| said.score_micros),
        comment: feedback.map_or("", |said| &said.text),
        browser: &user_agent.browser,
        browser_version: &user_agent.browser_version,
        os: &user_agent.os,
        os_version: &user_agent.os_version,
        device: &user_agent.device,
        device_brand: &user_agent.device_brand,
        device_model: &user_agent.device_model,
        language: enriched.language.as_str(),
        locale: event.locale,
        screen_width: event.screen.0,
        screen_height: event.screen.1,
        screen_class: screen::class(event.screen.0, event.screen.1),
        library: event.library,
        library_version: event.library_version,
        protocol: request.protocol,
        properties: event.properties,
        traits: event.traits,
        bot: enriched.bot,
        revenue_micros: event.revenue_micros,
        currency: if event.revenue_micros.is_some() { event.currency } else { "" },
        ip: address(event, request),
        country: &place.country,
        region: &place.region,
        city: &place.city,
        tracker_session: event.session,
        consent: match event.consent {
            Consent::Unknown => "",
            Consent::Granted => "granted",
            Consent::Denied => "denied",
        },
        received_ms: stamp.received.0,
        time_source: match stamp.time_source {
            TimeSource::Client => "client",
            TimeSource::Corrected => "corrected",
            TimeSource::Received => "received",
            TimeSource::Replaced => "replaced",
        },
        late: stamp.late,
        origin_partition: origin.partition,
        origin_offset: origin.offset,
        origin_index: origin.index,
    }
}
