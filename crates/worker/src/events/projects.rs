//! Projects that records name.

use std::sync::Arc;

use hashbrown::HashMap;
use metrics::Counter;
use trackway_domain::fate::Fate;
use trackway_domain::id::ProjectId;

use super::row::remembered;

/// One project, and the counters of what became of its events. A counter is found by its labels at a price of several
/// events, so it is looked for once.
#[derive(Debug)]
pub(super) struct Project {
    pub id: ProjectId,
    counted: Counter,
    late: Counter,
    duplicate: Counter,
    rejected: Counter,
}

impl Project {
    fn new(name: &str) -> Self {
        let counter = |fate: Fate| {
            let project = name.to_owned();
            metrics::counter!("worker_events_total", "fate" => fate.as_str(), "project" => project)
        };
        Self {
            id: ProjectId::parse(name).expect("checked in `decode`"),
            counted: counter(Fate::Counted),
            late: counter(Fate::Late),
            duplicate: counter(Fate::Duplicate),
            rejected: counter(Fate::Rejected),
        }
    }

    /// An event of this project met its fate.
    pub fn count(&self, fate: Fate) {
        match fate {
            Fate::Counted => self.counted.increment(1),
            Fate::Late => self.late.increment(1),
            Fate::Duplicate => self.duplicate.increment(1),
            Fate::Rejected => self.rejected.increment(1),
            // The partition stops here; who owns it next meets the event again, and counts it.
            Fate::Retry => {}
        }
    }
}

/// Projects by their names.
#[derive(Debug, Default)]
pub(super) struct Projects {
    known: HashMap<String, Arc<Project>>,
}

impl Projects {
    /// The project of this name, which must be one.
    pub fn of(&mut self, name: &str) -> Arc<Project> {
        remembered(&mut self.known, name, Project::new)
    }
}
