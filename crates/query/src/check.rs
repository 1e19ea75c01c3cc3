//! Request -> checked question. Nothing is read before this has passed, and nothing behind it checks again.

use std::time::Duration;

use trackway_domain::funnel::FunnelQuery;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::limits::{EVENT_NAME_BYTES_MAX, FUNNEL_STEPS_MAX, ID_BYTES_MAX};
use trackway_domain::paths::PathsQuery;
use trackway_domain::rules::SessionRules;
use trackway_store::queries::{Bots, Interval, Scope, StepFilter, TimeRange};

use crate::pb;

/// Names of events in one step or trend; a longer list is a program's, and belongs into several questions.
const EVENTS_PER_STEP_MAX: usize = 20;
const TREND_EVENTS_MAX: usize = 100;
/// Buckets of a trend: about two years of hours. More is no picture.
const BUCKETS_MAX: i64 = 20_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Longer than any store keeps events; shorter than where sums of times overflow.
const WINDOW_MS_MAX: i64 = 4_000 * DAY_MS;
/// 9999-12-31: what the tables' times can hold, on both sides of 1970.
const TIME_MS_MAX: i64 = 253_402_300_799_999;
const AUDIENCE_COUNT_MAX: u32 = 1_000;
const AUDIENCE_WINDOW_MS: (i64, i64) = (60_000, 400 * DAY_MS);
const PAGE_SIZE_USUAL: u32 = 1_000;
const PAGE_SIZE_MAX: u32 = 10_000;
const EDGES_USUAL: u32 = 20;
const EDGES_MAX: u32 = 1_000;
const TRANSITIONS_USUAL: u32 = 50;
const TRANSITIONS_MAX: u32 = 1_000;
const JOURNEY_EVENTS_USUAL: u32 = 200;
const JOURNEY_EVENTS_MAX: u32 = 10_000;

const REJECTED_USUAL: u32 = 50;
const REJECTED_MAX: u32 = 1_000;
/// Names of protocols and codes of reasons are shorter.
const SHORT_BYTES_MAX: usize = 64;

/// What is wrong with a request: the field, its value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("`{field}` is missing")]
    Missing { field: String },
    #[error("`{field}` has {have} entries, limit is {limit}")]
    Entries { field: String, have: usize, limit: usize },
    #[error("`{field}` is {have} bytes, limit is {limit}")]
    Bytes { field: String, have: usize, limit: usize },
    #[error("`{field}` is {value}, must be {allowed}")]
    Value { field: String, value: String, allowed: String },
    #[error("`range.to_ms` is {to_ms}, must be above `range.from_ms`, which is {from_ms}")]
    Range { from_ms: i64, to_ms: i64 },
    #[error("`range` has about {buckets} buckets of this `interval`, limit is {BUCKETS_MAX}. Choose a wider one")]
    Buckets { buckets: i64 },
}

type Checked<T> = Result<T, BadRequest>;

fn missing(field: &str) -> BadRequest {
    BadRequest::Missing { field: field.to_owned() }
}

fn value(field: &str, value: impl ToString, allowed: impl ToString) -> BadRequest {
    BadRequest::Value { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_string() }
}

/// A value in quotes, cut where it would make a message that nobody reads.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{short}`")
}

/// A funnel, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Funnel {
    pub project: ProjectId,
    pub scope: Scope,
    pub steps: Vec<StepFilter>,
    pub query: FunnelQuery,
}

pub(crate) fn funnel(request: pb::FunnelRequest) -> Checked<Funnel> {
    let project = project(&request.project)?;
    let scope = scope(request.range, request.include_bots)?;
    entries("steps", request.steps.len(), FUNNEL_STEPS_MAX)?;
    let mut steps = Vec::with_capacity(request.steps.len());
    for (n, step) in request.steps.into_iter().enumerate() {
        let field = format!("steps[{n}].events");
        entries(&field, step.events.len(), EVENTS_PER_STEP_MAX)?;
        event_names(&field, &step.events)?;
        steps.push(StepFilter { events: step.events });
    }
    let window = optional_duration("window_ms", request.window_ms, (1, WINDOW_MS_MAX))?;
    let query = FunnelQuery { steps: steps.len(), window };
    Ok(Funnel { project, scope, steps, query })
}

/// Paths, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    pub project: ProjectId,
    pub scope: Scope,
    pub query: PathsQuery,
    pub edges_max: usize,
}

