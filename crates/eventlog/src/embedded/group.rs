//! Who owns which partition, decided without IO or clock: the groups of consumers inside this process.
//!
//! A partition with an owner changes hands in two steps: the owner is told `Revoked`, and only when it has released the
//! partition, has left, or has let the deadline pass, the next one is told `Assigned`. So there is at most one owner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{ConsumerEvent, ConsumerOptions, TopicPartition};

pub(super) type MemberId = u64;

/// What a member may still be told, and where it reads.
pub(super) struct Member {
    pub options: ConsumerOptions,
    pub events: VecDeque<ConsumerEvent>,
    /// Next offset of each started partition. Each `start` gets another `epoch`, so that a read that was under way
    /// is not taken for one of the new place.
    pub positions: BTreeMap<TopicPartition, Position>,
    pub wake: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub next: u64,
    pub epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ownership {
    pub member: MemberId,
    /// Set once the owner was told `Revoked`.
    pub until: Option<Instant>,
}

/// One group.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    owners: BTreeMap<TopicPartition, Ownership>,
    /// Partitions of every topic that a member reads.
    partitions: BTreeMap<Arc<str>, u32>,
    last_epoch: u64,
}

impl Group {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn member(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    /// Wakes everyone, as when the log closes.
    pub fn wake_all(&self) {
        self.members.values().for_each(|member| member.wake.notify_one());
    }

    /// Adds a member; `topics` with their partitions.
    pub fn join(
        &mut self,
        id: MemberId,
        options: ConsumerOptions,
        topics: Vec<(Arc<str>, u32)>,
        now: Instant,
        committed: impl Fn(&TopicPartition) -> Option<u64>,
    ) -> Arc<Notify> {
        self.partitions.extend(topics);
        let wake = Arc::new(Notify::new());
        let (events, positions) = (VecDeque::new(), BTreeMap::new());
        self.members.insert(id, Member { options, events, positions, wake: Arc::clone(&wake) });
        self.rebalance(now, committed);
        wake
    }

    /// Removes a member; the others get its partitions at once.
    pub fn leave(&mut self, id: MemberId, now: Instant, committed: impl Fn(&TopicPartition) -> Option<u64>) {
        self.members.remove(&id);
        self.owners.retain(|_, ownership| ownership.member != id);
        self.rebalance(now, committed);
    }

    /// Whether the member may commit this partition.
    pub fn owns(&self, id: MemberId, at: &TopicPartition) -> bool {
        self.owners.get(at).is_some_and(|ownership| ownership.member == id)
    }

    /// Whether records of this partition may be delivered: not any more once it is revoked.
    pub fn delivers(&self, id: MemberId, at: &TopicPartition) -> bool {
        self.owners.get(at) == Some(&Ownership { member: id, until: None })
    }

    /// Begins delivery; false if the partition is not the member's or is on its way to another.
    pub fn start(&mut self, id: MemberId, at: &TopicPartition, offset: u64) -> bool {
        if !self.delivers(id, at) {
            return false;
        }
        self.last_epoch += 1;
        let position = Position { next: offset, epoch: self.last_epoch };
        if let Some(member) = self.members.get_mut(&id) {
            member.positions.insert(at.clone(), position);
            member.wake.notify_one();
        }
        true
    }

    /// Takes revoked partitions from a member before their time.
    pub fn release(
        &mut self,
        id: MemberId,
        partitions: &[TopicPartition],
        now: Instant,
        committed: impl Fn(&TopicPartition) -> Option<u64>,
    ) {
        self.owners.retain(|at, owner| owner.member != id || owner.until.is_none() || !partitions.contains(at));
        self.rebalance(now, committed);
    }

    /// Takes away what was not released in time; answers when to look again.
    pub fn expire(&mut self, now: Instant, committed: impl Fn(&TopicPartition) -> Option<u64>) -> Option<Instant> {
        let before = self.owners.len();
        self.owners.retain(|at, owner| {
            let overdue = owner.until.is_some_and(|until| until <= now);
            if overdue {
                tracing::warn!(partition = %at, "revoked partition was not released in time and is taken away");
            }
            !overdue
        });
        if self.owners.len() != before {
            self.rebalance(now, committed);
        }
        self.owners.values().filter_map(|owner| owner.until).min()
    }

    fn rebalance(&mut self, now: Instant, committed: impl Fn(&TopicPartition) -> Option<u64>) {
        let plan = self.plan();
        let mut assigned: BTreeMap<MemberId, Vec<(TopicPartition, Option<u64>)>> = BTreeMap::new();
        let mut revoked: BTreeMap<MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (at, to) in plan {
            match self.owners.get_mut(&at) {
                None => {
                    self.owners.insert(at.clone(), Ownership { member: to, until: None });
                    let offset = committed(&at);
                    assigned.entry(to).or_default().push((at, offset));
                }
                Some(owner) if owner.member != to && owner.until.is_none() => {
                    let Some(member) = self.members.get_mut(&owner.member) else {
                        continue;
                    };
                    owner.until = Some(now + member.options.handover_timeout);
                    member.positions.remove(&at);
                    revoked.entry(owner.member).or_default().push(at);
                }
                Some(_) => {}
            }
        }
        for (id, partitions) in revoked {
            self.tell(id, ConsumerEvent::Revoked { partitions });
        }
        for (id, partitions) in assigned {
            self.tell(id, ConsumerEvent::Assigned { partitions });
        }
    }

    fn tell(&mut self, id: MemberId, event: ConsumerEvent) {
        if let Some(member) = self.members.get_mut(&id) {
            member.events.push_back(event);
            member.wake.notify_one();
        }
    }

    fn readers<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = MemberId> + 'a {
        let reads = move |member: &Member| member.options.topics.iter().any(|name| name == topic);
        self.members.iter().filter(move |(_, member)| reads(member)).map(|(id, _)| *id)
    }

