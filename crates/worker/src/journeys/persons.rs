//! Who is one person, over all partitions of `journeys`.
//!
//! Every key has one owner, the partition of its hash, which knows below whom it stands ([`Place`]) and holds what it has
//! done. A key that stands below another hands on what it holds, and what is handed on to it, and takes it back when it
//! stands there no longer. What owners tell each other goes through the log in order, so whatever each of them is at, when
//! all is read the topmost key of a person has exactly what its keys have, wherever they are owned. What a key holds itself
//! never leaves its owner: so parting persons needs nothing but to hand on no longer.
//!
//! The users of a project that aliases joined are one graph in one partition, which names each person.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use trackway_domain::audience::Seen;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::identity::aliases::{self, AliasGraph, Cause, Joined, Moves};
use trackway_domain::identity::place::{Edge, Place};
use trackway_domain::time::{EventTime, ReceivedAt};
use trackway_store::rows::IdentityRow;
use trackway_wire::log::pb;

use super::JourneysStage;
use super::outbox::Update;
use crate::clock::PartitionClock;
use crate::events::{change_row, key};

/// One key at its owner.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub place: Place,
    /// The key's own id, where it is known.
    pub id: Box<str>,
    /// Ids of the users that the place names.
    pub user_ids: Vec<(PersonKey, Box<str>)>,
}

impl Standing {
    fn name(&mut self, user: PersonKey, id: &str) {
        if !id.is_empty() && self.user_ids.iter().all(|(known, _)| *known != user) {
            self.user_ids.push((user, id.into()));
        }
    }

    fn user_id(&self, user: PersonKey) -> &str {
        self.user_ids.iter().find(|(known, _)| *known == user).map_or("", |(_, id)| id)
    }

    fn forget_unnamed(&mut self) {
        let Place { link, aliases, person } = &self.place;
        self.user_ids.retain(|(user, _)| [*link, *person].contains(&Some(*user)) || aliases.contains(user));
    }

    /// The pair that aliases alone make: the table's other pairs are the first stage's.
    fn by_alias(&self) -> Option<PersonKey> {
        if self.place.link.is_some() { None } else { self.place.parent() }
    }
}

/// The graph of one project, and what its users are called.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub graph: AliasGraph,
    pub ids: HashMap<PersonKey, Box<str>>,
}

impl JourneysStage {
    pub(super) fn parent(&mut self, of: PersonKey) -> Option<PersonKey> {
        self.places.peek(&of).and_then(|standing| standing.place.parent())
    }

    /// The first stage has learnt something of a device.
    pub(super) fn on_step(
        &mut self,
        project: &Arc<str>,
        device: PersonKey,
        device_id: &str,
        step: &pb::PersonStep,
        clock: &PartitionClock,
    ) {
        use pb::person_step::Step;
        let Some(what) = &step.step else { return };
        let user = match what {
            Step::Link(user) | Step::Alias(user) => match key(user) {
                Ok(user) => Some(user),
                Err(_) => return,
            },
            Step::Parted(_) => None,
        };
        let edges = self.move_key(project, device, clock, |standing| {
            if standing.id.is_empty() {
                standing.id = device_id.into();
            }
            let edges = match (what, user) {
                (Step::Link(_), Some(user)) => Some(standing.place.on_link(device, Some(user))),
                (Step::Alias(_), Some(user)) => standing.place.on_alias(device, user),
                (Step::Parted(_), _) | (_, None) => Some(standing.place.on_parted(device)),
            };
            if let Some(user) = user {
                standing.name(user, &step.user_id);
            }
            let Some(edges) = edges else {
                metrics::counter!("worker_identity_refused_total", "reason" => "device_has_many_users").increment(1);
                return Vec::new();
            };
            let named = |edge: Edge| (edge, standing.user_id(edge.a).to_owned(), standing.user_id(edge.b).to_owned());
            edges.into_iter().map(named).collect()
        });
        for (edge, a_id, b_id) in edges {
            self.outbox.send(graph_home(project), project, Update::Edge { edge, a_id, b_id });
        }
    }

    /// The project's graph names a user's person.
    pub(super) fn on_named(&mut self, project: &Arc<str>, user: PersonKey, named: &pb::Named, clock: &PartitionClock) {
        let Ok(person) = key(&named.person) else { return };
        self.move_key(project, user, clock, |standing| {
            standing.id = named.user_id.as_str().into();
            standing.place.on_person(user, person);
            standing.name(person, &named.person_id);
        });
    }

