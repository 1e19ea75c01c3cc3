//! A small client of the public contract.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use trackway_query::pb::{
    self, audience_service_client::AudienceServiceClient, identity_service_client::IdentityServiceClient,
    intake_service_client::IntakeServiceClient, query_service_client::QueryServiceClient,
};

/// Longer than a query server takes for any question here, shorter than a test waits.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// An answer that says how complete it is.
pub trait Answer {
    /// How complete it is.
    fn freshness(&self) -> Option<&pb::Freshness>;
}

macro_rules! answers {
    ($($answer:ident)+) => {$(
        impl Answer for pb::$answer {
            fn freshness(&self) -> Option<&pb::Freshness> {
                self.freshness.as_ref()
            }
        }
    )+};
}

answers! {
    FunnelResponse PathsResponse TrendResponse SessionSummaryResponse TouchpointsResponse PersonJourneyResponse
    LagResponse GetAudienceResponse MembersResponse
}

/// Asks a query server. It belongs to the runtime that it was made in.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

/// Defines a method of [`Client`] for each question.
macro_rules! questions {
    ($($service:ident: $($(#[doc = $doc:literal])+ $method:ident($request:ident) -> $response:ident;)+)+) => {
        impl Client {
            $($($(#[doc = $doc])+
            ///
            /// # Errors
            /// What the server says.
            pub async fn $method(&self, request: pb::$request) -> Result<pb::$response, Status> {
                let mut request = tonic::Request::new(request);
                request.set_timeout(ANSWER_MAX);
                let client = &mut $service::new(self.channel.clone()).max_decoding_message_size(64 << 20);
                client.$method(request).await.map(tonic::Response::into_inner)
            })+)+
        }
    };
}

questions! {
    QueryServiceClient:
    /// Persons by step.
    funnel(FunnelRequest) -> FunnelResponse;
    /// Consecutive events.
    paths(PathsRequest) -> PathsResponse;
    /// Events over time.
    trend(TrendRequest) -> TrendResponse;
    /// Sessions.
    session_summary(SessionSummaryRequest) -> SessionSummaryResponse;
    /// Touchpoints by stage.
    touchpoints(TouchpointsRequest) -> TouchpointsResponse;
    /// One person.
    person_journey(PersonJourneyRequest) -> PersonJourneyResponse;
    AudienceServiceClient:
    /// Makes an audience.
    create(CreateAudienceRequest) -> CreateAudienceResponse;
    /// An audience and its totals.
    get(GetAudienceRequest) -> GetAudienceResponse;
    /// Who is in.
    members(MembersRequest) -> MembersResponse;
    IdentityServiceClient:
    /// Parts what was joined wrongly.
    unmerge(UnmergeRequest) -> UnmergeResponse;
    IntakeServiceClient:
    /// What was rejected.
    list_rejected(ListRejectedRequest) -> ListRejectedResponse;
}

impl Client {
    /// For the server on a port of this machine. It connects when it is first asked, and again when that broke.
    #[must_use]
    pub fn new(port: u16) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
        Self { channel: endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy() }
    }

    /// How far tables are behind the log.
    ///
    /// # Errors
    /// What the server says.
    pub async fn lag(&self) -> Result<pb::LagResponse, Status> {
        let mut request = tonic::Request::new(pb::LagRequest {});
        request.set_timeout(ANSWER_MAX);
        QueryServiceClient::new(self.channel.clone()).lag(request).await.map(tonic::Response::into_inner)
    }

    /// Makes an audience of who did `event` at least `count_min` times within `window`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_audience(
        &self,
        (project, name): (&str, &str),
        event: &str,
        count_min: u32,
        window: Duration,
    ) -> Result<(), Status> {
        let window_ms = i64::try_from(window.as_millis()).expect("a short window");
        let rule = pb::EventCountRule { event: event.to_owned(), count_min, window_ms };
        let audience = pb::Audience {
            project: project.to_owned(),
            name: name.to_owned(),
            rule: Some(pb::audience::Rule::EventCount(rule)),
            created_ms: 0,
        };
        self.create(pb::CreateAudienceRequest { audience: Some(audience) }).await.map(drop)
    }

    /// Follows what arrives.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tail(&self, request: pb::TailRequest) -> Result<Streaming<pb::TailResponse>, Status> {
        IntakeServiceClient::new(self.channel.clone()).tail(request).await.map(tonic::Response::into_inner)
    }

    /// Subscribes to an audience; from a cursor on, unless that is empty.
    ///
    /// # Errors
    /// What the server says.
    pub async fn subscribe(
        &self,
        (project, name): (&str, &str),
        cursor: &str,
    ) -> Result<Streaming<pb::SubscribeResponse>, Status> {
        let request =
            pb::SubscribeRequest { project: project.to_owned(), name: name.to_owned(), cursor: cursor.to_owned() };
        AudienceServiceClient::new(self.channel.clone()).subscribe(request).await.map(tonic::Response::into_inner)
    }
}

/// A question about a whole project.
macro_rules! of_project {
    ($($(#[doc = $doc:literal])+ $name:ident($request:ident);)+) => {
        $($(#[doc = $doc])+
        #[must_use]
        pub fn $name(project: &str) -> pb::$request {
            pb::$request { project: project.to_owned(), ..Default::default() }
        })+
    };
}

/// Questions, about all that a project has; fill in the rest.
pub mod about {
    use super::pb;

    of_project! {
        /// Steps are missing.
        funnel(FunnelRequest);
        /// The heaviest 20.
        paths(PathsRequest);
        /// One bucket.
        trend(TrendRequest);
        /// One row.
        sessions(SessionSummaryRequest);
        /// All of them.
        touchpoints(TouchpointsRequest);
        /// Who is missing.
        journey(PersonJourneyRequest);
        /// The name is missing.
        audience(GetAudienceRequest);
        /// The name is missing.
        members(MembersRequest);
        /// The newest 50.
        rejected(ListRejectedRequest);
        /// All that arrives.
        tail(TailRequest);
    }

    /// Steps of one event each.
    #[must_use]
    pub fn steps(names: &[&str]) -> Vec<pb::FunnelStep> {
        names.iter().map(|&name| pb::FunnelStep { events: vec![name.to_owned()] }).collect()
    }
}
