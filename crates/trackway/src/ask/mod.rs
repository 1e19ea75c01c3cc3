//! `trackway ask`: questions to a query server, answered in the terminal or as JSON.
//!
//! One file per concern: [`questions`] is what can be typed and [`args`] reads its values, [`answers`] makes the text and
//! [`json`] the documents, all pure, and [`lag`] is both for lag; [`watch`] follows an audience, [`tail`] what arrives; this one connects, asks and explains what went wrong.

mod answers;
mod args;
mod flow;
mod json;
mod lag;
mod questions;
mod tail;
mod text;
mod watch;

use std::io::{IsTerminal, Write};

use anyhow::Context as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use trackway_query::pb;
use trackway_query::pb::audience_service_client::AudienceServiceClient;
use trackway_query::pb::intake_service_client::IntakeServiceClient;
use trackway_query::pb::query_service_client::QueryServiceClient;

pub use questions::{AskArgs, RejectedFilter};
use questions::{AudienceQuestion, Interval, Question};
use text::Look;

/// Longer answers than tonic takes by itself (4 MiB): journeys and trends by event.
const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Members on one page of a list that is longer.
const PAGE_SIZE: u32 = 10_000;
/// Rejected requests on one page of a list that is longer.
const REJECTED_PAGE_SIZE: u32 = 1_000;

/// Asks, and prints the answer.
///
/// # Errors
/// One sentence for a person, with what to do next.
pub async fn run(args: AskArgs) -> anyhow::Result<()> {
    let look = Look { colour: std::io::stdout().is_terminal(), ..Look::PLAIN };
    let asker = Asker { server: args.server, json: args.json, look };
    let text = match args.question {
        Question::Audience(AudienceQuestion::Watch { name, project, cursor_file }) => {
            return watch::run(&asker, &project, &name, cursor_file.as_deref()).await;
        }
        Question::Audience(question) => asker.audience(question).await?,
        Question::Tail { project, protocol, event, visitor, user, rejected } => {
            let request = pb::TailRequest {
                project,
                protocol: protocol.unwrap_or_default(),
                event: event.unwrap_or_default(),
                visitor_id: visitor.unwrap_or_default(),
                user_id: user.unwrap_or_default(),
                rejected_only: rejected,
            };
            return tail::run(&asker, &request).await;
        }
        Question::Rejected { filter, limit, bodies } => {
            let mut client = asker.intake_client().await?;
            let answer = rejected(&mut client, filter.request(0, bodies), limit).await;
            let answer = answer.map_err(|status| explain(&status, &asker.server))?;
            asker.shape(&answer, json::rejected, answers::rejected)
        }
        Question::Funnel { .. }
        | Question::Paths { .. }
        | Question::Trend { .. }
        | Question::Sessions { .. }
        | Question::Touchpoints { .. }
        | Question::Flow { .. }
        | Question::Journey { .. }
        | Question::Lag => asker.query(args.question).await?,
    };
    print(&text).map(|_read| ())
}

/// How to ask and how to answer.
struct Asker {
    server: String,
    json: bool,
    look: Look,
}

