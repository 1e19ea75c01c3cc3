//! Request -> protocol -> project -> log -> answer. Which protocols there are, and what they are particular about, stands in
//! `wire`: nothing here knows one by name.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, RwLock};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, ORIGIN, SET_COOKIE, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use trackway_domain::time::ReceivedAt;
use trackway_wire::protocol::{self, Answer, Claimants, Head, Protocol, Tally, Verdict};
use trackway_wire::{Item, Rejection, Understood};

use crate::address;
use crate::admit::{Admission, Admissions, Admitted};
use crate::append::{Appender, Origin, Outcome};
use crate::body::{self, Budget};
use crate::meters::{self, Decision, Meters, ProjectMeters};
use crate::privacy::{self, Sender};
use crate::replay::Replay;
use crate::reply::{self, Refusal, Reply};
use crate::secret::{self, Secrets};
use crate::shares::shares;
use crate::{AddressRanges, Clock, Limits, cookie, cors, script};

/// What every request needs.
pub(crate) struct Gateway {
    pub admissions: RwLock<Arc<Admissions>>,
    pub appender: Appender,
    pub budget: Budget,
    pub limits: Limits,
    pub clock: Clock,
    pub meters: Meters,
    /// Of events that cannot be attributed to a project.
    pub nobodys: ProjectMeters,
    pub trusted_proxies: AddressRanges,
    pub hosting: Arc<AddressRanges>,
    pub secrets: Secrets,
}

/// Bytes of a user agent that are kept. Those of apps with all their libraries have some 500.
const USER_AGENT_BYTES_MAX: usize = 2048;

const DNT: HeaderName = HeaderName::from_static("dnt");
const SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");
const SEC_CH_UA: HeaderName = HeaderName::from_static("sec-ch-ua");

/// Answers one request. It takes its time from the log: see [`Appender::append`].
pub(crate) async fn answer(gateway: &Gateway, peer: IpAddr, request: Request<Incoming>) -> Reply {
    let started = meters::now();
    let (head, body) = request.into_parts();
    let (read, mut reply) = match (head.uri.path(), script::answer(&head.method, head.uri.path(), &head.headers)) {
        ("/health", _) if head.method == Method::GET => (None, reply::healthy()),
        (_, Some(script)) => (None, script),
        (_, None) => match Visit::of(gateway, peer, &head) {
            Ok(visit) => {
                let (read, reply) = visit.take(body).await;
                (Some(read), reply)
            }
            Err(Refusal::Method { .. }) if head.method == Method::OPTIONS => (None, cors::preflight(&head.headers)),
            Err(refusal) => (None, reply::refused(&refusal)),
        },
    };
    cors::allow(&mut reply, head.headers.get(ORIGIN).cloned());
    gateway.meters.request(read.as_ref().map(|read| read.protocol), reply.status());
    if let Some(Read { protocol, project, .. }) = read {
        let meters = project.as_ref().map_or(&gateway.nobodys, |project| &project.meters);
        meters.took(protocol, started.elapsed());
    }
    reply
}

/// One request on its way.
struct Visit<'a> {
    gateway: &'a Gateway,
    head: &'a Parts,
    method: protocol::Method,
    claimants: Claimants,
    /// The first of them.
    first: &'static dyn Protocol,
    ip: IpAddr,
    now: ReceivedAt,
    replay: Option<Replay<'a>>,
    fresh_id: OnceLock<String>,
}

/// What a request turned out to be, as far as its answer goes by it.
struct Read {
    /// The first protocol that claims it, until its body tells better.
    protocol: &'static dyn Protocol,
    /// Its body, once it is read.
    body: Bytes,
    /// The project that it is for; the first, if its items have several.
    project: Option<Arc<Admitted>>,
    /// A cookie to be set.
    cookie: Option<HeaderValue>,
}

/// What became of a request, before its protocol says it.
enum Taken {
    Aside(Answer),
    Tally(Tally),
}

/// What a body was found to be.
enum Found {
    Aside(Answer),
    Parsed(Result<Understood, Rejection>),
}

