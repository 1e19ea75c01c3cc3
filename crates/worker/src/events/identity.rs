//! Who the visitor of an event is.

use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::{self, Identified};
use trackway_domain::time::ReceivedAt;
use trackway_store::rows::{IdentityChangeRow, IdentityRow, identity_version};
use trackway_wire::log::{LoggedEvent, pb};

use super::{EventsStage, Request, Sender, key_bytes};
use crate::clock::PartitionClock;

impl EventsStage {
    /// Learns whose a device is from an event that names a user. The visitor is held already.
    ///
    /// Who a visitor is holds whoever says it, a bot too: the same person may come from a hosting range today and from
    /// home tomorrow.
    pub(super) fn identify(&mut self, event: &LoggedEvent<'_>, user: Option<PersonKey>, request: &Request<'_>) {
        // A user's server-side self has nothing to learn: an event of it that names another is that other's alone.
        let (Some(user), Sender::Device(id)) = (user, request.sender) else { return };
        let link = &mut self.visitors.get_mut(&request.visitor_key).expect("the visitor is held").link;
        let from = match identity::on_event(user, event.order(), link) {
            Identified::Known => return,
            Identified::Joined => None,
            Identified::Moved { from } => Some(from),
        };
        let user_id = event.user_id.to_owned();
        let row = IdentityRow {
            project: request.project.as_str().into(),
            key: request.visitor_key.0,
            person: user.0,
            visitor_id: id.to_owned(),
            user_id: user_id.clone(),
            at_ms: event.time.0,
            by_alias: false,
            removed: false,
            version: identity_version(request.log_time.0, request.offset),
        };
        if let Some(from) = from {
            self.identities.push(IdentityRow { person: from.0, user_id: String::new(), removed: true, ..row.clone() });
        }
        self.identities.push(row);
        let link = pb::person_step::Step::Link(key_bytes(user));
        let step = pb::PersonStep { step: Some(link), user_id };
        self.entries.step(request.project, request.visitor_key, id, step);
    }

    /// An alias says that another id, of a device or of a user, is this user too. The second stage joins them.
    pub(super) fn on_alias(&mut self, event: &LoggedEvent<'_>, user: Option<PersonKey>, request: &Request<'_>) {
        let (Some(user), other, project) = (user, event.other_id, request.project) else { return };
        if other.is_empty() {
            return;
        }
        if identity::is_refused(other) {
            metrics::counter!("worker_identity_refused_total", "reason" => "placeholder").increment(1);
            return;
        }
        let user_id = if event.user_id.is_empty() { request.sender.id() } else { event.user_id };
        let alias = pb::person_step::Step::Alias(key_bytes(user));
        let step = pb::PersonStep { step: Some(alias), user_id: user_id.to_owned() };
        self.entries.step(project, PersonKey::of_device(project, other), other, step);
        // The id of the very device that speaks is no user's.
        if request.sender != Sender::Device(other) {
            self.entries.alias(project, (user, user_id), (PersonKey::of_user(project, other), other));
        }
    }

    /// A command makes a device a person of its own. Events that named its user stay the user's.
    pub(super) fn on_unmerge(&mut self, unmerge: &pb::VisitorUnmerge, offset: u64, clock: &PartitionClock) {
        let project = ProjectId::parse(&unmerge.project).expect("checked in `decode`");
        let device = PersonKey::of_device(&project, &unmerge.visitor_id);
        let link = self.visitors.get_mut(&device).and_then(|visitor| visitor.link.take());
        if let Some(link) = link {
            self.identities.push(IdentityRow {
                project: project.as_str().into(),
                key: device.0,
                person: link.user.0,
                visitor_id: unmerge.visitor_id.clone(),
                user_id: String::new(),
                at_ms: clock.log_time.0,
                by_alias: false,
                removed: true,
                version: identity_version(clock.log_time.0, offset),
            });
        }
        // Aliases of the device are the second stage's to part.
        let step = pb::PersonStep { step: Some(pb::person_step::Step::Parted(true)), user_id: String::new() };
        self.entries.step(&project, device, &unmerge.visitor_id, step);
        self.rows.identity_changes.push(change_row(
            &project,
            (device, &unmerge.visitor_id),
            (link.map_or(PersonKey(0), |link| link.user), ""),
            unmerge.command.as_ref(),
            clock.log_time,
        ));
    }
}

/// What is kept of a command that parted `one` from `other`.
pub(crate) fn change_row(
    project: &ProjectId,
    one: (PersonKey, &str),
    other: (PersonKey, &str),
    command: Option<&pb::Command>,
    log_time: ReceivedAt,
) -> IdentityChangeRow {
    let command = command.cloned().unwrap_or_default();
    IdentityChangeRow {
        project: project.as_str().into(),
        key: one.0.0,
        id: one.1.to_owned(),
        other: other.0.0,
        other_id: other.1.to_owned(),
        by: command.by,
        reason: command.reason,
        ordered_ms: command.at_ms,
        applied_ms: log_time.0,
    }
}
