//! Joins the events of keys that are one person, out of a stream that is ordered by key.
//!
//! A key that stands alone is evaluated as soon as the stream has passed it. A key that shares its person with others is
//! held until the stream has passed the last of them, and evaluated over the union. Since the stream and the list of merged
//! keys are in the same order, one step along the list replaces a look-up per event.
//!
//! Order within a person: by time; equal times by key, and within one key as the stream has them (by the tracker's own
//! order, then the event's key).

use std::collections::HashMap;

use trackway_domain::funnel::StepEvent;
use trackway_domain::id::PersonKey;
use trackway_domain::identity::PersonMap;
use trackway_domain::time::EventTime;

use crate::status::Fault;

/// An event that has its place in time.
pub(crate) trait Timed: Copy {
    /// When it happened.
    fn time(&self) -> EventTime;
}

impl Timed for StepEvent {
    fn time(&self) -> EventTime {
        self.time
    }
}

impl Timed for (EventTime, u32) {
    fn time(&self) -> EventTime {
        self.0
    }
}

/// A key that shares its person with other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    key: PersonKey,
    group: u32,
    /// No key of this person comes after it.
    last: bool,
}

/// All keys that share a person, in order.
#[derive(Debug, Default)]
pub(crate) struct MergedKeys {
    members: Vec<Member>,
}

impl MergedKeys {
    /// From pairs "this key's person is that key's", with any number of hops.
    pub(crate) fn new(pairs: &[(u128, u128)]) -> Self {
        let mut map = PersonMap::default();
        for &(key, person) in pairs {
            map.join(PersonKey(key), PersonKey(person));
        }
        map.flatten();
        // (person, key), with the person itself among its keys.
        let mut keys: Vec<(PersonKey, PersonKey)> = map.iter().map(|(key, person)| (person, key)).collect();
        let mut roots: Vec<_> = keys.iter().map(|&(person, _)| (person, person)).collect();
        keys.append(&mut roots);
        keys.sort_unstable();
        keys.dedup();
        let mut group = 0;
        let mut members: Vec<Member> = Vec::with_capacity(keys.len());
        for (at, &(person, key)) in keys.iter().enumerate() {
            let last = keys.get(at + 1).is_none_or(|&(next, _)| next != person);
            members.push(Member { key, group, last });
            group += u32::from(last);
        }
        members.sort_unstable_by_key(|member| member.key);
        Self { members }
    }
}

/// Takes events in the order of their keys; hands out persons.
#[derive(Debug)]
pub(crate) struct Persons<E> {
    merged: MergedKeys,
    /// First member whose key the stream has not passed.
    at: usize,
    key: Option<PersonKey>,
    /// Events of `key`.
    run: Vec<E>,
    /// Events of persons whose last key is still to come.
    held: HashMap<u32, Vec<E>>,
    held_events: usize,
    held_events_max: usize,
}

impl<E: Timed> Persons<E> {
    /// - `held_events_max`: events of merged persons to hold at a time; more is [`Fault::MergedEvents`].
    pub(crate) fn new(merged: MergedKeys, held_events_max: usize) -> Self {
        Self { merged, at: 0, key: None, run: Vec::new(), held: HashMap::new(), held_events: 0, held_events_max }
    }

    /// Takes one event; `evaluate` gets the persons that it completes.
    ///
    /// # Panics
    /// If a key comes after a higher one: the table's order is ours to keep, and a wrong one gives wrong numbers.
    #[inline]
    pub(crate) fn event(&mut self, key: u128, event: E, evaluate: &mut impl FnMut(&[E])) -> Result<(), Fault> {
        let key = PersonKey(key);
        if self.key != Some(key) {
            self.next_key(key, evaluate)?;
        }
        self.run.push(event);
        Ok(())
    }

    /// After the last event.
    pub(crate) fn finish(mut self, evaluate: &mut impl FnMut(&[E])) -> Result<(), Fault> {
        self.end_run(evaluate)?;
        while self.at < self.merged.members.len() {
            self.pass_member(evaluate);
        }
        debug_assert!(self.held.is_empty(), "every group has a last key");
        Ok(())
    }

    #[cold]
    fn next_key(&mut self, key: PersonKey, evaluate: &mut impl FnMut(&[E])) -> Result<(), Fault> {
        if let Some(before) = self.key {
            assert!(before < key, "events of key {key} come after those of {before}");
        }
        self.end_run(evaluate)?;
        while self.merged.members.get(self.at).is_some_and(|member| member.key < key) {
            self.pass_member(evaluate);
        }
        self.key = Some(key);
        Ok(())
    }

