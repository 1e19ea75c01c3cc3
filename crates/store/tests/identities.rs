//! Who is one person, by rows that say so and rows that take it back: against the oracle, on small random graphs.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{ALL, Harness, LIMITS, project};
use trackway_domain::id::PersonKey;
use trackway_domain::identity::oracle;
use trackway_store::queries::Interval;
use trackway_store::rows::{EventRow, IdentityRow};

const T: i64 = 1_767_225_600_000;
const KEYS: u128 = 7;

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn event(person: u128) -> EventRow {
    EventRow {
        project: project(),
        person,
        visitor: person,
        time_ms: T,
        event_key: person as u64,
        kind: "track",
        event: "view".to_owned(),
        time_source: "client",
        ..EventRow::default()
    }
}

#[tokio::test]
async fn answers_count_the_components_of_what_was_not_taken_back() {
    let harness = Harness::start().await;
    let events: Vec<EventRow> = (1..=KEYS).map(event).collect();
    let mut random = Random(0x5eed_1234_abcd_0042);
    for round in 0..60 {
        harness.client.query("TRUNCATE TABLE identities").execute().await.unwrap();
        harness.client.query("TRUNCATE TABLE events").execute().await.unwrap();
        harness.store.insert(&events, &format!("{round}/events")).await.unwrap();
        // Rows of before versions, which nothing orders, and rows that grow; each block a part of its own.
        let mut live: BTreeMap<(u128, u128, bool), bool> = BTreeMap::new();
        for version in 0..random.below(14) {
            let (key, person) = (1 + u128::from(random.below(7)), 1 + u128::from(random.below(7)));
            let by_alias = random.below(3) == 0;
            let removed = version > 2 && random.below(3) == 0;
            live.insert((key, person, by_alias), !removed);
            let row = IdentityRow {
                project: project(),
                key,
                person,
                visitor_id: format!("v{key}"),
                user_id: if removed { String::new() } else { format!("u{person}") },
                at_ms: T,
                by_alias,
                removed,
                version: version.saturating_sub(2),
            };
            harness.store.insert(&[row], &format!("{round}/{version}")).await.unwrap();
        }
        let pairs: BTreeSet<(u128, u128)> =
            live.iter().filter(|(_, live)| **live).map(|(&(key, person, _), _)| (key, person)).collect();
        let as_keys: Vec<_> = pairs.iter().map(|&(a, b)| (PersonKey(a), PersonKey(b))).collect();
        let persons: BTreeSet<PersonKey> = (1..=KEYS).map(|key| oracle::person(PersonKey(key), &as_keys)).collect();

        if round % 2 == 1 {
            // What a merge throws away makes no difference.
            harness.client.query("OPTIMIZE TABLE identities FINAL").execute().await.unwrap();
        }
        let got = harness.store.trend("shop", ALL, Interval::All, &[], false, LIMITS).await.unwrap();
        assert_eq!(got[0].persons, persons.len() as u64, "round {round}: {live:?}");
        let listed = harness.store.identities("shop", 100).await.unwrap();
        assert_eq!(listed, pairs.iter().copied().collect::<Vec<_>>(), "round {round}: {live:?}");
        let around = harness.store.identities_of("shop", &[3]).await.unwrap();
        let around: Vec<_> = around.iter().map(|row| (row.key, row.person, row.user_id.clone())).collect();
        let expected = pairs.iter().filter(|(a, b)| *a == 3 || *b == 3);
        assert_eq!(around, expected.map(|&(a, b)| (a, b, format!("u{b}"))).collect::<Vec<_>>(), "round {round}");
    }
    harness.engine.stop().await;
}

#[tokio::test]
async fn aliases_are_followed_however_many_there_are() {
    let harness = Harness::start().await;
    // Each visitor has a user, and each three users are one person: far more than a question takes as parameters.
    let users: u128 = 12_000;
    let row = |key, person, by_alias| IdentityRow {
        project: project(),
        key,
        person,
        by_alias,
        version: 1,
        ..IdentityRow::default()
    };
    let links = (0..users).map(|user| row(1_000_000 + user, 1 + user, false));
    let aliases = (0..users).filter(|user| user % 3 != 0).map(|user| row(1 + user, 1 + user - user % 3, true));
    harness.store.insert(&links.chain(aliases).collect::<Vec<_>>(), "1").await.unwrap();
    let events: Vec<EventRow> = (0..users).map(|user| event(1_000_000 + user)).collect();
    harness.store.insert(&events, "1").await.unwrap();
    let got = harness.store.trend("shop", ALL, Interval::All, &[], false, LIMITS).await.unwrap();
    assert_eq!((got[0].events, got[0].persons), (users as u64, users as u64 / 3));
    harness.engine.stop().await;
}
