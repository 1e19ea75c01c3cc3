//! An event as a row: what the tracker said, and what we make of it.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use trackway_domain::event::{Consent, Event, EventKind, TimeSource};
use trackway_domain::feedback;
use trackway_domain::id::PersonKey;
use trackway_domain::rules::ProjectRules;
use trackway_domain::session::{Facts, Landing, Role};
use trackway_domain::time::ReceivedAt;
use trackway_domain::touchpoint;
use trackway_enrich::geo::{Place, Places};
use trackway_enrich::language::language;
use trackway_enrich::query::Tags;
use trackway_enrich::user_agent::UserAgent;
use trackway_enrich::{landing, page, screen, user_agent};
use trackway_store::rows::EventRow;
use trackway_wire::activity;
use trackway_wire::properties::property;

use super::Request;

/// What is remembered of user agents, pages and landings, so that equal ones are worked out and stored once. Cleared when
/// full: what is looked up often is soon back.
const REMEMBERED_MAX: usize = 20_000;

/// What we make of an event.
pub(super) struct Enriched {
    /// The page or screen, if the event is a view of one.
    page: Option<Arc<str>>,
    /// The page's host, if the event is a view of one.
    host: Option<Arc<str>>,
    landing: Option<Arc<Landing>>,
    /// Why the sender is taken for a machine, or empty.
    pub bot: String,
    user_agent: Arc<UserAgent>,
    place: Arc<Place>,
    touchpoint: String,
    stage: String,
    feedback: &'static str,
    score_micros: Option<i64>,
    comment: String,
}

/// Where a row comes from.
pub(super) struct Origin {
    pub partition: u32,
    pub offset: u64,
    pub index: u32,
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
    landings: HashSet<Arc<Landing>>,
    facts: HashSet<Arc<Facts>>,
}