impl Asker {
    async fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Channel::from_shared(self.server.clone()).with_context(|| {
            format!("`--server` is `{}`, must be an address such as http://127.0.0.1:7071", self.server)
        })?;
        endpoint.connect().await.map_err(|error| {
            anyhow::anyhow!(
                "no query server answers at {} ({}). Start one with `trackway up` (or `trackway query`), or name another \
                 with `--server`",
                self.server,
                last_cause(&error)
            )
        })
    }

    async fn query(&self, question: Question) -> anyhow::Result<String> {
        let mut client = QueryServiceClient::new(self.channel().await?).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let explain = |status: Status| explain(&status, &self.server);
        Ok(match question {
            Question::Funnel { scope, steps, window, include_bots } => {
                let steps = steps.0.into_iter().map(|events| pb::FunnelStep { events }).collect();
                let window_ms = window.unwrap_or(0);
                let request =
                    pb::FunnelRequest { range: scope.range(), project: scope.project, steps, window_ms, include_bots };
                let answer = client.funnel(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::funnel, answers::funnel)
            }
            Question::Paths { scope, top, session_gap, collapse_repeats, include_bots } => {
                let request = pb::PathsRequest {
                    range: scope.range(),
                    project: scope.project,
                    edges_max: top,
                    session_gap_ms: session_gap.unwrap_or(0),
                    collapse_repeats,
                    include_bots,
                };
                let answer = client.paths(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::paths, answers::paths)
            }
            Question::Trend { scope, interval, events, by_event, include_bots } => {
                let request = pb::TrendRequest {
                    range: scope.range(),
                    project: scope.project,
                    interval: interval.map_or(pb::Interval::Unspecified, Interval::to_pb).into(),
                    events: events.map(|names| names.0).unwrap_or_default(),
                    by_event,
                    include_bots,
                };
                let answer = client.trend(request).await.map_err(explain)?.into_inner();
                let hours = matches!(interval, Some(Interval::Hour));
                self.shape(&answer, json::trend, |answer, look| answers::trend(answer, hours, look))
            }
            Question::Sessions { scope, by_channel } => {
                let request = pb::SessionSummaryRequest { range: scope.range(), project: scope.project, by_channel };
                let answer = client.session_summary(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::sessions, answers::sessions)
            }
            Question::Touchpoints { scope, include_bots } => {
                let request = pb::TouchpointsRequest { range: scope.range(), project: scope.project, include_bots };
                let answer = client.touchpoints(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::touchpoints, answers::touchpoints)
            }
            Question::Flow { scope, gap, top, include_bots } => {
                let request = pb::TouchpointFlowRequest {
                    range: scope.range(),
                    project: scope.project,
                    include_bots,
                    gap_ms: gap.unwrap_or(0),
                    transitions_max: top,
                };
                let answer = client.touchpoint_flow(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::touchpoint_flow, flow::touchpoint_flow)
            }
            Question::Journey { scope, who, touchpoints_only, last, include_bots } => {
                use pb::person_journey_request::Who as Asked;
                let user = who.user.map(Asked::UserId);
                let visitor = who.visitor.map(Asked::VisitorId);
                let request = pb::PersonJourneyRequest {
                    range: scope.range(),
                    project: scope.project,
                    who: user.or(visitor).or(who.person.map(Asked::Person)),
                    touchpoints_only,
                    events_max: last,
                    include_bots,
                };
                let answer = client.person_journey(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::journey, answers::journey)
            }
            Question::Lag => {
                let mut look = async || client.lag(pb::LagRequest {}).await.map(tonic::Response::into_inner);
                let mut looks = lag::Looks { before: None, now: look().await.map_err(explain)? };
                if lag::needs_second_look(&looks.now) {
                    tokio::time::sleep(lag::BETWEEN).await;
                    let now = look().await.map_err(explain)?;
                    looks.before = Some(std::mem::replace(&mut looks.now, now));
                }
                self.shape(&looks, lag::json, lag::text)
            }
            Question::Audience(_) => unreachable!("audiences have their own service"),
            Question::Rejected { .. } | Question::Tail { .. } => unreachable!("what arrives has its own service"),
        })
    }

    async fn audience_client(&self) -> anyhow::Result<AudienceServiceClient<Channel>> {
        Ok(AudienceServiceClient::new(self.channel().await?).max_decoding_message_size(RESPONSE_BYTES_MAX))
    }

    async fn intake_client(&self) -> anyhow::Result<IntakeServiceClient<Channel>> {
        Ok(IntakeServiceClient::new(self.channel().await?).max_decoding_message_size(RESPONSE_BYTES_MAX))
    }

    async fn audience(&self, question: AudienceQuestion) -> anyhow::Result<String> {
        let mut client = self.audience_client().await?;
        let explain = |status: Status| explain(&status, &self.server);
        Ok(match question {
            AudienceQuestion::Create { name, project, event, count, window } => {
                let rule = pb::EventCountRule { event, count_min: count, window_ms: window };
                let audience =
                    pb::Audience { project, name, rule: Some(pb::audience::Rule::EventCount(rule)), created_ms: 0 };
                let request = pb::CreateAudienceRequest { audience: Some(audience) };
                let audience = client.create(request).await.map_err(explain)?.into_inner().audience.unwrap_or_default();
                self.shape(&audience, json::audience, answers::audience_created)
            }
            AudienceQuestion::List { project } => {
                let answer = client.list(pb::ListAudiencesRequest { project }).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::audiences, answers::audiences)
            }
            AudienceQuestion::Get { name, project, as_of } => {
                let request = pb::GetAudienceRequest { project, name, as_of_ms: as_of };
                let answer = client.get(request).await.map_err(explain)?.into_inner();
                self.shape(&answer, json::audience_totals, answers::audience_totals)
            }
            AudienceQuestion::Members { name, project, as_of, limit } => {
                let answer = members(&mut client, &project, &name, as_of, limit).await.map_err(explain)?;
                self.shape(&answer, json::members, answers::members)
            }
            AudienceQuestion::Watch { .. } => unreachable!("watching prints by itself"),
        })
    }

    fn shape<A>(&self, answer: &A, json: fn(&A) -> serde_json::Value, text: impl Fn(&A, Look) -> String) -> String {
        if self.json { format!("{:#}\n", json(answer)) } else { text(answer, self.look) }
    }
}

