//! The three gRPC services: each method checks its request, waits for a place in line, asks, and counts what it cost. What a
//! question means stands in the file of its name.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use trackway_eventlog::EventLog;
use trackway_store::Store;

use crate::changes::RecentChanges;
use crate::config::Config;
use crate::freshness::{PartitionState, freshness, partition_states};
use crate::server::Clock;
use crate::status::{Fault, Loudness, code_name};
use crate::tail::{self, Tails};
use crate::{
    audience, check, funnel, journey, lag, paths, pb, rejected, sessions, subscribe, touchpoint_flow, touchpoints,
    trend,
};

/// What all questions share.
pub(crate) struct Desk {
    pub config: Config,
    pub store: Store,
    pub log: Arc<dyn EventLog>,
    pub clock: Clock,
    pub changes: RecentChanges,
    /// Who follows what arrives.
    pub tails: Tails,
    /// Partitions of `journeys`.
    pub journeys_partitions: u32,
    pub places: Semaphore,
    pub subscriber_places: Arc<Semaphore>,
    /// One audience is made at a time, so that of two different rules for one name the second is refused.
    pub creating: Mutex<()>,
    /// Ends subscriptions at once; questions have some time left.
    pub stopping: CancellationToken,
}

impl Desk {
    pub(crate) async fn events_state(&self) -> Result<Vec<PartitionState>, Fault> {
        partition_states(&*self.log, &self.store, &self.config.topics.events).await
    }

    pub(crate) async fn journeys_state(&self) -> Result<Vec<PartitionState>, Fault> {
        partition_states(&*self.log, &self.store, &self.config.topics.journeys).await
    }

    /// How complete answers from the first stage are.
    pub(crate) async fn events_freshness(&self) -> Result<pb::Freshness, Fault> {
        Ok(freshness(&self.events_state().await?))
    }

    /// How complete answers from the second stage are, with the state of `journeys`.
    ///
    /// `events` first: progress there means that what follows from it is already in `journeys`, so none is overlooked.
    pub(crate) async fn journeys_freshness(&self) -> Result<(pb::Freshness, Vec<PartitionState>), Fault> {
        let mut all = self.events_state().await?;
        let journeys = self.journeys_state().await?;
        all.extend_from_slice(&journeys);
        Ok((freshness(&all), journeys))
    }

    /// A place in line for one question.
    pub(crate) async fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Fault> {
        match tokio::time::timeout(self.config.queue_time_max, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is closed by nobody; a server that is stopping still answers what it took.
            Ok(Err(_)) => Err(Fault::Stopping),
            Err(_) => Err(Fault::Busy { limit: self.config.queries_max }),
        }
    }

    /// Runs one question in its place, within its time, and counts it.
    async fn answer<T>(
        &self,
        query: &'static str,
        question: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        let limit = self.config.limits.time_max;
        counted(query, async {
            let _place = self.place().await?;
            tokio::time::timeout(limit, question).await.unwrap_or(Err(Fault::Time { limit }))
        })
        .await
    }
}

/// Counts and times what answers a request.
async fn counted<T>(
    query: &'static str,
    question: impl Future<Output = Result<T, Fault>>,
) -> Result<Response<T>, Status> {
    let begin = Instant::now();
    let answer = question.await;
    metrics::histogram!("query_seconds", "query" => query).record(begin.elapsed().as_secs_f64());
    answer.map(Response::new).map_err(|fault| refuse(query, &fault))
}

/// Counts a fault, logs it if it is ours, and makes it the client's answer.
pub(crate) fn refuse(query: &'static str, fault: &Fault) -> Status {
    let status = fault.status();
    metrics::counter!("query_errors_total", "code" => code_name(status.code())).increment(1);
    match fault.loudness() {
        Loudness::Error => tracing::error!(query, fault = status.message(), "a question has no answer"),
        Loudness::Warn => tracing::warn!(query, fault = status.message(), "a question has no answer"),
        Loudness::Silent => {}
    }
    status
}

/// What an answer cost, for the answer and for the metric.
///
/// - `store`: [`Store::metered`] for this answer alone.
pub(crate) fn cost(store: &Store, begin: Instant) -> pb::Cost {
    let read = store.cost();
    metrics::histogram!("query_rows_read").record(read.rows as f64);
    pb::Cost { rows_read: read.rows, bytes_read: read.bytes, seconds: seconds(begin.elapsed()) }
}

/// Microseconds are as much as anybody reads.
fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1e6).round() / 1e6
}