impl Enricher {
    pub fn enrich(&mut self, event: &Event, request: &Request<'_>, rules: &ProjectRules) -> Enriched {
        let context = &event.received.context;
        let at = page::parse(&context.url);
        let path = at.path;
        let tags = Tags::from(&context.campaign);
        let landing = landing::landing(&context.url, &context.referrer, tags, &rules.channels);
        let landing = landing.map(|landing| self.landing(landing.into()));
        let (page, host) = match event.received.kind {
            EventKind::Page => (Some(self.text(path)), Some(self.text(at.host))),
            EventKind::Screen => (Some(self.text(&context.page_name)), None),
            EventKind::Track | EventKind::Identify | EventKind::Group | EventKind::Alias => (None, None),
        };
        let agent = if context.user_agent.is_empty() { request.user_agent } else { &context.user_agent };
        let channel = landing.as_ref().map_or("", |landing| landing.channel.as_str());
        let property = |name: &str| property(&event.received.properties, name);
        let rule = match event.received.kind.is_activity() {
            true => touchpoint::find(&rules.touchpoints, &event.received.name, path, channel, property),
            false => None,
        };
        let said = match event.received.kind.is_activity() {
            true => feedback::find(rules.feedback(), &event.received.name, property),
            false => None,
        };
        let user_agent = self.user_agent(agent);
        // What the gateway knows of the sender (its address) comes before what the sender says of itself.
        let bot = match (request.bot, user_agent.bot) {
            ("", Some(bot)) => bot.as_str(),
            (bot, _) => bot,
        };
        Enriched {
            page,
            host,
            bot: bot.to_owned(),
            user_agent,
            place: self.place(if context.ip.is_empty() { request.ip } else { &context.ip }),
            touchpoint: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
            stage: rule.map(|rule| rule.stage.clone()).unwrap_or_default(),
            feedback: said.as_ref().map_or("", |said| said.kind.as_str()),
            score_micros: said.as_ref().and_then(|said| said.score_micros),
            comment: said.map(|said| said.text.into_owned()).unwrap_or_default(),
            landing,
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
        event: &Event,
        enriched: &Enriched,
        request: &Request<'_>,
        user: Option<PersonKey>,
    ) -> Arc<Facts> {
        let received = &event.received;
        let role = activity::role(request.protocol, received.kind, &received.name, &received.properties);
        let is_view = role == Role::View;
        let facts = Facts {
            role,
            page: enriched.page.clone().filter(|_| is_view),
            host: enriched.host.clone().filter(|_| is_view),
            landing: enriched.landing.clone(),
            user,
            revenue: received.revenue.clone(),
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

    fn landing(&mut self, landing: Landing) -> Arc<Landing> {
        if let Some(found) = self.landings.get(&landing) {
            return found.clone();
        }
        let landing = Arc::new(landing);
        remember(&mut self.landings, landing.clone());
        landing
    }
}

fn remember<T: Eq + Hash>(known: &mut HashSet<T>, new: T) {
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(new);
}

/// What is known of `text`, worked out where it is met for the first time.
fn remembered<T>(known: &mut HashMap<String, Arc<T>>, text: &str, find: impl FnOnce(&str) -> T) -> Arc<T> {
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

pub(super) fn to_row(
    event: Event,
    request: &Request<'_>,
    under: PersonKey,
    enriched: Enriched,
    origin: Origin,
    late: bool,
    received: ReceivedAt,
) -> EventRow {
    let event_received = event.received;
    let context = event_received.context;
    let at = page::parse(&context.url);
    let (host, path) = (at.host.to_owned(), at.path.to_owned());
    let landing = enriched.landing.as_deref().cloned().unwrap_or_default();
    EventRow {
        project: request.project.as_str().into(),
        person: under.0,
        visitor: request.visitor_key.0,
        visitor_id: request.visitor.id().to_owned(),
        user_id: event_received.user_id.unwrap_or_default(),
        time_ms: event.time.0,
        sequence: event_received.sequence,
        event_key: event.key.0,
        event_id: event_received.id.unwrap_or_default(),
        kind: match event_received.kind {
            EventKind::Track => "track",
            EventKind::Page => "page",
            EventKind::Screen => "screen",
            EventKind::Identify => "identify",
            EventKind::Group => "group",
            EventKind::Alias => "alias",
        },
        event: event_received.name,
        host,
        path,
        url: context.url,
        title: context.title,
        referrer: context.referrer,
        channel: landing.channel,
        source: landing.source,
        medium: landing.medium,
        campaign: landing.campaign,
        landing: match &enriched.landing {
            Some(landing) => landing.kind.as_str(),
            None => "",
        },
        term: context.campaign.term,
        content: context.campaign.content,
        touchpoint: enriched.touchpoint,
        stage: enriched.stage,
        feedback: enriched.feedback,
        score_micros: enriched.score_micros,
        comment: enriched.comment,
        browser: enriched.user_agent.browser.clone(),
        browser_version: enriched.user_agent.browser_version.clone(),
        os: enriched.user_agent.os.clone(),
        os_version: enriched.user_agent.os_version.clone(),
        device: enriched.user_agent.device.clone(),
        device_brand: enriched.user_agent.device_brand.clone(),
        device_model: enriched.user_agent.device_model.clone(),
        language: language(&context.locale).as_str().to_owned(),
        locale: context.locale,
        screen_width: context.screen.0,
        screen_height: context.screen.1,
        screen_class: screen::class(context.screen.0, context.screen.1),
        library: context.library,
        library_version: context.library_version,
        protocol: request.protocol.to_owned(),
        properties: event_received.properties,
        traits: event_received.traits,
        bot: enriched.bot,
        revenue_micros: event_received.revenue.as_ref().map(|revenue| revenue.micros),
        currency: event_received.revenue.map(|revenue| revenue.currency).unwrap_or_default(),
        ip: if context.ip.is_empty() { request.ip.to_owned() } else { context.ip },
        country: enriched.place.country.clone(),
        region: enriched.place.region.clone(),
        city: enriched.place.city.clone(),
        tracker_session: context.session,
        consent: match context.consent {
            Consent::Unknown => "",
            Consent::Granted => "granted",
            Consent::Denied => "denied",
        },
        received_ms: received.0,
        time_source: match event.time_source {
            TimeSource::Client => "client",
            TimeSource::Corrected => "corrected",
            TimeSource::Received => "received",
            TimeSource::Replaced => "replaced",
        },
        late,
        origin_partition: origin.partition,
        origin_offset: origin.offset,
        origin_index: origin.index,
    }
}