pub(crate) fn paths(request: pb::PathsRequest) -> Checked<Paths> {
    Ok(Paths {
        project: project(&request.project)?,
        scope: scope(request.range, request.include_bots)?,
        query: PathsQuery {
            session_gap: optional_duration("session_gap_ms", request.session_gap_ms, (1_000, DAY_MS))?,
            collapse_repeats: request.collapse_repeats,
        },
        edges_max: count("edges_max", request.edges_max, EDGES_USUAL, EDGES_MAX)? as usize,
    })
}

/// A flow between touchpoints, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TouchpointFlow {
    pub project: ProjectId,
    pub scope: Scope,
    pub gap: Duration,
    pub transitions_max: usize,
}

pub(crate) fn touchpoint_flow(request: pb::TouchpointFlowRequest) -> Checked<TouchpointFlow> {
    let gap = optional_duration("gap_ms", request.gap_ms, (1_000, DAY_MS))?;
    let transitions_max = count("transitions_max", request.transitions_max, TRANSITIONS_USUAL, TRANSITIONS_MAX)?;
    Ok(TouchpointFlow {
        project: project(&request.project)?,
        scope: scope(request.range, request.include_bots)?,
        gap: gap.unwrap_or(SessionRules::USUAL.gap),
        transitions_max: transitions_max as usize,
    })
}

/// A trend, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trend {
    pub project: ProjectId,
    pub scope: Scope,
    pub interval: Interval,
    pub events: Vec<String>,
    pub by_event: bool,
}

pub(crate) fn trend(request: pb::TrendRequest) -> Checked<Trend> {
    let project = project(&request.project)?;
    let range = range(request.range)?;
    let (interval, bucket_ms) = match pb::Interval::try_from(request.interval) {
        Ok(pb::Interval::Unspecified) => (Interval::All, i64::MAX),
        Ok(pb::Interval::Hour) => (Interval::Hour, HOUR_MS),
        Ok(pb::Interval::Day) => (Interval::Day, DAY_MS),
        Ok(pb::Interval::Week) => (Interval::Week, 7 * DAY_MS),
        Ok(pb::Interval::Month) => (Interval::Month, 30 * DAY_MS),
        Err(_) => return Err(value("interval", request.interval, "a value of `Interval`, 0 to 4")),
    };
    // An open range has as many buckets as there are events for; the answer's size is limited all the same.
    if range.from_ms != i64::MIN && range.to_ms != i64::MAX {
        let buckets = (range.to_ms - range.from_ms) / bucket_ms;
        if buckets > BUCKETS_MAX {
            return Err(BadRequest::Buckets { buckets });
        }
    }
    at_most("events", request.events.len(), TREND_EVENTS_MAX)?;
    event_names("events", &request.events)?;
    let scope = Scope { range, bots: bots(request.include_bots) };
    Ok(Trend { project, scope, interval, events: request.events, by_event: request.by_event })
}

/// Who a journey is asked of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Who {
    User(String),
    Visitor(String),
    Person(PersonKey),
}

/// A journey, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Journey {
    pub project: ProjectId,
    pub who: Who,
    pub scope: Scope,
    pub touchpoints_only: bool,
    pub events_max: u32,
}

pub(crate) fn journey(request: pb::PersonJourneyRequest) -> Checked<Journey> {
    use pb::person_journey_request::Who as Asked;
    let project = project(&request.project)?;
    let who = match request.who {
        None => return Err(missing("user_id`, `visitor_id` or `person")),
        Some(Asked::UserId(id)) => Who::User(outside_id("user_id", id)?),
        Some(Asked::VisitorId(id)) => Who::Visitor(outside_id("visitor_id", id)?),
        Some(Asked::Person(hex)) => Who::Person(person("person", &hex)?),
    };
    Ok(Journey {
        project,
        who,
        scope: scope(request.range, request.include_bots)?,
        touchpoints_only: request.touchpoints_only,
        events_max: count("events_max", request.events_max, JOURNEY_EVENTS_USUAL, JOURNEY_EVENTS_MAX)?,
    })
}

/// The rule and name of an audience that may be created.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewAudience {
    pub project: ProjectId,
    pub name: String,
    pub event: String,
    pub count_min: u32,
    pub window_ms: i64,
}

pub(crate) fn new_audience(request: pb::CreateAudienceRequest) -> Checked<NewAudience> {
    let audience = request.audience.ok_or_else(|| missing("audience"))?;
    let project = ProjectId::parse(&audience.project)
        .ok_or_else(|| value("audience.project", quoted(&audience.project), PLAIN_NAME))?;
    let name = plain_name("audience.name", audience.name)?;
    let pb::audience::Rule::EventCount(rule) = audience.rule.ok_or_else(|| missing("audience.event_count"))?;
    event_name("audience.event_count.event", &rule.event)?;
    if !(1..=AUDIENCE_COUNT_MAX).contains(&rule.count_min) {
        return Err(value("audience.event_count.count_min", rule.count_min, format!("1 to {AUDIENCE_COUNT_MAX}")));
    }
    let (low, high) = AUDIENCE_WINDOW_MS;
    if !(low..=high).contains(&rule.window_ms) {
        let allowed = format!("{low} (a minute) to {high} (400 days)");
        return Err(value("audience.event_count.window_ms", rule.window_ms, allowed));
    }
    Ok(NewAudience { project, name, event: rule.event, count_min: rule.count_min, window_ms: rule.window_ms })
}

