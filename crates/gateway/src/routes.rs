//! Request -> protocol -> answer. A further protocol is a further line of [`Route::of`] and of [`answer`].

use hyper::body::Incoming;
use hyper::header::{HeaderValue, ORIGIN, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use trackway_wire::{Understood, pixel, segment};

use crate::admit::{self, Admissions, Project};
use crate::append::{Appender, Origin, Outcome};
use crate::body::{self, Budget};
use crate::meters::{self, Decision, Meters, ProjectMeters, Protocol};
use crate::reply::{self, Refusal, Reply};
use crate::{Clock, Limits, cors};

/// What every request needs.
pub(crate) struct Gateway {
    pub admissions: Admissions,
    pub appender: Appender,
    pub budget: Budget,
    pub limits: Limits,
    pub clock: Clock,
    pub meters: Meters,
    /// Of events that cannot be attributed to a project.
    pub nobodys: ProjectMeters,
}

enum Route {
    Health,
    Preflight,
    Segment(segment::Call),
    Pixel,
}

impl Route {
    fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        // Trackers disagree about the last slash.
        let known = match path.strip_suffix('/').unwrap_or(path) {
            "/health" => Some((Self::Health, Method::GET)),
            pixel::PATH => Some((Self::Pixel, Method::GET)),
            path => segment::Call::of_path(path).map(|call| (Self::Segment(call), Method::POST)),
        };
        match known {
            None => Err(Refusal::NoSuchPath { path: path.to_owned() }),
            Some((route, own)) if method == own => Ok(route),
            Some(_) if method == Method::OPTIONS => Ok(Self::Preflight),
            Some((_, own)) if own == Method::GET => Err(Refusal::Method { allow: "GET, OPTIONS" }),
            Some(_) => Err(Refusal::Method { allow: "POST, OPTIONS" }),
        }
    }
}

/// Answers one request. It takes its time from the log: see [`Appender::append`].
pub(crate) async fn answer(gateway: &Gateway, request: Request<Incoming>) -> Reply {
    let started = meters::now();
    let (head, body) = request.into_parts();
    let (protocol, mut reply) = match Route::of(&head.method, head.uri.path()) {
        Ok(Route::Health) => (Protocol::None, reply::healthy()),
        Ok(Route::Preflight) => (Protocol::None, cors::preflight(&head.headers)),
        Ok(Route::Segment(call)) => {
            (Protocol::Segment, reply::segment(&take_segment(gateway, call, &head, body).await))
        }
        Ok(Route::Pixel) => (Protocol::Pixel, reply::pixel(&take_pixel(gateway, &head).await)),
        Err(refusal) => (Protocol::None, reply::refused(&refusal)),
    };
    cors::allow(&mut reply, head.headers.get(ORIGIN).cloned());
    gateway.meters.request(protocol, reply.status());
    gateway.meters.request_seconds.record(started.elapsed());
    reply
}

async fn take_segment(
    gateway: &Gateway,
    call: segment::Call,
    head: &Parts,
    body: Incoming,
) -> Result<Outcome, Refusal> {
    let key = admit::write_key(&head.headers, head.uri.query());
    // A wrong key in the head is refused before its body is read.
    let project = key.map(|key| gateway.admissions.admit(Some(&key))).transpose()?;
    let mut lease = gateway.budget.lease();
    let (body, sent_bytes) = body::read(body, &head.headers, &gateway.limits, &mut lease).await?;
    gateway.meters.body_bytes.increment(sent_bytes as u64);
    match segment::parse(call, &body, gateway.limits.batch_events_max) {
        Ok(Understood { write_key, items, .. }) => {
            let project = match project {
                Some(project) => project,
                None => gateway.admissions.admit(write_key.as_deref())?,
            };
            take(gateway, project, Protocol::Segment, head, items).await
        }
        Err(reason) => {
            // Whose it is may stand only in what was not understood; then it is counted and not kept.
            let Some(project) = project else {
                gateway.nobodys.events(Protocol::Segment, Decision::Rejected, 1);
                return Err(Refusal::Body(reason));
            };
            let origin = origin(gateway, project, Protocol::Segment, head);
            let kept = gateway.appender.reject(&origin, &reason, body).await;
            let decision = if kept.is_ok() { Decision::Rejected } else { Decision::Retry };
            project.meters.events(Protocol::Segment, decision, 1);
            kept.and(Err(Refusal::Body(reason)))
        }
    }
}

async fn take_pixel(gateway: &Gateway, head: &Parts) -> Result<Outcome, Refusal> {
    let Understood { write_key, items, .. } = pixel::parse(head.uri.query().unwrap_or_default());
    let project = gateway.admissions.admit(write_key.as_deref())?;
    take(gateway, project, Protocol::Pixel, head, items).await
}

async fn take(
    gateway: &Gateway,
    project: &Project,
    protocol: Protocol,
    head: &Parts,
    items: Vec<trackway_wire::Item>,
) -> Result<Outcome, Refusal> {
    let count = items.len();
    let started = meters::now();
    let result = gateway.appender.append(&origin(gateway, project, protocol, head), items).await;
    gateway.meters.append_seconds.record(started.elapsed());
    match &result {
        Ok(outcome) => {
            project.meters.events(protocol, Decision::Accepted, outcome.accepted);
            project.meters.events(protocol, Decision::Rejected, outcome.rejected.len());
            project.meters.events(protocol, Decision::Nothing, outcome.nothing);
        }
        Err(_) => project.meters.events(protocol, Decision::Retry, count),
    }
    result
}

fn origin<'a>(gateway: &Gateway, project: &'a Project, protocol: Protocol, head: &'a Parts) -> Origin<'a> {
    let user_agent = head.headers.get(USER_AGENT).map(HeaderValue::to_str);
    let user_agent = user_agent.and_then(Result::ok).unwrap_or_default();
    Origin { project: &project.id, protocol, user_agent, received: (gateway.clock)() }
}