    /// Changes where a key stands: what it holds is handed on there, and no longer where it stood.
    fn move_key<R>(
        &mut self,
        project: &Arc<str>,
        moved: PersonKey,
        clock: &PartitionClock,
        change: impl FnOnce(&mut Standing) -> R,
    ) -> R {
        let standing = self.places.get_or_insert_with(moved, Standing::default);
        let (from, alias_from) = (standing.place.parent(), standing.by_alias());
        let result = change(standing);
        standing.forget_unnamed();
        let (to, alias_to) = (standing.place.parent(), standing.by_alias());
        let user_id = to.map(|to| standing.user_id(to).to_owned()).unwrap_or_default();
        for (person, removed) in [(alias_from, true), (alias_to, false)] {
            let Some(person) = person.filter(|_| alias_from != alias_to) else { continue };
            self.identities.push(IdentityRow {
                project: project.clone(),
                key: moved.0,
                person: person.0,
                visitor_id: if removed { String::new() } else { standing.id.to_string() },
                user_id: if removed { String::new() } else { user_id.clone() },
                at_ms: clock.log_time.0,
                by_alias: true,
                removed,
                version: self.version,
            });
        }
        if standing.place.is_empty() {
            self.places.remove(&moved);
        }
        if from == to {
            return result;
        }
        if let Some(from) = from {
            self.outbox.send(from, project, Update::AllGone { person: from, via: moved });
        }
        for (number, audience) in (0..).zip(&self.audiences) {
            if audience.project != *project || !self.members.all.contains_key(&(number, moved)) {
                continue;
            }
            let member = self.members.touch((number, moved), to.is_some(), clock);
            member.state.hide(to.is_some(), &audience.rule);
            if let Some(to) = to {
                let names = (if member.user_id.is_empty() { &*user_id } else { &*member.user_id }, &*member.visitor_id);
                self.outbox.has(to, moved, (number, audience), member.state.seen().to_vec(), names);
            }
        }
        result
    }

    /// Something that a key has, or is known to have had: handed on to whom it stands below.
    pub(super) fn hand_on(&mut self, number: u32, of: PersonKey, seen: Vec<Seen>) {
        let Some(standing) = self.places.peek(&of) else { return };
        let Some(to) = standing.place.parent() else { return };
        let Some(member) = self.members.all.peek(&(number, of)) else { return };
        let audience = &self.audiences[number as usize];
        // A device is called by its user's id where its own events name none.
        let user_id = if member.user_id.is_empty() { standing.user_id(to) } else { &member.user_id };
        self.outbox.has(to, of, (number, audience), seen, (user_id, &member.visitor_id));
    }

    /// What a key below this one has, or has no longer.
    pub(super) fn on_handed(
        &mut self,
        project: &Arc<str>,
        person: PersonKey,
        handed: &pb::HandedOn,
        audience: Option<u32>,
        clock: &mut PartitionClock,
    ) {
        use pb::handed_on::Kind;
        let Ok(via) = key(&handed.via) else { return };
        let hidden = self.parent(person).is_some();
        match (handed.kind(), audience) {
            (Kind::Has, Some(number)) => {
                // It may be the first that this partition hears of anybody; without a time nobody would ever leave.
                handed.times_ms.iter().for_each(|&time| clock.on_event(EventTime(time)));
                let member = self.members.touch((number, person), hidden, clock);
                member.name(&handed.user_id, &handed.visitor_id);
                let seen = seen(&handed.times_ms, &handed.keys, &handed.received_ms, via);
                let new = member.state.merge(seen, &self.audiences[number as usize].rule);
                self.hand_on(number, person, new);
            }
            (Kind::HasNoLonger, Some(number)) => {
                let events = handed.times_ms.iter().zip(&handed.keys);
                let events = events.map(|(&time, &key)| (EventTime(time), EventKey(key))).collect();
                self.withdraw(number, person, via, Some(&events), clock);
            }
            (Kind::AllGone, _) => {
                for number in 0..u32::try_from(self.audiences.len()).expect("few audiences") {
                    if self.audiences[number as usize].project == *project {
                        self.withdraw(number, person, via, None, clock);
                    }
                }
            }
            (Kind::Has | Kind::HasNoLonger, None) | (Kind::Unspecified, _) => {}
        }
    }