impl<'a> Visit<'a> {
    /// A request that some protocol claims.
    fn of(gateway: &'a Gateway, peer: IpAddr, head: &'a Parts) -> Result<Self, Refusal> {
        let claims = |method| {
            let claimants = with_request(head, method, &OnceLock::new(), &[], 0, |it| Claimants::of(&it.head));
            Some((claimants, claimants.first()?))
        };
        let method = match head.method {
            Method::GET => Some(protocol::Method::Get),
            Method::POST => Some(protocol::Method::Post),
            _ => None,
        };
        let Some((method, (claimants, first))) = method.and_then(|method| Some((method, claims(method)?))) else {
            let (get, post) = (claims(protocol::Method::Get).is_some(), claims(protocol::Method::Post).is_some());
            return Err(match (get, post) {
                (true, true) => Refusal::Method { allow: "GET, POST, OPTIONS" },
                (true, false) => Refusal::Method { allow: "GET, OPTIONS" },
                (false, true) => Refusal::Method { allow: "POST, OPTIONS" },
                (false, false) => Refusal::NoSuchPath { path: head.uri.path().chars().take(200).collect() },
            });
        };
        let ip = address::client(peer, &head.headers, &gateway.trusted_proxies);
        let replay = Replay::of(&head.headers);
        let (now, fresh_id) = ((gateway.clock)(), OnceLock::new());
        Ok(Self { gateway, head, method, claimants, first, ip, now, replay, fresh_id })
    }

