//! What one person did, across visitors and sessions.

use std::collections::BTreeSet;

use tokio::time::Instant;
use trackway_domain::id::{PersonKey, ProjectId};
use trackway_domain::identity::PersonMap;
use trackway_store::Store;
use trackway_store::rows::IdentityRow;

use crate::check::{Journey, Who};
use crate::pb;
use crate::service::{Desk, cost};
use crate::status::Fault;

pub(crate) async fn answer(desk: &Desk, asked: Journey) -> Result<pb::PersonJourneyResponse, Fault> {
    let begin = Instant::now();
    let freshness = desk.events_freshness().await?;
    let project = &asked.project;
    let start = match &asked.who {
        Who::User(id) => PersonKey::of_user(project, id),
        Who::Visitor(id) => PersonKey::of_device(project, id),
        Who::Person(key) => *key,
    };
    let store = desk.store.metered();
    let (keys, identities) = keys_of_person(&store, project, start, desk.config.person_keys_max).await?;
    let keys: Vec<u128> = keys.into_iter().collect();
    let rows = store
        .journey(project.as_str(), &keys, asked.scope, asked.touchpoints_only, asked.events_max, desk.config.limits)
        .await?;

    let mut names = Names::of(project, start, &identities);
    if !rows.is_empty() {
        match &asked.who {
            Who::User(id) => names.users.insert(id.clone()),
            Who::Visitor(id) => names.visitors.insert(id.clone()),
            Who::Person(_) => false,
        };
    }
    for row in &rows {
        names.add_id(project, PersonKey(row.visitor), &row.visitor_id);
    }
    let events = rows.into_iter().map(|row| pb::JourneyEvent {
        time_ms: row.time_ms,
        event: row.event,
        touchpoint: row.touchpoint,
        stage: row.stage,
        channel: row.channel,
        url: row.url,
        properties: row.properties,
        visitor_id: row.visitor_id,
        device: row.device,
        bot: row.bot,
    });
    Ok(pb::PersonJourneyResponse {
        person: names.person.to_string(),
        user_ids: names.users.into_iter().collect(),
        visitor_ids: names.visitors.into_iter().collect(),
        events: events.collect(),
        freshness: Some(freshness),
        cost: Some(cost(&store, begin)),
    })
}

/// All keys that are one person with `start`, and the rows that say so: asks for the neighbours of what it has until
/// nothing is new.
async fn keys_of_person(
    store: &Store,
    project: &ProjectId,
    start: PersonKey,
    limit: usize,
) -> Result<(BTreeSet<u128>, Vec<IdentityRow>), Fault> {
    let mut keys = BTreeSet::from([start.0]);
    let mut rows: Vec<IdentityRow> = Vec::new();
    let mut new: Vec<u128> = vec![start.0];
    while !new.is_empty() {
        let found = store.identities_of(project.as_str(), &new).await?;
        new.clear();
        for row in found {
            for key in [row.key, row.person] {
                if keys.insert(key) {
                    new.push(key);
                }
            }
            rows.push(row);
        }
        if keys.len() > limit {
            return Err(Fault::PersonKeys { limit });
        }
    }
    Ok((keys, rows))
}

/// Who a person is, in the words of its trackers.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    person: PersonKey,
    users: BTreeSet<String>,
    visitors: BTreeSet<String>,
}

impl Names {
    fn of(project: &ProjectId, start: PersonKey, identities: &[IdentityRow]) -> Self {
        let mut map = PersonMap::default();
        // In one order whatever order the rows come in, so that a person has one key.
        let mut pairs: Vec<_> = identities.iter().map(|row| (PersonKey(row.key), PersonKey(row.person))).collect();
        pairs.sort_unstable();
        for (key, person) in pairs {
            map.join(key, person);
        }
        let mut names = Self { person: map.person(start), users: BTreeSet::new(), visitors: BTreeSet::new() };
        for row in identities {
            names.add_id(project, PersonKey(row.key), &row.visitor_id);
            if !row.user_id.is_empty() {
                names.users.insert(row.user_id.clone());
            }
        }
        names
    }

    /// An id with its key, which tells what it is: an alias joins a user's key, and servers send users as visitors.
    fn add_id(&mut self, project: &ProjectId, key: PersonKey, id: &str) {
        if id.is_empty() {
            return;
        }
        let of_its_kind = if key == PersonKey::of_user(project, id) { &mut self.users } else { &mut self.visitors };
        if !of_its_kind.contains(id) {
            of_its_kind.insert(id.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_visitors_are_told_apart_by_their_keys() {
        let shop = ProjectId::parse("shop").expect("a project id");
        let (old, new, phone) =
            (PersonKey::of_user(&shop, "old"), PersonKey::of_user(&shop, "new"), PersonKey::of_device(&shop, "phone"));
        let row = |key: PersonKey, person: PersonKey, id: &str, user: &str| IdentityRow {
            key: key.0,
            person: person.0,
            visitor_id: id.into(),
            user_id: user.into(),
            ..IdentityRow::default()
        };
        let rows = [row(phone, old, "phone", "old"), row(old, new, "old", "new")];
        let set = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>();
        let expected = Names { person: new, users: set(&["new", "old"]), visitors: set(&["phone"]) };
        assert_eq!(Names::of(&shop, phone, &rows), expected);
        assert_eq!(Names::of(&shop, new, &rows), expected);
    }
}