/// Pages until there are `limit` or no more. The token that is left tells that there are more.
async fn members(
    client: &mut AudienceServiceClient<Channel>,
    project: &str,
    name: &str,
    as_of_ms: Option<i64>,
    limit: u32,
) -> Result<pb::MembersResponse, Status> {
    let mut all = pb::MembersResponse::default();
    loop {
        let missing = limit.saturating_sub(u32::try_from(all.members.len()).unwrap_or(u32::MAX));
        let page = client
            .members(pb::MembersRequest {
                project: project.to_owned(),
                name: name.to_owned(),
                as_of_ms,
                page_size: missing.clamp(1, PAGE_SIZE),
                page_token: std::mem::take(&mut all.next_page_token),
            })
            .await?
            .into_inner();
        all.members.extend(page.members);
        (all.as_of_ms, all.next_page_token, all.freshness) = (page.as_of_ms, page.next_page_token, page.freshness);
        if all.next_page_token.is_empty() || all.members.len() >= limit as usize {
            return Ok(all);
        }
    }
}

/// Pages until there are `limit` or no more, as [`members`].
async fn rejected(
    client: &mut IntakeServiceClient<Channel>,
    mut request: pb::ListRejectedRequest,
    limit: u32,
) -> Result<pb::ListRejectedResponse, Status> {
    let mut all = pb::ListRejectedResponse::default();
    loop {
        let missing = limit.saturating_sub(u32::try_from(all.requests.len()).unwrap_or(u32::MAX));
        request.page_size = missing.clamp(1, REJECTED_PAGE_SIZE);
        request.page_token = std::mem::take(&mut all.next_page_token);
        let page = client.list_rejected(request.clone()).await?.into_inner();
        all.requests.extend(page.requests);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.requests.len() >= limit as usize {
            return Ok(all);
        }
    }
}

/// Writes to standard output. False: the reader went away (`| head`), which is no error.
fn print(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write the answer to standard output"),
    }
}

/// The innermost reason: "Connection refused" says more than what is wrapped around it.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What a refusal means to the person who asked: one sentence, and what to do next.
fn explain(status: &Status, server: &str) -> anyhow::Error {
    let words = text::clean(status.message());
    anyhow::anyhow!(match status.code() {
        Code::InvalidArgument => format!("the question cannot be asked like this: {words}"),
        Code::NotFound | Code::AlreadyExists | Code::OutOfRange => words,
        Code::ResourceExhausted => format!("the question is too large for the server: {words}"),
        Code::DeadlineExceeded => format!("the question took too long: {words}"),
        Code::FailedPrecondition => format!("the server at {server} is not set up: {words}"),
        Code::Unavailable => format!("the server at {server} cannot answer now: {words}. Try again in a moment"),
        Code::Unimplemented => format!(
            "the server at {server} does not know this question. Is it a Trackway query server of this version?"
        ),
        Code::Cancelled => "the question was cancelled".to_owned(),
        Code::PermissionDenied | Code::Unauthenticated =>
            format!("the server at {server} does not let you ask: {words}"),
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Aborted | Code::Ok =>
            format!("the server at {server} could not answer: {words}. Its log says more"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sentences() {
        let error = explain(&Status::invalid_argument("`steps` has 40 entries, limit is 32"), "http://x");
        assert_eq!(error.to_string(), "the question cannot be asked like this: `steps` has 40 entries, limit is 32");
        let error = explain(&Status::unavailable("query `trend` got no answer from ClickHouse"), "http://x");
        assert_eq!(
            error.to_string(),
            "the server at http://x cannot answer now: query `trend` got no answer from ClickHouse. Try again in a moment"
        );
    }
}
