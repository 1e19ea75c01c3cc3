//! Journeys: a person's contacts with touchpoints, in order, across sessions and devices.
//!
//! A *contact* is a stretch at one touchpoint: its events in a row with no gap above the limit. Another touchpoint, or a
//! longer gap, ends it; coming back later is another contact, a *repeat*. Feedback joins the contact that it follows, by
//! time alone: an answer to Friday's mail belongs to Monday's delivery. If the event of the feedback is a touchpoint too
//! (a survey page), the feedback joins the contact before it.
//!
//! [`contacts`] is the meaning. [`JourneyCounts`] sums over persons what says which touchpoint is weakest: where journeys
//! end, where time is lost, what is visited again and again, and what scores low.

use std::time::Duration;

use hashbrown::HashMap;

use crate::feedback::FeedbackKind;
use crate::time::{EventTime, millis};

/// One event on the way. An event that is neither a touchpoint nor feedback does not matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JourneyEvent {
    /// When it happened.
    pub time: EventTime,
    /// Number of the touchpoint, if the event is one.
    pub touchpoint: Option<u32>,
    /// What it says, if it is feedback: kind, and score in millionths.
    pub feedback: Option<(FeedbackKind, Option<i64>)>,
}

/// One contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Number of the touchpoint.
    pub touchpoint: u32,
    /// Time of its first event.
    pub begin: EventTime,
    /// Time of its last event.
    pub end: EventTime,
    /// Number of events.
    pub events: u32,
    /// What was said of it.
    pub feedback: Vec<(FeedbackKind, Option<i64>)>,
}

/// One person's contacts, in order. Feedback before any contact belongs to none.
///
/// - `events`: of one person, in order.
/// - `gap`: what ends a contact when nothing else does: the project's session gap. Exactly the gap does not.
#[must_use]
pub fn contacts(events: &[JourneyEvent], gap: Duration) -> Vec<Contact> {
    let mut contacts: Vec<Contact> = Vec::new();
    for event in events {
        if let (Some(said), Some(before)) = (event.feedback, contacts.last_mut()) {
            before.feedback.push(said);
        }
        let Some(touchpoint) = event.touchpoint else { continue };
        match contacts.last_mut() {
            Some(open) if open.touchpoint == touchpoint && event.time.since(open.end) <= millis(gap) => {
                open.end = event.time;
                open.events += 1;
            }
            _ => contacts.push(Contact {
                touchpoint,
                begin: event.time,
                end: event.time,
                events: 1,
                feedback: Vec::new(),
            }),
        }
    }
    contacts
}

/// Sums over the contacts with one touchpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TouchpointSums {
    /// Contacts.
    pub contacts: u64,
    /// Persons who had one.
    pub persons: u64,
    /// Contacts of persons who had had one before.
    pub repeats: u64,
    /// Persons whose last contact it is, so far: where journeys end.
    pub ends: u64,
    /// Time within contacts, in ms.
    pub dwell_ms: u64,
    /// Time from a contact's end to the next contact, whatever it is, in ms: where time is lost.
    pub wait_ms: u64,
    /// What was said, by [`FeedbackKind`] in the order of [`FeedbackKind::ALL`].
    pub feedback: [FeedbackSums; 3],
}

/// Sums over feedback of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedbackSums {
    /// How often it was given, with a score or without.
    pub answers: u64,
    /// How many have a score.
    pub scores: u64,
    /// Sum of the scores, in millionths.
    pub sum_micros: i64,
    /// Scores of 9 and above, of net promoter scores.
    pub promoters: u64,
    /// Scores of 6 and below, of net promoter scores.
    pub detractors: u64,
}

/// Sums over the steps from one touchpoint to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransitionSums {
    /// How often.
    pub count: u64,
    /// Time between the two contacts, in ms.
    pub wait_ms: u64,
}

/// Sums over many persons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JourneyCounts {
    gap_ms: i64,
    /// By touchpoint.
    touchpoints: Vec<TouchpointSums>,
    transitions: HashMap<(u32, u32), TransitionSums>,
    persons: u64,
    /// The person who last had a contact with each touchpoint.
    last_person: Vec<u64>,
}

impl JourneyCounts {
    /// Of nobody yet.
    #[must_use]
    pub fn new(gap: Duration) -> Self {
        Self {
            gap_ms: millis(gap),
            touchpoints: Vec::new(),
            transitions: HashMap::new(),
            persons: 0,
            last_person: Vec::new(),
        }
    }

