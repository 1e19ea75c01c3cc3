//! What is kept of an event, by its project's wish. Applied before anything is written.

use std::net::IpAddr;

use trackway_domain::event::{Consent, EventKind, ReceivedEvent};
use trackway_domain::id::Visitor;
use trackway_domain::time::ReceivedAt;
use trackway_enrich::exclusion::Excluded;

use crate::address;
use crate::admit::Admitted;
use crate::secret::Secrets;
use crate::{Exclusions, IpPolicy, Objection, Privacy};

/// Who sent a request, as far as it bears on privacy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// The client's address.
    pub ip: IpAddr,
    /// The request's header.
    pub user_agent: &'a str,
    /// It says `DNT: 1` or `Sec-GPC: 1`.
    pub objects: bool,
    /// Its tracker asks not to be known: the address is not kept.
    pub anonymous: bool,
    /// The request was rejected before and is sent again, from another address.
    pub is_replay: bool,
    /// Id of a visitor without one, where it is known already: of a cookie, or of a rejected request that is sent again.
    pub known_as: Option<&'a str>,
    /// When it came.
    pub now: ReceivedAt,
}

/// Why nothing of an event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// The visitor objects, and the project wants nothing of such.
    Objection,
    /// The project does not want it.
    Excluded(Excluded),
}

/// An event as it may be kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The event.
    pub event: ReceivedEvent,
    /// Whose it is.
    pub visitor: Visitor,
    /// Nobody may tell whose it is: the request's address is not kept beside it.
    pub anonymised: bool,
}

/// What may be kept of an event, or why nothing.
pub(crate) fn apply(
    mut event: ReceivedEvent,
    project: &Admitted,
    sender: &Sender<'_>,
    secrets: &Secrets,
) -> Result<Kept, Unkept> {
    let privacy = &project.privacy;
    let own_ip = address::parse(&event.context.ip);
    if let Some(why) = excluded(&event, own_ip, &project.exclusions, sender) {
        return Err(Unkept::Excluded(why));
    }
    let derived = |event: &ReceivedEvent| {
        let agent = &event.context.user_agent;
        let agent = if agent.is_empty() { sender.user_agent } else { agent };
        secrets.visitor(&project.id, own_ip.unwrap_or(sender.ip), agent, sender.now)
    };
    let objection = objection(privacy, sender, event.context.consent);
    let visitor = match objection {
        Objection::Refuse => return Err(Unkept::Objection),
        Objection::Anonymise => match event.kind {
            // All that they say is who somebody is.
            EventKind::Identify | EventKind::Group | EventKind::Alias => return Err(Unkept::Objection),
            EventKind::Track | EventKind::Page | EventKind::Screen => {
                event.user_id = None;
                event.traits = "{}".to_owned();
                event.context.session = String::new();
                event.context.ip = String::new();
                Visitor::Device(derived(&event))
            }
        },
        Objection::Ignore => match event.visitor.take() {
            Some(Visitor::Device(_)) if privacy.cookieless => Visitor::Device(derived(&event)),
            Some(visitor) => visitor,
            None => Visitor::Device(sender.known_as.map_or_else(|| derived(&event), str::to_owned)),
        },
    };
    if !event.context.ip.is_empty() {
        let policy = if sender.anonymous { IpPolicy::Drop } else { privacy.ip };
        event.context.ip = own_ip.map(|ip| address::kept(ip, policy)).unwrap_or_default();
    }
    if !privacy.properties.is_none() {
        let hash = |value: &str| secrets.property(&project.id, value);
        event.properties = privacy.properties.kept(&event.properties, hash).into_owned();
        event.traits = privacy.properties.kept(&event.traits, hash).into_owned();
    }
    Ok(Kept { event, visitor, anonymised: objection == Objection::Anonymise })
}