    /// All events of `self.key` are in `self.run`.
    fn end_run(&mut self, evaluate: &mut impl FnMut(&[E])) -> Result<(), Fault> {
        let Some(key) = self.key else { return Ok(()) };
        match self.merged.members.get(self.at) {
            // The last key of a person of whom nothing is held is like one that stands alone.
            Some(member) if member.key == key && (!member.last || self.held.contains_key(&member.group)) => {
                self.held_events += self.run.len();
                if self.held_events > self.held_events_max {
                    return Err(Fault::MergedEvents { limit: self.held_events_max });
                }
                self.held.entry(member.group).or_default().append(&mut self.run);
            }
            Some(_) | None => evaluate(&self.run),
        }
        self.run.clear();
        Ok(())
    }

    /// The stream is past the member at `self.at`.
    fn pass_member(&mut self, evaluate: &mut impl FnMut(&[E])) {
        let member = self.merged.members[self.at];
        self.at += 1;
        if member.last
            && let Some(mut events) = self.held.remove(&member.group)
        {
            self.held_events -= events.len();
            // Stable: equal times keep the order of their keys, in which they were appended.
            events.sort_by_key(Timed::time);
            evaluate(&events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = (u128, i64, u32);

    fn persons(pairs: &[(u128, u128)], rows: &[Row], held_max: usize) -> Result<Vec<Vec<(EventTime, u32)>>, Fault> {
        let mut persons = Persons::new(MergedKeys::new(pairs), held_max);
        let mut out = Vec::new();
        let mut evaluate = |events: &[(EventTime, u32)]| out.push(events.to_vec());
        for &(key, time, name) in rows {
            persons.event(key, (EventTime(time), name), &mut evaluate)?;
        }
        persons.finish(&mut evaluate)?;
        out.sort();
        Ok(out)
    }

    /// The meaning: label keys by person until nothing changes, then sort each person's events.
    fn oracle(pairs: &[(u128, u128)], rows: &[Row]) -> Vec<Vec<(EventTime, u32)>> {
        let mut label: Vec<u128> = (0..8).collect();
        loop {
            let before = label.clone();
            for &(a, b) in pairs {
                let low = label[a as usize].min(label[b as usize]);
                (label[a as usize], label[b as usize]) = (low, low);
            }
            if label == before {
                break;
            }
        }
        let mut out = Vec::new();
        for person in 0..8 {
            let mut events: Vec<Row> = rows.iter().filter(|row| label[row.0 as usize] == person).copied().collect();
            events.sort_by_key(|&(key, time, _)| (time, key));
            if !events.is_empty() {
                out.push(events.iter().map(|&(_, time, name)| (EventTime(time), name)).collect());
            }
        }
        out.sort();
        out
    }

    proptest! {
        #[test]
        fn persons_are_the_union_of_their_keys_in_order(
            pairs in prop::collection::vec((0..8_u128, 0..8_u128), 0..8),
            mut rows in prop::collection::vec((0..8_u128, 0..4_i64), 0..16),
        ) {
            rows.sort_unstable();
            // The name tells events apart, so that order within equal times shows.
            let rows: Vec<Row> = (0..).zip(rows).map(|(n, (key, time))| (key, time, n)).collect();
            prop_assert_eq!(persons(&pairs, &rows, usize::MAX).expect("no limit"), oracle(&pairs, &rows));
        }

        #[test]
        fn what_is_held_stays_within_its_limit(
            pairs in prop::collection::vec((0..8_u128, 0..8_u128), 0..8),
            mut rows in prop::collection::vec((0..8_u128, 0..4_i64, 0..3_u32), 0..16),
            limit in 0..8_usize,
        ) {
            rows.sort_unstable();
            match persons(&pairs, &rows, limit) {
                Ok(found) => {
                    let mut expected = oracle(&pairs, &rows);
                    // Equal rows of different keys may stand in either place here; only the limit is of interest.
                    for person in expected.iter_mut() { person.sort(); }
                    let mut found = found;
                    for person in found.iter_mut() { person.sort(); }
                    expected.sort();
                    found.sort();
                    prop_assert_eq!(found, expected);
                }
                Err(Fault::MergedEvents { limit: said }) => prop_assert_eq!(said, limit),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
        }
    }

    #[test]
    fn a_user_without_events_of_its_own_holds_nothing() {
        // The visitor has the higher key, so that its person is complete with it.
        let found = persons(&[(5, 2)], &[(5, 0, 0), (5, 1, 1)], 0).expect("nothing is held");
        assert_eq!(found, [[(EventTime(0), 0), (EventTime(1), 1)]]);
    }

    #[test]
    fn the_limit_of_held_events_is_named() {
        let fault = persons(&[(5, 2)], &[(2, 0, 0), (2, 1, 1)], 1).expect_err("two are held");
        assert!(fault.to_string().contains("more than 1 events"), "{fault}");
    }

    #[test]
    #[should_panic(expected = "come after those of")]
    fn a_stream_out_of_order_is_a_bug() {
        let _ = persons(&[], &[(5, 0, 0), (2, 0, 0)], 0);
    }
}