    /// Adds one person, whose events are given in order.
    pub fn person(&mut self, events: &[JourneyEvent]) {
        let person = self.persons + 1;
        // The open contact: touchpoint, time of its last event.
        let mut open: Option<(u32, EventTime)> = None;
        for event in events {
            if let (Some((kind, score)), Some((at, _))) = (event.feedback, open) {
                self.touchpoints[at as usize].feedback[kind as usize].add(kind, score);
            }
            let Some(touchpoint) = event.touchpoint else { continue };
            match open {
                Some((at, end)) if at == touchpoint && event.time.since(end) <= self.gap_ms => {
                    self.touchpoints[at as usize].dwell_ms += apart(end, event.time);
                }
                before => {
                    self.begin(touchpoint, person);
                    if let Some((at, end)) = before {
                        let wait = apart(end, event.time);
                        self.touchpoints[at as usize].wait_ms += wait;
                        let transition = self.transitions.entry((at, touchpoint)).or_default();
                        transition.count += 1;
                        transition.wait_ms += wait;
                    }
                }
            }
            open = Some((touchpoint, event.time));
        }
        if let Some((at, _)) = open {
            self.touchpoints[at as usize].ends += 1;
            self.persons = person;
        }
    }

    fn begin(&mut self, touchpoint: u32, person: u64) {
        let at = touchpoint as usize;
        if self.touchpoints.len() <= at {
            self.touchpoints.resize_with(at + 1, TouchpointSums::default);
            self.last_person.resize(at + 1, 0);
        }
        let sums = &mut self.touchpoints[at];
        sums.contacts += 1;
        if std::mem::replace(&mut self.last_person[at], person) == person {
            sums.repeats += 1;
        } else {
            sums.persons += 1;
        }
    }

    /// Persons with at least one contact.
    #[must_use]
    pub fn persons(&self) -> u64 {
        self.persons
    }

    /// Sums by touchpoint's number; touchpoints of higher numbers had no contact.
    #[must_use]
    pub fn touchpoints(&self) -> &[TouchpointSums] {
        &self.touchpoints
    }

    /// Every step from one touchpoint to the next that somebody took.
    pub fn transitions(&self) -> impl Iterator<Item = ((u32, u32), TransitionSums)> + '_ {
        self.transitions.iter().map(|(&pair, &sums)| (pair, sums))
    }
}

impl FeedbackSums {
    fn add(&mut self, kind: FeedbackKind, score: Option<i64>) {
        self.answers += 1;
        let Some(score) = score else { return };
        self.scores += 1;
        self.sum_micros += score;
        if kind == FeedbackKind::Nps {
            self.promoters += u64::from(score >= 9_000_000);
            self.detractors += u64::from(score < 7_000_000);
        }
    }
}