/// Why the project does not want this event. A server's word on the visitor comes before what is seen of the server: it may
/// well stand in an excluded network.
fn excluded(
    event: &ReceivedEvent,
    own_ip: Option<IpAddr>,
    exclusions: &Exclusions,
    sender: &Sender<'_>,
) -> Option<Excluded> {
    let context = &event.context;
    let agent = if context.user_agent.is_empty() { sender.user_agent } else { &context.user_agent };
    let of_sender = exclusions.of_sender(own_ip.or(sender.visitor_ip()), agent);
    of_sender.or_else(|| exclusions.of_page(&context.url, &context.referrer))
}

impl Sender<'_> {
    /// The visitor's address, unless the request is sent again by whoever mends it.
    fn visitor_ip(&self) -> Option<IpAddr> {
        (!self.is_replay).then_some(self.ip)
    }

    /// Whether the project wants nothing of it, as far as the request's head tells.
    pub(crate) fn is_excluded(&self, exclusions: &Exclusions) -> bool {
        exclusions.of_sender(self.visitor_ip(), self.user_agent).is_some()
    }
}

/// Whether the request's own address may be kept, and how.
pub(crate) fn ip_policy(privacy: &Privacy, sender: &Sender<'_>) -> IpPolicy {
    if sender.anonymous || objects(privacy, sender) { IpPolicy::Drop } else { privacy.ip }
}

/// Whether the request's visitor objects to being tracked, and the project honours it. What its events say of consent is
/// not known yet.
pub(crate) fn objects(privacy: &Privacy, sender: &Sender<'_>) -> bool {
    objection(privacy, sender, Consent::Unknown) != Objection::Ignore
}

/// The strongest of what the browser and the tracker object to.
fn objection(privacy: &Privacy, sender: &Sender<'_>, consent: Consent) -> Objection {
    let denied = match consent {
        Consent::Denied => true,
        Consent::Unknown => privacy.consent_required,
        Consent::Granted => false,
    };
    match (sender.objects, denied) {
        (false, false) => Objection::Ignore,
        (true, false) => privacy.do_not_track,
        (false, true) => privacy.consent_denied,
        (true, true) => stronger(privacy.do_not_track, privacy.consent_denied),
    }
}