/// One page of members, ready to be asked. Pages of one walk share `as_of_ms`, so that together they are one truth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Members {
    pub project: ProjectId,
    pub audience: String,
    pub as_of_ms: Option<i64>,
    pub after: PersonKey,
    pub page_size: u32,
}

pub(crate) fn members(request: pb::MembersRequest) -> Checked<Members> {
    let project = project(&request.project)?;
    let audience = plain_name("name", request.name)?;
    let page_size = count("page_size", request.page_size, PAGE_SIZE_USUAL, PAGE_SIZE_MAX)?;
    let asked = as_of(request.as_of_ms)?;
    if request.page_token.is_empty() {
        return Ok(Members { project, audience, as_of_ms: asked, after: PersonKey(0), page_size });
    }
    let token = request.page_token.split_once('.').and_then(|(as_of_ms, person)| {
        Some((as_of_ms.parse().ok().filter(|ms: &i64| in_time(*ms))?, parse_person(person)?))
    });
    let (as_of_ms, after) = token
        .ok_or_else(|| value("page_token", quoted(&request.page_token), "empty, or as the page before gave it"))?;
    match asked {
        Some(asked) if asked != as_of_ms => {
            Err(value("as_of_ms", asked, format!("unset or {as_of_ms}, as on the page that gave `page_token`")))
        }
        Some(_) | None => Ok(Members { project, audience, as_of_ms: Some(as_of_ms), after, page_size }),
    }
}

/// A page of rejected requests, ready to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Empty: what belongs to no project.
    pub project: String,
    pub reason: String,
    pub protocol: String,
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    pub page_size: u32,
    pub page_token: Option<String>,
    pub with_body: bool,
}

pub(crate) fn rejected(request: pb::ListRejectedRequest) -> Checked<Rejected> {
    if !request.project.is_empty() {
        project(&request.project)?;
    }
    short("reason", &request.reason)?;
    short("protocol", &request.protocol)?;
    for (field, ms) in [("since_ms", request.since_ms), ("until_ms", request.until_ms)] {
        if let Some(ms) = ms
            && !in_time(ms)
        {
            return Err(value(field, ms, format!("{} to {TIME_MS_MAX}", -TIME_MS_MAX)));
        }
    }
    Ok(Rejected {
        page_size: count("page_size", request.page_size, REJECTED_USUAL, REJECTED_MAX)?,
        page_token: (!request.page_token.is_empty()).then_some(request.page_token),
        project: request.project,
        reason: request.reason,
        protocol: request.protocol,
        since_ms: request.since_ms,
        until_ms: request.until_ms,
        with_body: request.with_body,
    })
}

/// A page token of elsewhere.
pub(crate) fn bad_page_token(text: &str) -> BadRequest {
    value("page_token", quoted(text), "empty, or as the page before gave it")
}

/// What a tail shows, ready to be followed. Empty text: any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    pub project: ProjectId,
    pub protocol: String,
    pub event: String,
    pub visitor_id: String,
    pub user_id: String,
    pub rejected_only: bool,
}

pub(crate) fn tail(request: pb::TailRequest) -> Checked<Tail> {
    let project = project(&request.project)?;
    short("protocol", &request.protocol)?;
    for (field, text, limit) in [
        ("event", &request.event, EVENT_NAME_BYTES_MAX),
        ("visitor_id", &request.visitor_id, ID_BYTES_MAX),
        ("user_id", &request.user_id, ID_BYTES_MAX),
    ] {
        if !text.is_empty() {
            sized(field, text, limit)?;
        }
    }
    let pb::TailRequest { project: _, protocol, event, visitor_id, user_id, rejected_only } = request;
    Ok(Tail { project, protocol, event, visitor_id, user_id, rejected_only })
}

/// A code or a protocol's name; may be missing.
fn short(field: &str, text: &str) -> Checked<()> {
    match text.len() {
        0 => Ok(()),
        _ => sized(field, text, SHORT_BYTES_MAX),
    }
}

pub(crate) fn page_token(as_of_ms: i64, last: PersonKey) -> String {
    format!("{as_of_ms}.{last}")
}

