//! Who may be in which audience, and what waits to be told of them.

use std::collections::BTreeSet;

use trackway_domain::audience::{Change, Membership, Stay};
use trackway_domain::id::PersonKey;
use trackway_domain::time::{EventTime, Watermark};
use trackway_store::rows::MemberRow;
use trackway_wire::log::pb;

use super::{Audience, JourneysStage, Outgoing};
use crate::clock::PartitionClock;
use crate::events::key_bytes;
use crate::touches::{self, Touches};
use crate::tracked::Tracked;

/// Audience (place in the list) and key.
pub(super) type MemberKey = (u32, PersonKey);

#[derive(Debug, Default)]
pub(super) struct Member {
    pub state: Membership,
    pub user_id: String,
    pub visitor_id: String,
    pub dirty: bool,
    pub touched_minute: i64,
}

impl Member {
    pub fn name(&mut self, user_id: &str, visitor_id: &str) {
        if !user_id.is_empty() && self.user_id.is_empty() {
            user_id.clone_into(&mut self.user_id);
        }
        if !visitor_id.is_empty() && self.visitor_id.is_empty() {
            visitor_id.clone_into(&mut self.visitor_id);
        }
    }
}

/// Members, and lists of those that something is due for.
#[derive(Debug)]
pub(super) struct Members {
    pub all: Tracked<Member>,
    /// Whose stays may have changed since the last block.
    dirty: Vec<MemberKey>,
    /// Whom the record at hand touched: whose subscribers may have to hear of it.
    fresh: Vec<MemberKey>,
    /// When stays of members end. What was extended since is found to be so when its time comes.
    pub timers: BTreeSet<(EventTime, MemberKey)>,
    pub touches: Touches<MemberKey>,
}

impl Members {
    pub fn new() -> Self {
        Self {
            all: Tracked::new(),
            dirty: Vec::new(),
            fresh: Vec::new(),
            timers: BTreeSet::new(),
            touches: Touches::new(),
        }
    }

    /// The state of a key in an audience, marked as changed.
    ///
    /// - `hidden`: whether the key is part of another's person, should nothing be held of it yet.
    pub fn touch(&mut self, key: MemberKey, hidden: bool, clock: &PartitionClock) -> &mut Member {
        let member = self.all.get_or_insert_with(key, || Member {
            state: Membership::restore(Vec::new(), None, hidden, false),
            touched_minute: touches::NEVER,
            ..Member::default()
        });
        if !std::mem::replace(&mut member.dirty, true) {
            self.dirty.push(key);
        }
        if self.fresh.last() != Some(&key) {
            self.fresh.push(key);
        }
        self.touches.touch(key, &mut member.touched_minute, clock.log_time);
        member
    }

    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// Rows for what changed since the last block.
    pub fn take_rows(&mut self, audiences: &[Audience], partition: u32) -> Vec<MemberRow> {
        let mut rows = Vec::new();
        for member_key in std::mem::take(&mut self.dirty) {
            let member = self.all.get_mut(&member_key).expect("a dirty member is held");
            member.dirty = false;
            let audience = &audiences[member_key.0 as usize];
            let (back, put) = member.state.changes(&audience.rule);
            let row = |stay: Stay, sign| MemberRow {
                project: audience.project.clone(),
                audience: audience.name.clone(),
                person: member_key.1.0,
                user_id: member.user_id.clone(),
                visitor_id: member.visitor_id.clone(),
                entered_ms: stay.entered.0,
                left_ms: stay.left.0,
                partition,
                sign,
            };
            rows.extend(back.into_iter().map(|stay| row(stay, -1)));
            rows.extend(put.into_iter().map(|stay| row(stay, 1)));
        }
        rows
    }

    pub fn evict(&mut self, audiences: &[Audience], clock: &PartitionClock) {
        let horizon = Touches::<MemberKey>::horizon(clock);
        while let Some((minute, member_key)) = self.touches.due(horizon) {
            if self.all.peek(&member_key).is_none_or(|member| member.touched_minute != minute) {
                continue;
            }
            let member = self.all.get_mut(&member_key).expect("just looked at");
            let rule = &audiences[member_key.0 as usize].rule;
            member.state.evict(rule, clock.watermark(), clock.log_time, clock.rules.hold);
            if member.state.is_empty() {
                self.all.remove(&member_key);
            } else {
                self.touches.again(member_key, &mut member.touched_minute, horizon);
            }
        }
    }
}

impl JourneysStage {
    /// Tells subscribers what follows from what was just applied: for those touched, and for those whose time has come.
    pub(super) fn tell(&mut self, clock: &PartitionClock) {
        let watermark = clock.watermark();
        for member_key in std::mem::take(&mut self.members.fresh) {
            let told = self.ask(member_key, watermark);
            self.outgoing.extend(told);
        }
        let timers = &mut self.members.timers;
        let mut due = Vec::new();
        while let Some(&(_, member_key)) = timers.first().filter(|(time, _)| time.0 <= watermark.0) {
            timers.pop_first();
            due.push(member_key);
        }
        // Timers of stays that were extended since are gone after a restart: the order must not come of them.
        let mut told: Vec<_> = due.into_iter().filter_map(|member_key| self.ask(member_key, watermark)).collect();
        told.sort_unstable_by_key(|told| (told.change.at_ms, told.audience, told.person));
        self.outgoing.append(&mut told);
    }

    /// What subscribers are to hear of a member, if anything.
    fn ask(&mut self, member_key: MemberKey, watermark: Watermark) -> Option<Outgoing> {
        let members = &mut self.members;
        let member = members.all.get_mut(&member_key)?;
        let audience = &self.audiences[member_key.0 as usize];
        let (change, due) = member.state.on_time(&audience.rule, watermark);
        if let Some(due) = due {
            members.timers.insert((due, member_key));
        }
        let (entered, at) = match change? {
            Change::Entered(at) => (true, at),
            Change::Left(at) => (false, at),
        };
        let change = pb::MembershipChange {
            origin: None,
            project: audience.project.to_string(),
            audience: audience.name.to_string(),
            person: key_bytes(member_key.1),
            user_id: member.user_id.clone(),
            visitor_id: member.visitor_id.clone(),
            entered,
            at_ms: at.0,
        };
        Some(Outgoing { audience: member_key.0, person: member_key.1, change })
    }
}
