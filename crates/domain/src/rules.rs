//! What a project decides, and what a partition decides by. Rules reach state only through the log, so that a replay
//! applies each to the same events.

use std::sync::LazyLock;
use std::time::Duration;

use crate::channel::ChannelRules;
use crate::feedback::{self, FeedbackRule};
use crate::id::ProjectId;
use crate::limits::SESSION_EVENTS_MAX;
use crate::session::zone::Zone;
use crate::touchpoint::TouchpointRule;

/// Rules of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRules {
    /// How sessions are cut.
    pub session: SessionRules,
    /// Which events are touchpoints; the first rule that matches wins.
    pub touchpoints: Vec<TouchpointRule>,
    /// Which events are feedback; the first rule of an event's name counts. Empty: those of [`feedback::usual`].
    pub feedback: Vec<FeedbackRule>,
    /// Where its visitors came from.
    pub channels: ChannelRules,
}

/// How a visitor's events are cut into sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Inactivity that ends a session: an event exactly `gap` after the last still belongs to it. 1 s to 24 h.
    pub gap: Duration,
    /// Length that ends a session: an event more than this after the first begins a new one. 1 min to 7 days.
    pub length_max: Duration,
    /// Number of events that ends a session.
    pub events_max: usize,
    /// The zone whose midnight ends a session. `None`: midnight ends none.
    pub midnight: Option<Zone>,
    /// Whether another campaign begins a session. Coming directly, or from the same campaign again, never does.
    pub split_campaign: bool,
    /// Whether coming from another website (no search engine, no social network) begins a session.
    pub split_referral: bool,
    /// Whether an event of another user begins a session. An event that names no user belongs to whoever was there.
    pub split_user: bool,
    /// Whether what trackers report by themselves (heartbeats, that a page was left) prolongs a session.
    pub passive_extends: bool,
    /// Length and engagement below which a session of one event is a bounce. 0: no session is one.
    pub bounce_below: Duration,
}

impl SessionRules {
    /// What the field takes for granted: 30 min of inactivity, at most a day.
    pub const USUAL: Self = Self {
        gap: Duration::from_mins(30),
        length_max: Duration::from_hours(24),
        events_max: SESSION_EVENTS_MAX,
        midnight: None,
        split_campaign: false,
        split_referral: false,
        split_user: false,
        passive_extends: true,
        // As GA4: ten seconds make a session engaged.
        bounce_below: Duration::from_secs(10),
    };
}

impl ProjectRules {
    /// Which events are feedback.
    #[must_use]
    pub fn feedback(&self) -> &[FeedbackRule] {
        static USUAL: LazyLock<Vec<FeedbackRule>> = LazyLock::new(feedback::usual);
        if self.feedback.is_empty() { &USUAL } else { &self.feedback }
    }

    /// Of a project that decided nothing.
    pub const USUAL: Self = Self {
        session: SessionRules::USUAL,
        touchpoints: Vec::new(),
        feedback: Vec::new(),
        channels: ChannelRules::USUAL,
    };
}

/// Rules of one partition, over all its projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRules {
    /// How far the watermark trails the highest event time seen.
    pub lateness: Duration,
    /// How long a session's state is held after the last event that touched it, in received time.
    pub hold: Duration,
    /// Rows that end a block for ClickHouse.
    pub block_rows_max: u32,
    /// Received time that ends a block for ClickHouse.
    pub block_time: Duration,
    /// Received time after which derived records are sent on.
    pub flush_time: Duration,
    /// Projects with rules of their own; all others have [`ProjectRules::USUAL`].
    pub projects: Vec<(ProjectId, ProjectRules)>,
}

impl PartitionRules {
    /// Before any rule has come through the log.
    pub const USUAL: Self = Self {
        lateness: Duration::from_mins(5),
        hold: Duration::from_hours(24),
        // Large enough to be cheap for ClickHouse (CPU per row falls until about there), small enough to build in memory.
        block_rows_max: 50_000,
        block_time: Duration::from_secs(1),
        flush_time: Duration::from_millis(100),
        projects: Vec::new(),
    };

    /// Rules of one project.
    #[must_use]
    pub fn project(&self, id: &ProjectId) -> &ProjectRules {
        static USUAL: ProjectRules = ProjectRules::USUAL;
        self.projects.iter().find(|(project, _)| project == id).map_or(&USUAL, |(_, rules)| rules)
    }
}
