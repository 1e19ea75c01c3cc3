use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A log's time, and a claim at it of a record that came without delay.
fn claim(known: &mut KnownEvents, key: u64, source: KeySource, at: i64) -> bool {
    let Ok(is_new) = known.claim(EventKey(key), source, ReceivedAt(at), ReceivedAt(at));
    is_new
}

#[test]
fn an_id_is_known_for_a_week_and_forgotten_after_eight_days() {
    let mut known = KnownEvents::default();
    assert!(claim(&mut known, 1, KeySource::Id, DAY_MS - 1));
    assert!(!claim(&mut known, 1, KeySource::Id, DAY_MS - 1 + 7 * DAY_MS));
    assert!(claim(&mut known, 1, KeySource::Id, 8 * DAY_MS));
}

#[test]
fn equal_content_is_known_for_ten_seconds_from_its_first() {
    let mut known = KnownEvents::default();
    assert!(claim(&mut known, 1, KeySource::Content, 0));
    assert!(!claim(&mut known, 1, KeySource::Content, 10_000));
    assert!(claim(&mut known, 1, KeySource::Content, 10_001));
    assert!(claim(&mut known, 1, KeySource::Id, 10_001));
}

#[test]
fn a_copy_that_an_outage_held_up_is_known_by_its_own_time() {
    let mut known = KnownEvents::default();
    let mut late = |received, now| {
        let Ok(is_new) = known.claim(EventKey(1), KeySource::Content, ReceivedAt(received), ReceivedAt(now));
        is_new
    };
    assert!(late(0, 0));
    assert!(late(60_000, 60_000), "a minute later it is another event");
    assert!(!late(0, 61_000), "the first one's copy");
    assert!(!late(60_000, 61_000), "the second one's");
    // Both sides of the window, from a record that came before its time.
    assert!(late(40_000, 61_000) && !late(30_000, 61_000) && !late(50_000, 61_000) && late(29_999, 61_000));
}

#[test]
fn equal_content_is_forgotten_a_day_after_it_was_claimed() {
    let mut known = KnownEvents::default();
    let mut claim = |now| {
        let Ok(is_new) = known.claim(EventKey(1), KeySource::Content, ReceivedAt(0), ReceivedAt(now));
        is_new
    };
    assert!(claim(5_000));
    assert!(!claim(5_000 + DAY_MS));
    assert!(claim(5_001 + DAY_MS));
}

/// An archive in memory. Every so manieth thing that it is asked to write fails.
#[derive(Debug, Clone, Default)]
struct Shelf {
    fails_every: usize,
    asked: usize,
    /// What was written cannot be read.
    forgets: bool,
}

#[derive(Debug)]
struct ShelfBlocks {
    blocks: Vec<Vec<u64>>,
    is_finished: bool,
    forgets: bool,
    fails_in: usize,
}

/// A block could not be written or read.
#[derive(Debug, PartialEq)]
struct Broken;

impl Archive for Shelf {
    type Blocks = ShelfBlocks;

    fn begin(&mut self, _day: i64) -> Option<ShelfBlocks> {
        self.asked += 1;
        let fails = |every: usize| self.fails_every > 0 && self.asked.is_multiple_of(every);
        if fails(self.fails_every.max(1) * 2) {
            return None;
        }
        let fails_in = if fails(self.fails_every.max(1)) { self.asked % 3 } else { usize::MAX };
        Some(ShelfBlocks { blocks: Vec::new(), is_finished: false, forgets: self.forgets, fails_in })
    }

    fn on_failure(&mut self, _day: i64, _error: Broken) {}
}

impl Blocks for ShelfBlocks {
    type Error = Broken;

    fn append(&mut self, places: &[u64]) -> Result<(), Broken> {
        self.fails_in = self.fails_in.checked_sub(1).ok_or(Broken)?;
        self.blocks.push(places.to_vec());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Broken> {
        self.is_finished = true;
        Ok(())
    }

    fn read(&self, block: usize, places: &mut Vec<u64>) -> Result<(), Broken> {
        assert!(self.is_finished, "read before the last block was written");
        if self.forgets {
            return Err(Broken);
        }
        places.clone_from(&self.blocks[block]);
        Ok(())
    }
}

#[test]
fn a_day_that_cannot_be_read_gives_no_answer_and_claims_nothing() {
    let mut known = KnownEvents::new(Memory::USUAL, Shelf { forgets: true, ..Shelf::default() });
    let mut claim = |key, day| {
        let at = ReceivedAt(day * DAY_MS);
        known.claim(EventKey(key), KeySource::Id, at, at)
    };
    assert_eq!(claim(1, 0), Ok(true));
    // The first claims of the next day put it away: one begins, one writes its only block.
    assert_eq!((claim(1, 1), claim(2, 1)), (Ok(false), Ok(true)));
    assert_eq!(claim(1, 1), Err(Broken));
    assert_eq!(known.len(), 2);
    assert_eq!(known.start_over(), Err(Broken));
}

/// What a snapshot and all deltas after it add up to.
#[derive(Default)]
struct Saved {
    ids: BTreeMap<i64, Vec<u64>>,
    content: Vec<ContentClaim>,
    content_len: usize,
}

impl Saved {
    fn add<A: Archive>(&mut self, known: &mut KnownEvents<A>) {
        let Claimed { ids, content } = known.take_claimed();
        ids.into_iter().for_each(|(day, ids)| self.ids.entry(day).or_default().extend(ids));
        let days: Vec<i64> = known.days().collect();
        self.ids.retain(|day, _| days.contains(day));
        self.content.extend(content);
        self.content_len = known.content_len();
    }