fn stronger(a: Objection, b: Objection) -> Objection {
    match (a, b) {
        (Objection::Refuse, _) | (_, Objection::Refuse) => Objection::Refuse,
        (Objection::Anonymise, _) | (_, Objection::Anonymise) => Objection::Anonymise,
        (Objection::Ignore, Objection::Ignore) => Objection::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use trackway_domain::event::Context;
    use trackway_domain::id::ProjectId;
    use trackway_wire::redact::PropertyLists;

    use super::*;
    use crate::admit::Admissions;
    use crate::{Project, Quota, Secret, UseFrom, WriteKey};

    const NOW: ReceivedAt = ReceivedAt(1_800_000_000_000);

    const SENDER: Sender<'_> = Sender {
        ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 77)),
        user_agent: "UA",
        objects: false,
        anonymous: false,
        is_replay: false,
        known_as: None,
        now: NOW,
    };

    fn event(kind: EventKind) -> ReceivedEvent {
        ReceivedEvent {
            kind,
            name: "e".into(),
            id: None,
            visitor: Some(Visitor::Device("a".into())),
            user_id: Some("u".into()),
            other_id: None,
            client_time_ms: None,
            sent_at_ms: None,
            sequence: 0,
            context: Context { ip: "198.51.100.9".into(), session: "s".into(), ..Context::default() },
            revenue: None,
            properties: r#"{"plan":"pro","email":"a@b"}"#.into(),
            traits: r#"{"email":"a@b"}"#.into(),
        }
    }

    fn check(privacy: Privacy, sender: Sender<'_>, event: ReceivedEvent) -> Option<(ReceivedEvent, Visitor)> {
        kept(privacy, Exclusions::NONE, sender, event).ok()
    }

    fn kept(
        privacy: Privacy,
        exclusions: Exclusions,
        sender: Sender<'_>,
        event: ReceivedEvent,
    ) -> Result<(ReceivedEvent, Visitor), Unkept> {
        let id = ProjectId::parse("shop").expect("a project id");
        let key = WriteKey { key: "k".into(), use_from: UseFrom::Anywhere, quota: Quota::default() };
        let project = Project { id, write_keys: vec![key], quota: Quota::default(), privacy, exclusions };
        let admissions = Admissions::new(&[project], None).unwrap_or_else(|shared| panic!("{shared}"));
        let admission = admissions.admit(Some("k"), &hyper::HeaderMap::new(), NOW);
        let project = admission.unwrap_or_else(|refusal| panic!("{refusal}")).project;
        let kept =
            super::apply(event, &project, &sender, &Secrets::new(&Secret::Shared("s".into()), NOW).expect("no file"));
        kept.map(|kept| (kept.event, kept.visitor))
    }

    fn is_derived(visitor: &Visitor) -> bool {
        matches!(visitor, Visitor::Device(id) if id.starts_with("anon-") && id.len() == 37)
    }

    #[test]
    fn usually_all_is_kept_but_the_end_of_an_address() {
        let (kept, visitor) = check(Privacy::USUAL, SENDER, event(EventKind::Track)).expect("it is kept");
        assert_eq!((visitor, kept.user_id.as_deref()), (Visitor::Device("a".into()), Some("u")));
        assert_eq!((kept.context.ip.as_str(), kept.context.session.as_str()), ("198.51.100.0", "s"));
        let drop = Privacy { ip: IpPolicy::Drop, ..Privacy::USUAL };
        assert_eq!(check(drop, SENDER, event(EventKind::Track)).expect("it is kept").0.context.ip, "");
        let anonymous = Sender { anonymous: true, ..SENDER };
        assert_eq!(check(Privacy::USUAL, anonymous, event(EventKind::Track)).expect("it is kept").0.context.ip, "");
    }

    #[test]
    fn an_objection_is_ignored_makes_nobody_or_leaves_nothing() {
        let objecting = Sender { objects: true, ..SENDER };
        let policy = |do_not_track| Privacy { do_not_track, ..Privacy::USUAL };
        let (_, visitor) = check(policy(Objection::Ignore), objecting, event(EventKind::Track)).expect("it is kept");
        assert_eq!(visitor, Visitor::Device("a".into()));
        let (kept, visitor) =
            check(policy(Objection::Anonymise), objecting, event(EventKind::Track)).expect("it is kept");
        assert!(is_derived(&visitor), "{visitor:?}");
        assert_eq!((kept.user_id, kept.traits.as_str(), kept.context), (None, "{}", Context::default()));
        for kind in [EventKind::Identify, EventKind::Group, EventKind::Alias] {
            assert!(check(policy(Objection::Anonymise), objecting, event(kind)).is_none());
        }
        assert!(check(policy(Objection::Refuse), objecting, event(EventKind::Track)).is_none());
        assert!(check(policy(Objection::Refuse), SENDER, event(EventKind::Track)).is_some());
    }

    #[test]
    fn consent_is_honoured_and_asked_for_where_it_is_required() {
        let with = |consent| {
            let mut event = event(EventKind::Track);
            event.context.consent = consent;
            event
        };
        let visitor = |privacy, consent| check(privacy, SENDER, with(consent)).map(|(_, visitor)| visitor);
        let required = Privacy { consent_required: true, ..Privacy::USUAL };
        let refusing = Privacy { consent_denied: Objection::Refuse, ..required.clone() };
        assert!(visitor(Privacy::USUAL, Consent::Denied).is_some_and(|visitor| is_derived(&visitor)));
        assert_eq!(visitor(Privacy::USUAL, Consent::Unknown), Some(Visitor::Device("a".into())));
        assert!(visitor(required.clone(), Consent::Unknown).is_some_and(|visitor| is_derived(&visitor)));
        assert_eq!(visitor(required, Consent::Granted), Some(Visitor::Device("a".into())));
        assert_eq!(visitor(refusing, Consent::Unknown), None);
    }

    #[test]
    fn whom_a_project_excludes_leaves_nothing() {
        use trackway_enrich::exclusion::{AgentRules, Pages, Referrers};
        use trackway_enrich::network::AddressRanges;

        let exclusions = Exclusions {
            addresses: AddressRanges::new(vec!["192.0.2.0/24".parse().expect("a network")]),
            user_agents: AgentRules::new(["monitor"]).expect("a rule"),
            referrers: Referrers::new(true, []),
            pages: Pages::of(["https://shop.example"]).expect("a site"),
        };
        let check = |sender: Sender<'_>, context: Context| {
            let event = ReceivedEvent { context, ..event(EventKind::Track) };
            match kept(Privacy::USUAL, exclusions.clone(), sender, event) {
                Ok(_) => None,
                Err(Unkept::Excluded(why)) => Some(why),
                Err(Unkept::Objection) => panic!("nobody objects"),
            }
        };
        let elsewhere = Sender { ip: "198.51.100.1".parse().expect("an address"), ..SENDER };
        assert_eq!(check(SENDER, Context::default()), Some(Excluded::Address));
        assert_eq!(check(elsewhere, Context::default()), None);
        assert_eq!(check(Sender { is_replay: true, ..SENDER }, Context::default()), None, "it is not the visitor's");
        let ip = |ip: &str| Context { ip: ip.into(), ..Context::default() };
        assert_eq!(check(SENDER, ip("198.51.100.9")), None, "a server in the office speaks for a customer");
        assert_eq!(check(elsewhere, ip("192.0.2.9")), Some(Excluded::Address));
        let monitor = Sender { user_agent: "Monitor/1", ..elsewhere };
        assert_eq!(check(monitor, Context::default()), Some(Excluded::UserAgent));
        let browser = Context { user_agent: "Mozilla/5.0".into(), ..Context::default() };
        assert_eq!(check(monitor, browser), None);
        let url =
            |url: &str, referrer: &str| Context { url: url.into(), referrer: referrer.into(), ..Context::default() };
        assert_eq!(check(elsewhere, url("https://shop.example/a", "https://news.example")), None);
        assert_eq!(check(elsewhere, url("https://copy.example/a", "")), Some(Excluded::Page));
        assert_eq!(check(elsewhere, url("https://shop.example/a", "http://semalt.com/")), Some(Excluded::Referrer));
    }

    #[test]
    fn who_has_no_id_is_known_by_a_hash_or_a_cookie() {
        let nobody = || ReceivedEvent { visitor: None, user_id: None, ..event(EventKind::Page) };
        let visitor = |privacy, sender| check(privacy, sender, nobody()).expect("it is kept").1;
        assert!(is_derived(&visitor(Privacy::USUAL, SENDER)));
        let known = Sender { known_as: Some("c"), ..SENDER };
        assert_eq!(visitor(Privacy::USUAL, known), Visitor::Device("c".into()));
        let cookieless = Privacy { cookieless: true, ..Privacy::USUAL };
        let (kept, visitor) = check(cookieless.clone(), SENDER, event(EventKind::Track)).expect("it is kept");
        assert!(is_derived(&visitor));
        assert_eq!(kept.user_id.as_deref(), Some("u"), "who says who they are is known");
        let server = ReceivedEvent { visitor: Some(Visitor::User("u".into())), ..event(EventKind::Track) };
        assert_eq!(check(cookieless, SENDER, server).expect("it is kept").1, Visitor::User("u".into()));
    }

    #[test]
    fn properties_are_dropped_and_hashed_as_the_lists_say() {
        let lists = PropertyLists { hash: vec!["email".into()], deny: vec!["plan".into()], ..PropertyLists::NONE };
        let privacy = Privacy { properties: lists, ..Privacy::USUAL };
        let (kept, _) = check(privacy, SENDER, event(EventKind::Identify)).expect("it is kept");
        assert_eq!(kept.properties, kept.traits);
        assert!(kept.traits.starts_with(r#"{"email":""#) && !kept.traits.contains('@'), "{}", kept.traits);
    }
}
