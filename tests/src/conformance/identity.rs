//! Cases of identity: ids joined into persons.
//!
//! The source has one kind of id; ours are devices and users. An id that an identify call or an alias speaks as is a user,
//! and so is what an alias names; any other is a device. What the source calls one id is one for us where both of its
//! sides, as a device and as a user, are one person.

use std::collections::{BTreeMap, BTreeSet};

use trackway_domain::event::OrderKey;
use trackway_domain::id::{EventKey, PersonKey, ProjectId};
use trackway_domain::identity::aliases::{AliasGraph, Cause, Moves};
use trackway_domain::identity::place::{Edge, Place};
use trackway_domain::identity::{Link, is_refused, on_event};
use trackway_domain::time::EventTime;

use super::case::{Case, CaseEvent, Fields, Outcome};

const NAN: &str = "ids that say nobody are refused in any spelling here, `Nan` too: no tracker means a person by it";
const TRAITS: &str = "traits of persons are not kept as state here: events carry them, and questions read events";

/// Runs one case.
pub fn run(case: &Case) -> Outcome {
    let query = case.query();
    let _rules_in_words = query.value("rules");
    for key in ["merge", "tenants_before", "event_tenant"] {
        if query.has(key) {
            return Outcome::skipped(format!(
                "`{key}` asks for an operation on stored persons that we have not: {TRAITS}"
            ));
        }
    }
    if case.events.iter().any(|event| event.user == "Nan") {
        return Outcome::skipped(NAN);
    }
    let expected = case.expected();
    let persons = Persons::of(&case.arrivals());
    let mut outcomes = Vec::new();
    if let Some(count) = expected.whole("person_count") {
        outcomes.push(Outcome::equal("person_count", &count, &(persons.all().len() as i64)));
    }
    if let Some(identified) = expected.flag("all_identified") {
        let found = persons.all().iter().all(|ids| persons.is_identified(ids));
        outcomes.push(Outcome::equal("all_identified", &identified, &found));
    }
    if let Some(list) = expected.list("persons") {
        for person in &list {
            match check(person, &persons, case) {
                Ok(mut more) => outcomes.append(&mut more),
                Err(skipped) => return skipped,
            }
        }
        outcomes.push(Outcome::equal("number of persons", &list.len(), &persons.all().len()));
    }
    if outcomes.is_empty() {
        return Outcome::skipped("the case expects nothing that we have");
    }
    Outcome::all(outcomes)
}

fn check(person: &Fields<'_>, persons: &Persons, case: &Case) -> Result<Vec<Outcome>, Outcome> {
    let ids: BTreeSet<String> = texts(person, "ids");
    let mut outcomes = vec![Outcome::equal("is one person", &true, &persons.all().contains(&ids))];
    if let Outcome::Failed { .. } = outcomes[0] {
        outcomes[0] = Outcome::failed(format!("{ids:?} is no person; those are {:?}", persons.all()));
    }
    if let Some(identified) = person.flag("identified") {
        outcomes.push(Outcome::equal("identified", &identified, &persons.is_identified(&ids)));
    }
    if person.has("events") {
        let of = case.events.iter().filter(|event| ids.contains(&event.user));
        let mut found: Vec<&str> = of.map(|event| event.event.as_str()).collect();
        let expected = person.value("events").and_then(serde_json::Value::as_array);
        let mut expected: Vec<&str> = expected.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        outcomes.push(Outcome::equal("events", &expected, &found));
    }
    let others = person.keys().filter(|key| !["ids", "identified", "events"].contains(key));
    for key in others {
        let empty = person.value(key).is_some_and(|value| value.as_object().is_some_and(serde_json::Map::is_empty));
        if !empty {
            return Err(match Outcome::all(outcomes) {
                Outcome::Passed => Outcome::skipped(format!("its persons are right; `{key}`: {TRAITS}")),
                failed => failed,
            });
        }
    }
    Ok(outcomes)
}