    fn restored<A: Archive>(&self, known: KnownEvents<A>) -> KnownEvents<A> {
        let ids = self.ids.iter().rev().map(|(day, ids)| (*day, ids.clone()));
        known.restored(ids, self.content[self.content.len() - self.content_len..].iter().copied())
    }
}

/// What happens beside claims.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Nothing,
    Save,
    /// Out of what was saved so far; what was claimed since is claimed again, as a replay does.
    Restart,
    /// Not in memory any more, from here on.
    PutAway,
    StartOver,
}

fn beside() -> impl Strategy<Value = Beside> {
    use Beside::{Nothing, PutAway, Restart, Save, StartOver};
    prop_oneof![6 => Just(Nothing), 2 => Just(Save), 1 => Just(Restart), 1 => Just(PutAway), 1 => Just(StartOver)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Ids over many short days, in an archive that fails now and then, saved and restored at any moment, against looking
    /// through all claims that counted.
    #[test]
    fn ids_claimed_equal_remembering_all(
        // A pause may skip days; keys lie close together, and some have a whole block of others behind them.
        steps in prop::collection::vec((0..12_u64, 0..9_i64, beside()), 0..60),
        bulk in 0..3_u64,
        window in 0..12_u64,
        fails_every in 0..4_usize,
    ) {
        const DAY: i64 = 4;
        let memory = Memory { window: Duration::from_millis(window), day: Duration::from_millis(DAY as u64) };
        let shelf = Shelf { fails_every, ..Shelf::default() };
        let mut known = KnownEvents::new(memory, shelf.clone());
        let mut counted: Vec<(u64, i64)> = Vec::new();
        let (mut saved, mut unsaved) = (Saved::default(), Vec::new());
        let mut now = 0;
        let id = |known: &mut KnownEvents<Shelf>, key, now| {
            known.claim(EventKey(key), KeySource::Id, ReceivedAt(now), ReceivedAt(now))
        };
        for (n, (key, pause, beside)) in (0..).zip(steps) {
            now += pause;
            // It is known until the day of its claim is over by the window.
            let is_known = |key: u64, at: i64| (at.div_euclid(DAY) + 1) * DAY + window as i64 > now && key < u64::MAX;
            let mut keys = vec![key];
            if key == 0 {
                keys.extend((0..bulk * 200).map(|more| (n << 32) + 100 + more));
            }
            for key in keys {
                let expected = !counted.iter().any(|&(old, at)| old == key && is_known(key, at));
                prop_assert_eq!(id(&mut known, key, now), Ok(expected));
                unsaved.push((key, now));
                if expected {
                    counted.push((key, now));
                }
            }
            counted.retain(|&(key, at)| is_known(key, at));
            match beside {
                Beside::Nothing => {}
                Beside::Save => {
                    saved.add(&mut known);
                    unsaved.clear();
                }
                Beside::Restart => {
                    known = saved.restored(KnownEvents::new(memory, shelf.clone()));
                    for &(key, at) in &unsaved {
                        id(&mut known, key, at).expect("it is read");
                    }
                }
                Beside::PutAway => known.put_away_in(shelf.clone()),
                Beside::StartOver => {
                    known.start_over().expect("it is read");
                    saved = Saved::default();
                    saved.add(&mut known);
                    unsaved.clear();
                }
            }
            prop_assert_eq!(known.len(), counted.len());
        }
    }

    /// Content, against looking through all that counted: records that come up to a minute, or more than a day, after
    /// they were received, in any order. Times are whole seconds and their neighbours, so that both ends of the
    /// window and of the memory are met often.
    #[test]
    fn content_claimed_equals_looking_through_all_that_counted(
        steps in prop::collection::vec((0..2_u64, 0..15_i64, -1..=1_i64, 0..60_i64, 0..40_u8), 0..60),
        restart in 0..60_usize,
    ) {
        let mut known = KnownEvents::default();
        let mut counted: Vec<ContentClaim> = Vec::new();
        let mut saved = Saved::default();
        let mut now = 0;
        for (n, (key, pause, jitter, delay, day)) in steps.into_iter().enumerate() {
            now += pause * 1_000 + if day == 0 { DAY_MS - 20_000 } else { 0 };
            let claim = ContentClaim {
                key,
                received: ReceivedAt((now - delay * 1_000 + jitter).min(now)),
                claimed: ReceivedAt(now),
            };
            let expected = !counted.iter().any(|old| {
                old.key == key
                    && now - old.claimed.0 <= DAY_MS
                    && (old.received.0 - claim.received.0).abs() <= 10_000
            });
            let got = known.claim(EventKey(key), KeySource::Content, claim.received, claim.claimed);
            prop_assert_eq!(got, Ok::<_, Infallible>(expected));
            if expected {
                counted.push(claim);
            }
            if n == restart {
                saved.add(&mut known);
                known = saved.restored(KnownEvents::default());
            }
        }
        let remembered = counted.iter().filter(|old| now - old.claimed.0 <= DAY_MS).count();
        prop_assert!(known.len() <= counted.len() && known.len() >= remembered);
    }
}