    fn withdraw(
        &mut self,
        number: u32,
        person: PersonKey,
        via: PersonKey,
        events: Option<&HashSet<(EventTime, EventKey)>>,
        clock: &PartitionClock,
    ) {
        if !self.members.all.contains_key(&(number, person)) {
            return;
        }
        let audience = &self.audiences[number as usize];
        let gone = self.members.touch((number, person), false, clock).state.withdraw(via, events, &audience.rule);
        if let Some(to) = self.parent(person) {
            self.outbox.has_no_longer(to, person, (number, &self.audiences[number as usize]), gone);
        }
    }

    /// An alias joins two users, or a device does or does so no longer. Here is the project's graph.
    pub(super) fn on_edge(&mut self, project: &Arc<str>, edge: Edge, (a_id, b_id): (&str, &str)) {
        let users = self.graphs.entry(project.clone()).or_default();
        let mut moves = Moves::new();
        if edge.holds {
            if users.graph.join(edge.a, edge.b, edge.cause, &mut moves) == Joined::Refused {
                metrics::counter!("worker_identity_refused_total", "reason" => "person_is_too_large").increment(1);
                return;
            }
            for (user, id) in [(edge.a, a_id), (edge.b, b_id)] {
                if !id.is_empty() {
                    users.ids.entry(user).or_insert_with(|| id.into());
                }
            }
        } else {
            users.graph.part(edge.a, edge.b, edge.cause, &mut moves);
        }
        self.tell_moves(project, moves, [edge.a, edge.b]);
    }

    /// A command parts two users.
    pub(super) fn on_unmerge(&mut self, unmerge: &pb::UserUnmerge, clock: &PartitionClock) {
        let Some(project) = ProjectId::parse(&unmerge.project) else { return };
        let ids = [unmerge.user_id.as_str(), unmerge.from_user_id.as_str()];
        let [a, b] = ids.map(|id| PersonKey::of_user(&project, id));
        let name: Arc<str> = project.as_str().into();
        let mut moves = Moves::new();
        if let Some(users) = self.graphs.get_mut(&name) {
            users.graph.part_wholly(a, b, &mut moves);
            self.tell_moves(&name, moves, [a, b]);
        }
        // Aliases of before there was a graph stand in the table alone.
        for (key, person) in [(a, b), (b, a)] {
            self.identities.push(IdentityRow {
                project: name.clone(),
                key: key.0,
                person: person.0,
                visitor_id: String::new(),
                user_id: String::new(),
                at_ms: clock.log_time.0,
                by_alias: false,
                removed: true,
                version: self.version,
            });
        }
        let row = change_row(&project, (a, ids[0]), (b, ids[1]), unmerge.command.as_ref(), clock.log_time);
        self.identity_changes.push(row);
    }

    fn tell_moves(&mut self, project: &Arc<str>, moves: Moves, touched: [PersonKey; 2]) {
        let users = self.graphs.get_mut(project).expect("it was changed just now");
        for (&user, &person) in &moves {
            let id = |key: PersonKey| users.ids.get(&key).map_or("", |id| id).to_owned();
            let update = Update::Named { user, person, user_id: id(user), person_id: id(person) };
            self.outbox.send(user, project, update);
        }
        for user in moves.into_keys().chain(touched) {
            if !users.graph.has(user) {
                users.ids.remove(&user);
            }
        }
        if users.graph.is_empty() {
            self.graphs.remove(project);
        }
    }
}

/// The key whose partition holds a project's graph.
fn graph_home(project: &str) -> PersonKey {
    aliases::home(&ProjectId::parse(project).expect("it came from a project"))
}

/// From a message's parallel lists.
pub(super) fn seen<'a>(
    times_ms: &'a [i64],
    keys: &'a [u64],
    received_ms: &'a [i64],
    via: PersonKey,
) -> impl Iterator<Item = Seen> + 'a {
    times_ms.iter().zip(keys).zip(received_ms).map(move |((&time, &key), &received)| Seen {
        time: EventTime(time),
        key: EventKey(key),
        via,
        received: ReceivedAt(received),
    })
}

/// From a message.
pub(super) fn edge_from_pb(edge: &pb::UserEdge) -> Option<Edge> {
    let cause = Cause::Device(key(&edge.device).ok()?);
    Some(Edge { holds: edge.holds, a: key(&edge.a).ok()?, b: key(&edge.b).ok()?, cause })
}