fn apart(from: EventTime, to: EventTime) -> u64 {
    u64::try_from(to.since(from)).expect("events of a person come in order")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GAP: Duration = Duration::from_millis(5);

    fn at(time: i64, touchpoint: u32) -> JourneyEvent {
        JourneyEvent { time: EventTime(time), touchpoint: Some(touchpoint), feedback: None }
    }

    fn says(time: i64, kind: FeedbackKind, score: i64) -> JourneyEvent {
        JourneyEvent { time: EventTime(time), touchpoint: None, feedback: Some((kind, Some(score * 1_000_000))) }
    }

    #[test]
    fn a_contact_lasts_until_another_touchpoint_or_a_longer_gap() {
        let found = contacts(&[at(0, 1), at(5, 1), at(11, 1), at(12, 2), at(13, 1)], GAP);
        let spans: Vec<_> = found.iter().map(|c| (c.touchpoint, c.begin.0, c.end.0, c.events)).collect();
        assert_eq!(spans, [(1, 0, 5, 2), (1, 11, 11, 1), (2, 12, 12, 1), (1, 13, 13, 1)]);
    }

    #[test]
    fn feedback_joins_the_contact_before_it_however_long_ago() {
        let survey = JourneyEvent { touchpoint: Some(9), ..says(900, FeedbackKind::Csat, 2) };
        let found = contacts(&[says(0, FeedbackKind::Nps, 1), at(1, 1), says(700, FeedbackKind::Nps, 9), survey], GAP);
        let said: Vec<_> = found.iter().map(|c| (c.touchpoint, c.feedback.len())).collect();
        assert_eq!(said, [(1, 2), (9, 0)]);
    }

    #[test]
    fn promoters_are_9_and_10_and_detractors_up_to_6() {
        let mut counts = JourneyCounts::new(GAP);
        let mut events = vec![at(0, 0)];
        events.extend((0..=10).map(|score| says(1, FeedbackKind::Nps, score)));
        counts.person(&events);
        let sums = counts.touchpoints()[0].feedback[0];
        assert_eq!((sums.answers, sums.promoters, sums.detractors, sums.sum_micros), (11, 2, 7, 55_000_000));
    }

    /// The sums, from the contacts of each person.
    fn oracle(persons: &[Vec<JourneyEvent>]) -> (Vec<TouchpointSums>, Vec<((u32, u32), TransitionSums)>, u64) {
        let journeys: Vec<Vec<Contact>> = persons.iter().map(|events| contacts(events, GAP)).collect();
        let touchpoints = (0..4).map(|touchpoint| {
            let mut sums = TouchpointSums::default();
            for journey in &journeys {
                let here: Vec<_> = journey.iter().filter(|contact| contact.touchpoint == touchpoint).collect();
                sums.contacts += here.len() as u64;
                sums.persons += u64::from(!here.is_empty());
                sums.repeats += here.len().saturating_sub(1) as u64;
                sums.ends += u64::from(journey.last().is_some_and(|contact| contact.touchpoint == touchpoint));
                sums.dwell_ms += here.iter().map(|contact| (contact.end.0 - contact.begin.0) as u64).sum::<u64>();
                for pair in journey.windows(2).filter(|pair| pair[0].touchpoint == touchpoint) {
                    sums.wait_ms += (pair[1].begin.0 - pair[0].end.0) as u64;
                }
                for (kind, feedback) in FeedbackKind::ALL.into_iter().zip(&mut sums.feedback) {
                    let said = here.iter().flat_map(|contact| &contact.feedback).filter(|said| said.0 == kind);
                    for &(_, score) in said {
                        feedback.answers += 1;
                        feedback.scores += u64::from(score.is_some());
                        feedback.sum_micros += score.unwrap_or(0);
                        if let (FeedbackKind::Nps, Some(score)) = (kind, score) {
                            feedback.promoters += u64::from(score >= 9_000_000);
                            feedback.detractors += u64::from(score <= 6_999_999);
                        }
                    }
                }
            }
            sums
        });
        let mut transitions = Vec::new();
        for from in 0..4 {
            for to in 0..4 {
                let steps = journeys.iter().flat_map(|journey| journey.windows(2));
                let steps = steps.filter(|pair| (pair[0].touchpoint, pair[1].touchpoint) == (from, to));
                let waits: Vec<u64> = steps.map(|pair| (pair[1].begin.0 - pair[0].end.0) as u64).collect();
                if !waits.is_empty() {
                    let sums = TransitionSums { count: waits.len() as u64, wait_ms: waits.iter().sum() };
                    transitions.push(((from, to), sums));
                }
            }
        }
        (touchpoints.collect(), transitions, journeys.iter().filter(|journey| !journey.is_empty()).count() as u64)
    }

    fn person() -> impl Strategy<Value = Vec<JourneyEvent>> {
        let kind = prop::sample::select(FeedbackKind::ALL.to_vec());
        let feedback = prop::option::weighted(0.3, (kind, prop::option::of((0..11_i64).prop_map(|s| s * 1_000_000))));
        prop::collection::vec((0..24_i64, prop::option::of(0..4_u32), feedback), 0..10).prop_map(|mut events| {
            events.sort_by_key(|event| event.0);
            events
                .into_iter()
                .map(|(time, touchpoint, feedback)| JourneyEvent { time: EventTime(time), touchpoint, feedback })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn sums_are_those_of_every_persons_contacts(persons in prop::collection::vec(person(), 0..4)) {
            let mut counts = JourneyCounts::new(GAP);
            persons.iter().for_each(|events| counts.person(events));
            let (mut touchpoints, transitions, with_contacts) = oracle(&persons);
            touchpoints.truncate(counts.touchpoints().len());
            prop_assert_eq!(counts.touchpoints(), touchpoints);
            let mut found: Vec<_> = counts.transitions().collect();
            found.sort_by_key(|(pair, _)| *pair);
            prop_assert_eq!(found, transitions);
            prop_assert_eq!(counts.persons(), with_contacts);
        }
    }
}