    fn with_head<T>(&self, then: impl FnOnce(&Head<'_>) -> T) -> T {
        self.with_request(&[], |request| then(&request.head))
    }

    fn with_request<T>(&self, body: &[u8], then: impl FnOnce(&protocol::Request<'_>) -> T) -> T {
        let items_max = self.gateway.limits.batch_events_max;
        with_request(self.head, self.method, &self.fresh_id, body, items_max, then)
    }

    async fn take(self, body: Incoming) -> (Read, Reply) {
        let mut read = Read { protocol: self.first, body: Bytes::new(), project: None, cookie: None };
        let taken = self.taken(body, &mut read).await;
        let answer = |verdict: &Verdict<'_>| match self.replay {
            // Its program reads one kind of answer, whatever the protocol.
            Some(_) => protocol::plain_answer(verdict),
            None => self.with_request(&read.body, |request| read.protocol.answer(request, verdict)),
        };
        let mut reply = match taken {
            Ok(Taken::Aside(answer)) => reply::of_answer(answer),
            Ok(Taken::Tally(tally)) => reply::of_answer(answer(&Verdict::Taken(&tally))),
            Err(refusal) => reply::of_refusal(&refusal, answer(&Verdict::Refused(&refusal.refused()))),
        };
        if let Some(cookie) = read.cookie.take() {
            reply.headers_mut().append(SET_COOKIE, cookie);
        }
        (read, reply)
    }

    async fn taken(&self, body: Incoming, read: &mut Read) -> Result<Taken, Refusal> {
        let gateway = self.gateway;
        let admissions = gateway.admissions.read().expect("not poisoned").clone();
        let admit = |key: Option<&str>| admissions.admit(key, &self.head.headers, self.now);
        let (first, alone) = (self.first, self.claimants.is_one());
        // A question for settings has its answer whatever the key may send.
        if alone
            && self.method == protocol::Method::Get
            && let Some(answer) = self.with_request(&[], |request| first.aside(request))
        {
            return Ok(Taken::Aside(answer));
        }
        let mut admission = None;
        if let Some(key) = self.replay.as_ref().and_then(|replay| replay.project_key) {
            admission = Some(admit(Some(key))?);
        } else if alone && let Some(key) = self.with_head(|head| first.write_key(head)) {
            // A wrong key in the head is refused before its body is read.
            admission = Some(admit(Some(&key))?);
        }
        let mut lease = gateway.budget.lease();
        let (body, sent_bytes) = match self.method {
            protocol::Method::Get => (Bytes::new(), 0),
            protocol::Method::Post => body::read(body, &self.head.headers, &gateway.limits, &mut lease).await?,
        };
        read.body = body.clone();
        let (protocol, found) = self.with_request(&body, |request| self.find(request));
        read.protocol = protocol;
        let parsed = match found {
            Found::Aside(answer) => return Ok(Taken::Aside(answer)),
            Found::Parsed(parsed) => parsed,
        };
        if admission.is_none()
            && let Some(key) = self.with_head(|head| protocol.write_key(head))
        {
            admission = Some(admit(Some(&key))?);
        }
        let mut understood = match parsed {
            Ok(understood) => understood,
            Err(reason) => {
                return Err(self.reject(protocol, admission.as_ref(), reason, body, sent_bytes).await);
            }
        };
        if let Some(replay) = &self.replay {
            replay.keep(&mut understood.items);
            understood.own_keys.retain(|_| replay.project_key.is_none());
        }
        let admission = match admission {
            Some(admission) => Ok(admission),
            None => admit(understood.write_key.as_deref()),
        };
        read.project = admission.as_ref().ok().map(|admission| admission.project.clone());
        let shares = shares(admission, understood.own_keys, understood.items, admit)?;
        let mut tally = Tally { accepted: 0, nothing: 0, rejected: shares.refused };
        gateway.nobodys.events(protocol, Decision::Rejected, tally.rejected.len());
        for (admission, items) in shares.admitted {
            let id_cookie = self.id_cookie(&admission, understood.anonymous);
            let sender = self.sender(understood.anonymous, id_cookie.as_deref());
            admission.project.meters.request(protocol, sent_bytes);
            let outcome = self.append(protocol, &admission, &sender, items, &body).await?;
            tally.accepted += outcome.accepted;
            // A sender has no business with what is kept of its events.
            tally.nothing += outcome.nothing + outcome.withheld + outcome.excluded.iter().sum::<usize>();
            tally.rejected.extend(outcome.rejected);
            read.cookie = id_cookie.map(|id| cookie::give(&id, &self.head.headers)).or(read.cookie.take());
        }
        tally.rejected.sort_by_key(|(index, _)| *index);
        Ok(Taken::Tally(tally))
    }

    fn find(&self, request: &protocol::Request<'_>) -> (&'static dyn Protocol, Found) {
        let protocol = self.claimants.recognise(request).expect("it was claimed");
        let found = match protocol.aside(request) {
            Some(answer) => Found::Aside(answer),
            None => Found::Parsed(protocol.parse(request)),
        };
        (protocol, found)
    }

    /// Keeps a body that was not understood, if it is known whose it is.
    async fn reject(
        &self,
        protocol: &'static dyn Protocol,
        admission: Option<&Admission>,
        reason: Rejection,
        body: Bytes,
        sent_bytes: usize,
    ) -> Refusal {
        // Whose it is may stand only in what was not understood; then it is counted and not kept.
        let Some(admission) = admission else {
            self.gateway.nobodys.events(protocol, Decision::Rejected, 1);
            return Refusal::Body(reason);
        };
        let project = &admission.project;
        project.meters.request(protocol, sent_bytes);
        let sender = self.sender(false, None);
        let derived = || self.derived(admission, &sender);
        let origin = self.origin(protocol, admission, &sender, &derived);
        let kept = self.gateway.appender.reject(&origin, &reason, body).await;
        admission.add(1, self.now);
        project.meters.events(protocol, if kept.is_ok() { Decision::Rejected } else { Decision::Retry }, 1);
        kept.err().unwrap_or(Refusal::Body(reason))
    }

    async fn append(
        &self,
        protocol: &'static dyn Protocol,
        admission: &Admission,
        sender: &Sender<'_>,
        items: Vec<(usize, Item)>,
        body: &Bytes,
    ) -> Result<Outcome, Refusal> {
        let (gateway, project, count) = (self.gateway, &admission.project, items.len());
        let derived = || self.derived(admission, sender);
        let origin = self.origin(protocol, admission, sender, &derived);
        let started = meters::now();
        let kept = |event| privacy::apply(event, project, sender, &gateway.secrets);
        let result = gateway.appender.append(&origin, items, kept, body).await;
        gateway.meters.append_seconds.record(started.elapsed());
        match &result {
            Ok(outcome) => {
                admission.add(count, self.now);
                project.meters.events(protocol, Decision::Accepted, outcome.accepted);
                project.meters.events(protocol, Decision::Rejected, outcome.rejected.len());
                project.meters.events(protocol, Decision::Nothing, outcome.nothing);
                project.meters.events(protocol, Decision::Withheld, outcome.withheld);
                project.meters.excluded(protocol, outcome.excluded);
            }
            Err(refusal) => {
                let decision = if refusal.is_temporary() { Decision::Retry } else { Decision::Rejected };
                project.meters.events(protocol, decision, count);
            }
        }
        result
    }

    fn origin<'o>(
        &'o self,
        protocol: &'static dyn Protocol,
        admission: &'o Admission,
        sender: &Sender<'o>,
        derived_visitor: &'o (dyn Fn() -> String + Sync),
    ) -> Origin<'o> {
        Origin {
            project: &admission.project.id,
            protocol: protocol.name(),
            head: self.head,
            user_agent: sender.user_agent,
            // A replay comes from whoever runs it, not from the visitor.
            ip: match self.replay {
                Some(_) => String::new(),
                None => address::kept(self.ip, privacy::ip_policy(&admission.project.privacy, sender)),
            },
            is_replay: self.replay.is_some(),
            bot: self.bot(sender.user_agent),
            reasons_only: privacy::objects(&admission.project.privacy, sender)
                || sender.is_excluded(&admission.project.exclusions),
            now: self.now,
            received: self.replay.as_ref().map_or(self.now, |replay| replay.received(self.now)),
            derived_visitor,
        }
    }

    fn derived(&self, admission: &Admission, sender: &Sender<'_>) -> String {
        match sender.known_as {
            Some(id) => id.to_owned(),
            None => self.gateway.secrets.visitor(&admission.project.id, self.ip, sender.user_agent, self.now),
        }
    }

    fn sender<'s>(&'s self, anonymous: bool, cookie: Option<&'s str>) -> Sender<'s> {
        let is_one = |name: &HeaderName| self.head.headers.get(name).is_some_and(|value| value == "1");
        Sender {
            ip: self.ip,
            user_agent: self.user_agent(),
            objects: is_one(&DNT) || is_one(&SEC_GPC),
            anonymous,
            is_replay: self.replay.is_some(),
            known_as: self.replay.as_ref().and_then(|replay| replay.visitor).or(cookie),
            now: self.now,
        }
    }

    /// Each visitor of a request has a copy of it.
    fn user_agent(&self) -> &str {
        let text = text(self.head, &USER_AGENT);
        // A header that is text is ASCII.
        &text[..text.len().min(USER_AGENT_BYTES_MAX)]
    }

    /// The id of the first-party cookie, given or to be given, if this project wants one and this visitor does not object.
    fn id_cookie(&self, admission: &Admission, anonymous: bool) -> Option<String> {
        let wanted = admission.project.privacy.id_cookie && !anonymous;
        let privacy = &admission.project.privacy;
        if !wanted || privacy::objects(privacy, &self.sender(anonymous, None)) {
            return None;
        }
        Some(cookie::id(&self.head.headers).map_or_else(|| self.fresh_id().to_owned(), str::to_owned))
    }

    fn fresh_id(&self) -> &str {
        self.fresh_id.get_or_init(secret::fresh_id)
    }

    /// Why the sender is taken for a bot, beside what its user agent says (which the worker reads).
    fn bot(&self, user_agent: &str) -> &'static str {
        // Servers send for their visitors from data centres; only what claims to be a browser is out of place there.
        if user_agent.starts_with("Mozilla/") && self.gateway.hosting.contains(self.ip) {
            "hosting"
        } else if text(self.head, &SEC_CH_UA).contains("HeadlessChrome") {
            "headless"
        } else {
            ""
        }
    }
}

fn text<'h>(head: &'h Parts, name: &HeaderName) -> &'h str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Shows a request to protocols.
fn with_request<T>(
    head: &Parts,
    method: protocol::Method,
    fresh_id: &OnceLock<String>,
    body: &[u8],
    items_max: usize,
    then: impl FnOnce(&protocol::Request<'_>) -> T,
) -> T {
    let path = head.uri.path();
    let head = Head {
        method,
        // Trackers disagree about the last slash.
        path: path.strip_suffix('/').unwrap_or(path),
        query: head.uri.query().unwrap_or_default(),
        headers: &|name| head.headers.get(name)?.to_str().ok(),
        fresh_id: &|| fresh_id.get_or_init(secret::fresh_id),
    };
    then(&protocol::Request { head, body, items_max })
}
