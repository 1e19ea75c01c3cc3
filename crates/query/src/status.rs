//! Why a question has no answer, and what the client is told.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use trackway_eventlog::{AppendError, LogError};
use trackway_store::queries::QueryError;

use crate::check::BadRequest;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Request(#[from] BadRequest),
    #[error(
        "project `{project}` has no audience `{audience}`. `trackway ask audience list --project {project}` shows those it has"
    )]
    NoSuchAudience { project: String, audience: String },
    #[error("audience `{audience}` exists with another rule: {have}. Rules do not change: choose another name")]
    AudienceDiffers { audience: String, have: String },
    #[error(
        "audience `{audience}` is made, but the worker did not catch up within {} s, so the audience lacks its past. Create it again when the worker has",
        limit.as_secs()
    )]
    WorkerBehind { audience: String, limit: Duration },
    #[error(transparent)]
    Store(#[from] QueryError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("{limit} questions are being answered, more are not taken at a time. Ask again later")]
    Busy { limit: usize },
    #[error("there are {limit} subscribers and tails, more are not taken")]
    Subscribers { limit: usize },
    #[error("the event log did not give offset {offset} of {partition} within {} s", limit.as_secs())]
    LogSlow { partition: String, offset: u64, limit: Duration },
    #[error("the question took longer than {} s. Narrow its time range", limit.as_secs())]
    Time { limit: Duration },
    #[error(
        "merged persons have more than {limit} events to hold at a time. Narrow the time range, or raise `merged_events_max`"
    )]
    MergedEvents { limit: usize },
    #[error("the events have more than {limit} different names. Narrow the time range, or raise `names_max`")]
    Names { limit: usize },
    #[error("the person has more than {limit} visitors and users, and is no real one")]
    PersonKeys { limit: usize },
    #[error(
        "the cursor points at offset {wanted} of partition {partition}, records before {start} are gone. Begin again without a cursor"
    )]
    CursorGone { partition: u32, wanted: u64, start: u64 },
    #[error("the event log did not say within {} s where it ends", limit.as_secs())]
    TailBegin { limit: Duration },
    #[error(
        "ClickHouse did not say within {} s how far the tables are. The log keeps what was accepted, nothing is lost; look after ClickHouse",
        limit.as_secs()
    )]
    TablesSilent { limit: Duration },
    #[error("this server is stopping. Subscribe again with the last cursor")]
    Stopping,
    #[error("the evaluation of the question ended in a bug; the server's log has its words")]
    Evaluation,
}

impl Fault {
    /// The one place that says which code a fault has.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Request(_) => Code::InvalidArgument,
            Self::NoSuchAudience { .. } => Code::NotFound,
            Self::AudienceDiffers { .. } => Code::AlreadyExists,
            Self::Store(fault) => match fault {
                QueryError::RowsLimit { .. }
                | QueryError::BytesLimit { .. }
                | QueryError::MemoryLimit { .. }
                | QueryError::AnswerLimit { .. } => Code::ResourceExhausted,
                QueryError::TimeLimit { .. } => Code::DeadlineExceeded,
                QueryError::Connection { .. } => Code::Unavailable,
                QueryError::Refused { .. } | QueryError::Answer { .. } => Code::Internal,
            },
            Self::Log(fault) => match fault {
                LogError::Open { .. } | LogError::Operation { .. } => Code::Unavailable,
                LogError::PartitionCount { .. } | LogError::NoSuchTopic { .. } => Code::FailedPrecondition,
                LogError::NotOwned { .. } => Code::Internal,
                LogError::Gone { .. } => Code::OutOfRange,
            },
            Self::Append(fault) => match fault {
                AppendError::NoSuchPartition { .. } => Code::FailedPrecondition,
                AppendError::TooLarge { .. } => Code::Internal,
                AppendError::Unavailable { .. } => Code::Unavailable,
            },
            Self::Busy { .. }
            | Self::Subscribers { .. }
            | Self::MergedEvents { .. }
            | Self::Names { .. }
            | Self::PersonKeys { .. } => Code::ResourceExhausted,
            Self::Time { .. } => Code::DeadlineExceeded,
            Self::CursorGone { .. } => Code::OutOfRange,
            Self::Stopping
            | Self::WorkerBehind { .. }
            | Self::LogSlow { .. }
            | Self::TailBegin { .. }
            | Self::TablesSilent { .. } => Code::Unavailable,
            Self::Evaluation => Code::Internal,
        }
    }

    /// The one place that says how loud a fault is in our own log.
    pub(crate) fn loudness(&self) -> Loudness {
        match self.code() {
            Code::Internal | Code::FailedPrecondition | Code::Unknown | Code::DataLoss | Code::Unimplemented => {
                Loudness::Error
            }
            Code::Unavailable if matches!(self, Self::Stopping) => Loudness::Silent,
            Code::Unavailable | Code::Aborted => Loudness::Warn,
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unauthenticated => Loudness::Silent,
        }
    }

    /// The answer to the client: the fault's words and those of its causes, since who asks is often who operates.
    pub(crate) fn status(&self) -> Status {
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Status::new(self.code(), message)
    }
}

/// Who must hear of a fault, besides the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loudness {
    /// Somebody must act.
    Error,
    /// It passes by itself.
    Warn,
    /// The client's own doing, or a limit that did its work.
    Silent,
}

/// Name of a code, for a metric's label.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}