fn texts(fields: &Fields<'_>, key: &str) -> BTreeSet<String> {
    let values = fields.value(key).and_then(serde_json::Value::as_array);
    values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// What the domain makes of the events.
struct Persons {
    /// Ids that a person can be told by, each with the keys that stand for it.
    ids: BTreeMap<String, BTreeSet<PersonKey>>,
    users: BTreeSet<PersonKey>,
    links: BTreeMap<PersonKey, Option<Link>>,
    places: BTreeMap<PersonKey, Place>,
    graph: AliasGraph,
}

impl Persons {
    fn of(events: &[&CaseEvent]) -> Self {
        let project = ProjectId::parse("case").expect("a project id");
        let is_user = |id: &str| {
            events.iter().any(|event| match event.event.as_str() {
                "$identify" | "$create_alias" | "$merge_dangerously" => {
                    event.user == id || event.props.get("alias").and_then(serde_json::Value::as_str) == Some(id)
                }
                _ => false,
            })
        };
        let mut persons = Self {
            ids: BTreeMap::new(),
            users: BTreeSet::new(),
            links: BTreeMap::new(),
            places: BTreeMap::new(),
            graph: AliasGraph::default(),
        };
        for (n, event) in (0..).zip(events) {
            let user = PersonKey::of_user(&project, &event.user);
            // An id that says nobody is nobody's user: whoever speaks as it is a device of that name.
            if is_refused(&event.user) || !is_user(&event.user) {
                persons.note(&event.user, PersonKey::of_device(&project, &event.user));
            } else {
                persons.note(&event.user, user);
                persons.users.insert(user);
            }
            let order = OrderKey { time: EventTime(event.time_ms), sequence: 0, key: EventKey(n) };
            let other = |key: &str| event.props.get(key).and_then(serde_json::Value::as_str);
            match event.event.as_str() {
                "$identify" => {
                    let Some(anonymous) = other("anon_id") else { continue };
                    let device = PersonKey::of_device(&project, anonymous);
                    // What is a user already is not anonymous: its device side is nobody's to count.
                    if !is_user(anonymous) {
                        persons.note(anonymous, device);
                    }
                    if !is_refused(&event.user) {
                        persons.identify(device, user, order);
                    }
                }
                "$create_alias" | "$merge_dangerously" => {
                    let Some(alias) = other("alias") else { continue };
                    if is_refused(alias) || is_refused(&event.user) {
                        continue;
                    }
                    let aliased = PersonKey::of_user(&project, alias);
                    persons.note(alias, aliased);
                    let device = PersonKey::of_device(&project, alias);
                    let edges = persons.places.entry(device).or_default().on_alias(device, user);
                    persons.apply(edges.into_iter().flatten());
                    persons.graph.join(user, aliased, Cause::Alias, &mut Moves::new());
                }
                _ => {}
            }
        }
        persons
    }

    fn note(&mut self, id: &str, key: PersonKey) {
        self.ids.entry(id.to_owned()).or_default().insert(key);
    }

    fn identify(&mut self, device: PersonKey, user: PersonKey, order: OrderKey) {
        let link = self.links.entry(device).or_default();
        on_event(user, order, link);
        let user = link.map(|link| link.user);
        let edges = self.places.entry(device).or_default().on_link(device, user);
        self.apply(edges);
    }

    fn apply(&mut self, edges: impl IntoIterator<Item = Edge>) {
        for Edge { holds, a, b, cause } in edges {
            if holds {
                self.graph.join(a, b, cause, &mut Moves::new());
            } else {
                self.graph.part(a, b, cause, &mut Moves::new());
            }
        }
    }

    fn person(&self, key: PersonKey) -> PersonKey {
        let parent = self.places.get(&key).and_then(Place::parent).unwrap_or(key);
        self.graph.person(parent)
    }

    /// Ids of each person.
    fn all(&self) -> BTreeSet<BTreeSet<String>> {
        let mut persons: BTreeMap<PersonKey, BTreeSet<String>> = BTreeMap::new();
        for (id, keys) in &self.ids {
            for key in keys {
                persons.entry(self.person(*key)).or_default().insert(id.clone());
            }
        }
        persons.into_values().collect()
    }

    fn is_identified(&self, ids: &BTreeSet<String>) -> bool {
        let keys = ids.iter().filter_map(|id| self.ids.get(id)).flatten();
        keys.into_iter().any(|key| self.users.contains(&self.person(*key)) || self.person(*key) != *key)
    }
}