    /// Who should own what: owners keep what they have, as long as nobody has two more than another who could have it.
    fn plan(&self) -> BTreeMap<TopicPartition, MemberId> {
        let all = self.partitions.iter().flat_map(|(topic, count)| {
            (0..*count).map(|partition| TopicPartition { topic: Arc::clone(topic), partition })
        });
        let mut load: BTreeMap<MemberId, usize> = self.members.keys().map(|id| (*id, 0)).collect();
        let mut plan = BTreeMap::new();
        let (kept, free): (Vec<_>, Vec<_>) = all.partition(|at| self.owners.contains_key(at));
        for at in kept {
            let owner = self.owners[&at].member;
            *load.entry(owner).or_default() += 1;
            plan.insert(at, owner);
        }
        for at in free {
            if let Some(to) = self.readers(&at.topic).min_by_key(|id| load[id]) {
                *load.entry(to).or_default() += 1;
                plan.insert(at, to);
            }
        }
        loop {
            // Each move takes from one with two or more above another: the sum of squares falls, so this ends. Among
            // the moves that help equally, the topic of which the giver has most more than the taker goes first, so
            // that each topic is spread by itself too.
            let of_topic = |id: MemberId, topic: &Arc<str>| {
                plan.iter().filter(|(at, owner)| **owner == id && at.topic == *topic).count()
            };
            let moves = plan.iter().filter_map(|(at, from)| {
                let to = self.readers(&at.topic).min_by_key(|id| load[id])?;
                let difference = load[from].saturating_sub(load[&to]);
                (difference >= 2).then_some((difference, at, *from, to))
            });
            let best = moves.max_by_key(|(difference, at, from, to)| {
                let spread = of_topic(*from, &at.topic) as i64 - of_topic(*to, &at.topic) as i64;
                (*difference, spread, at.partition)
            });
            let Some((_, at, from, to)) = best.map(|(difference, at, from, to)| (difference, at.clone(), from, to))
            else {
                return plan;
            };
            plan.insert(at, to);
            *load.entry(from).or_default() -= 1;
            *load.entry(to).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Group, MemberId};
    use crate::{ConsumerEvent, ConsumerOptions, TopicPartition};

    const HANDOVER: Duration = Duration::from_secs(5);

    fn join(group: &mut Group, id: MemberId, topics: &[(&str, u32)], now: Instant) {
        let options = ConsumerOptions {
            group: "g".to_owned(),
            topics: topics.iter().map(|(name, _)| (*name).to_owned()).collect(),
            batch_records_max: 1,
            batch_bytes_max: 1 << 20,
            buffer_bytes_max: 1,
            handover_timeout: HANDOVER,
        };
        let topics = topics.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
        group.join(id, options, topics, now, |_| None);
    }

    fn told(group: &mut Group, id: MemberId) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut assigned, mut revoked) = (vec![], vec![]);
        for event in group.member(id).expect("member").events.drain(..) {
            match event {
                ConsumerEvent::Assigned { partitions } => assigned.extend(partitions.into_iter().map(|(at, _)| at)),
                ConsumerEvent::Revoked { partitions } => revoked.extend(partitions),
                other => panic!("{other:?}"),
            }
        }
        (assigned, revoked)
    }

    #[tokio::test]
    async fn a_partition_is_assigned_only_after_its_owner_released_it() {
        let (mut group, now) = (Group::default(), Instant::now());
        join(&mut group, 1, &[("a", 4), ("b", 4)], now);
        assert_eq!(told(&mut group, 1).0.len(), 8);
        join(&mut group, 2, &[("a", 4), ("b", 4)], now);
        let (_, revoked) = told(&mut group, 1);
        assert_eq!(revoked.len(), 4);
        assert_eq!(revoked.iter().filter(|at| &*at.topic == "a").count(), 2, "each topic is spread by itself");
        assert!(told(&mut group, 2).0.is_empty());
        assert!(group.owns(1, &revoked[0]) && !group.delivers(1, &revoked[0]) && !group.owns(2, &revoked[0]));

        group.release(1, &revoked[..1], now, |_| None);
        assert_eq!(told(&mut group, 2).0, revoked[..1]);
        assert!(!group.owns(1, &revoked[0]) && group.owns(2, &revoked[0]));

        assert_eq!(group.expire(now + HANDOVER / 2, |_| None), Some(now + HANDOVER));
        assert!(told(&mut group, 2).0.is_empty());
        assert_eq!(group.expire(now + HANDOVER, |_| None), None);
        assert_eq!(told(&mut group, 2).0, revoked[1..]);
    }

    #[tokio::test]
    async fn who_keeps_a_partition_cannot_release_it() {
        let (mut group, now) = (Group::default(), Instant::now());
        join(&mut group, 1, &[("a", 2)], now);
        let (assigned, _) = told(&mut group, 1);
        group.release(1, &assigned, now, |_| None);
        assert!(group.delivers(1, &assigned[0]));
    }

    #[tokio::test]
    async fn any_series_of_joins_and_leaves_ends_balanced_with_one_owner_each() {
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let (mut group, now) = (Group::default(), Instant::now());
            let mut owned: BTreeMap<TopicPartition, MemberId> = BTreeMap::new();
            let mut members: Vec<MemberId> = vec![];
            for step in 0..12 {
                if members.is_empty() || draw(3) > 0 {
                    members.push(step);
                    join(&mut group, step, &[("a", 3), ("b", 5)], now);
                } else {
                    let gone = members.remove(draw(members.len() as u64) as usize);
                    owned.retain(|_, owner| *owner != gone);
                    group.leave(gone, now, |_| None);
                }
                for _ in 0..3 {
                    for id in members.clone() {
                        let (assigned, revoked) = told(&mut group, id);
                        for at in revoked {
                            assert_eq!(owned.remove(&at), Some(id));
                            group.release(id, &[at], now, |_| None);
                        }
                        for at in assigned {
                            assert_eq!(owned.insert(at, id), None, "a second owner");
                        }
                    }
                }
                if members.is_empty() {
                    continue;
                }
                assert_eq!(owned.len(), 8, "every partition has an owner");
                let load = |id| owned.values().filter(|owner| **owner == id).count();
                let loads: Vec<_> = members.iter().map(|id| load(*id)).collect();
                assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
            }
        }
    }
}