/// All services over one [`Desk`].
#[derive(Clone)]
pub(crate) struct Service(pub Arc<Desk>);

#[tonic::async_trait]
impl pb::query_service_server::QueryService for Service {
    async fn funnel(&self, request: Request<pb::FunnelRequest>) -> Result<Response<pb::FunnelResponse>, Status> {
        self.0.answer("funnel", async { funnel::answer(&self.0, check::funnel(request.into_inner())?).await }).await
    }

    async fn paths(&self, request: Request<pb::PathsRequest>) -> Result<Response<pb::PathsResponse>, Status> {
        self.0.answer("paths", async { paths::answer(&self.0, check::paths(request.into_inner())?).await }).await
    }

    async fn trend(&self, request: Request<pb::TrendRequest>) -> Result<Response<pb::TrendResponse>, Status> {
        self.0.answer("trend", async { trend::answer(&self.0, check::trend(request.into_inner())?).await }).await
    }

    async fn session_summary(
        &self,
        request: Request<pb::SessionSummaryRequest>,
    ) -> Result<Response<pb::SessionSummaryResponse>, Status> {
        self.0.answer("session_summary", sessions::answer(&self.0, request.into_inner())).await
    }

    async fn touchpoint_flow(
        &self,
        request: Request<pb::TouchpointFlowRequest>,
    ) -> Result<Response<pb::TouchpointFlowResponse>, Status> {
        let question = async { touchpoint_flow::answer(&self.0, check::touchpoint_flow(request.into_inner())?).await };
        self.0.answer("touchpoint_flow", question).await
    }

    async fn touchpoints(
        &self,
        request: Request<pb::TouchpointsRequest>,
    ) -> Result<Response<pb::TouchpointsResponse>, Status> {
        self.0.answer("touchpoints", touchpoints::answer(&self.0, request.into_inner())).await
    }

    async fn person_journey(
        &self,
        request: Request<pb::PersonJourneyRequest>,
    ) -> Result<Response<pb::PersonJourneyResponse>, Status> {
        self.0
            .answer("person_journey", async { journey::answer(&self.0, check::journey(request.into_inner())?).await })
            .await
    }

    async fn lag(&self, request: Request<pb::LagRequest>) -> Result<Response<pb::LagResponse>, Status> {
        let pb::LagRequest {} = request.into_inner();
        self.0.answer("lag", lag::answer(&self.0)).await
    }
}

#[tonic::async_trait]
impl pb::audience_service_server::AudienceService for Service {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<pb::SubscribeResponse, Status>> + Send>>;

    async fn create(
        &self,
        request: Request<pb::CreateAudienceRequest>,
    ) -> Result<Response<pb::CreateAudienceResponse>, Status> {
        self.0
            .answer("audience_create", async {
                audience::create(&self.0, check::new_audience(request.into_inner())?).await
            })
            .await
    }

    async fn list(
        &self,
        request: Request<pb::ListAudiencesRequest>,
    ) -> Result<Response<pb::ListAudiencesResponse>, Status> {
        self.0.answer("audience_list", audience::list(&self.0, request.into_inner())).await
    }

    async fn get(&self, request: Request<pb::GetAudienceRequest>) -> Result<Response<pb::GetAudienceResponse>, Status> {
        self.0.answer("audience_get", audience::totals(&self.0, request.into_inner())).await
    }

    async fn members(&self, request: Request<pb::MembersRequest>) -> Result<Response<pb::MembersResponse>, Status> {
        self.0
            .answer("audience_members", async {
                audience::members(&self.0, check::members(request.into_inner())?).await
            })
            .await
    }

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        // It takes a place for its snapshot by itself: what comes before that is mostly waiting.
        counted("audience_subscribe", subscribe::begin(Arc::clone(&self.0), request.into_inner())).await
    }
}

#[tonic::async_trait]
impl pb::intake_service_server::IntakeService for Service {
    type TailStream = Pin<Box<dyn Stream<Item = Result<pb::TailResponse, Status>> + Send>>;

    async fn list_rejected(
        &self,
        request: Request<pb::ListRejectedRequest>,
    ) -> Result<Response<pb::ListRejectedResponse>, Status> {
        self.0
            .answer("rejected", async { rejected::answer(&self.0, check::rejected(request.into_inner())?).await })
            .await
    }

    async fn tail(&self, request: Request<pb::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        counted("tail", async { tail::begin(Arc::clone(&self.0), check::tail(request.into_inner())?).await }).await
    }
}
