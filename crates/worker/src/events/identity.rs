//! Who the visitor of an event is.

use trackway_domain::event::Event;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::{self, Identified};
use trackway_store::rows::IdentityRow;

use super::{EventsStage, Request};

impl EventsStage {
    /// Settles whose an event is: its person, and the key that its row is stored under. The visitor is held already.
    ///
    /// Who a visitor is holds whoever says it, a bot too: the same person may come from a hosting range today and from
    /// home tomorrow.
    pub(super) fn identify(
        &mut self,
        event: &Event,
        user: Option<PersonKey>,
        request: &Request<'_>,
    ) -> (PersonKey, PersonKey) {
        let link = &mut self.visitors.get_mut(&request.visitor_key).expect("the visitor is held").user;
        let person = match identity::on_event(request.visitor_key, user, link) {
            Identified::Known { person } => person,
            Identified::Joined { person } => {
                self.entries.merge(request.project, request.visitor_key, person);
                self.rows.identities.push(IdentityRow {
                    project: request.project.as_str().into(),
                    key: request.visitor_key.0,
                    person: person.0,
                    visitor_id: request.visitor.id().to_owned(),
                    user_id: event.received.user_id.clone().unwrap_or_default(),
                    at_ms: event.time.0,
                });
                person
            }
        };
        (person, identity::stored_under(request.visitor_key, person, *link))
    }

    /// An alias says that another id, of a device or of a user, is this user too. Answers follow it at once, by the table
    /// of identities.
    pub(super) fn on_alias(&mut self, event: &Event, user: Option<PersonKey>, project: &ProjectId) {
        let (Some(user), Some(other)) = (user, &event.received.other_id) else { return };
        if identity::is_refused(other) {
            return;
        }
        for key in [PersonKey::of_user(project, other), PersonKey::of_device(project, other)] {
            if key != user {
                self.rows.identities.push(IdentityRow {
                    project: project.as_str().into(),
                    key: key.0,
                    person: user.0,
                    visitor_id: other.clone(),
                    user_id: event.received.user_id.clone().unwrap_or_else(|| event.visitor.id().to_owned()),
                    at_ms: event.time.0,
                });
            }
        }
    }
}