/// A time that an audience is asked as of.
pub(crate) fn as_of(as_of_ms: Option<i64>) -> Checked<Option<i64>> {
    match as_of_ms {
        Some(ms) if !in_time(ms) => Err(value("as_of_ms", ms, format!("{} to {TIME_MS_MAX}", -TIME_MS_MAX))),
        Some(_) | None => Ok(as_of_ms),
    }
}

pub(crate) fn project(text: &str) -> Checked<ProjectId> {
    if text.is_empty() {
        return Err(missing("project"));
    }
    ProjectId::parse(text).ok_or_else(|| value("project", quoted(text), PLAIN_NAME))
}

const PLAIN_NAME: &str = "1 to 64 of a-z 0-9 _ -";

/// Name of an audience: as short and plain as a project's, since both stand in tables, cursors and addresses.
pub(crate) fn plain_name(field: &str, name: String) -> Checked<String> {
    if name.is_empty() {
        return Err(missing(field));
    }
    if ProjectId::parse(&name).is_none() {
        return Err(value(field, quoted(&name), PLAIN_NAME));
    }
    Ok(name)
}

pub(crate) fn range(range: Option<pb::TimeRange>) -> Checked<TimeRange> {
    let pb::TimeRange { from_ms, to_ms } = range.unwrap_or_default();
    for (field, ms) in [("range.from_ms", from_ms), ("range.to_ms", to_ms)] {
        if let Some(ms) = ms
            && !in_time(ms)
        {
            return Err(value(field, ms, format!("{} to {TIME_MS_MAX}", -TIME_MS_MAX)));
        }
    }
    let range = TimeRange { from_ms: from_ms.unwrap_or(i64::MIN), to_ms: to_ms.unwrap_or(i64::MAX) };
    if range.from_ms >= range.to_ms {
        return Err(BadRequest::Range { from_ms: range.from_ms, to_ms: range.to_ms });
    }
    Ok(range)
}

/// Which events a question is about.
pub(crate) fn scope(asked: Option<pb::TimeRange>, include_bots: bool) -> Checked<Scope> {
    Ok(Scope { range: range(asked)?, bots: bots(include_bots) })
}

fn bots(include: bool) -> Bots {
    if include { Bots::Included } else { Bots::LeftOut }
}

fn in_time(ms: i64) -> bool {
    (-TIME_MS_MAX..=TIME_MS_MAX).contains(&ms)
}

fn entries(field: &str, have: usize, limit: usize) -> Checked<()> {
    if have == 0 { Err(missing(field)) } else { at_most(field, have, limit) }
}

fn at_most(field: &str, have: usize, limit: usize) -> Checked<()> {
    if have > limit { Err(BadRequest::Entries { field: field.to_owned(), have, limit }) } else { Ok(()) }
}

fn event_names(field: &str, names: &[String]) -> Checked<()> {
    names.iter().enumerate().try_for_each(|(n, name)| event_name(&format!("{field}[{n}]"), name))
}

fn event_name(field: &str, name: &str) -> Checked<()> {
    sized(field, name, EVENT_NAME_BYTES_MAX)
}

fn outside_id(field: &str, id: String) -> Checked<String> {
    sized(field, &id, ID_BYTES_MAX).map(|()| id)
}

fn sized(field: &str, text: &str, limit: usize) -> Checked<()> {
    match text.len() {
        0 => Err(missing(field)),
        have if have > limit => Err(BadRequest::Bytes { field: field.to_owned(), have, limit }),
        _ => Ok(()),
    }
}

fn person(field: &str, hex: &str) -> Checked<PersonKey> {
    parse_person(hex).ok_or_else(|| value(field, quoted(hex), "32 hexadecimal digits"))
}

fn parse_person(hex: &str) -> Option<PersonKey> {
    // `from_str_radix` alone would take a sign.
    let fits = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { hex.parse().ok() } else { None }
}

/// 0 is unset.
fn optional_duration(field: &str, ms: i64, (low, high): (i64, i64)) -> Checked<Option<Duration>> {
    match ms {
        0 => Ok(None),
        _ if (low..=high).contains(&ms) => Ok(Some(Duration::from_millis(ms.unsigned_abs()))),
        _ => Err(value(field, ms, format!("0 (no limit) or {low} to {high}"))),
    }
}

/// 0 is the usual number.
fn count(field: &str, have: u32, usual: u32, limit: u32) -> Checked<u32> {
    match have {
        0 => Ok(usual),
        _ if have <= limit => Ok(have),
        _ => Err(value(field, have, format!("0 (then it is {usual}) to {limit}"))),
    }
}

#[cfg(test)]
mod tests;
