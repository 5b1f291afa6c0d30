//! A story that is told line by line instead of drawn: what happens to whom, and when, is written down;
//! the clients' load, the promises and the judgement are those of every story.

use kontiki_raft::Micros;
use kontiki_storage::Fault as DiskFault;
use kontiki_wire::{GroupId, GroupStatus};

use crate::{
    invariants::Tally,
    network::Quality,
    plan::{Choice, Load, Plan, Topic},
    story::{self, Told},
    world::World,
};

/// A story under way. Members are counted from 0. Nothing goes wrong in it that is not written.
pub struct Script {
    world: World,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

/// So little is kept in memory for followers that whoever was away is sent what files hold.
const TAIL_BYTES: u64 = 4 << 10;
/// What is waited for comes about within this.
const WITHIN: u64 = 20_000_000;
/// How often it is looked.
const LOOK: u64 = 10_000;

impl Script {
    /// A calm cluster with one topic that is written to and read, as soon as everybody knows its leader.
    #[must_use]
    pub fn begin(seed: u64, members: usize) -> Self {
        let choice = Choice {
            members: Some(members),
            ..Choice::default()
        };
        let mut plan = Plan::draw(seed, choice);
        plan.faults.clear();
        plan.network = Quality {
            delay: 300,
            ..Quality::default()
        };
        plan.sync = 300;
        plan.tuning.raft = kontiki_raft::Settings {
            tail_bytes_max: TAIL_BYTES,
            rest: kontiki_broker::REST,
            ..kontiki_raft::Settings::default()
        };
        plan.topics = vec![topic(2)];
        let mut script = Self {
            world: World::new(plan, true),
        };
        script.until("the topic has records", |script| {
            script.acknowledged() > 10 && script.leader().is_some()
        });
        script
    }

    /// Lets time pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.world.now + millis * 1_000;
        self.world.run_to(end);
        self.sound();
    }

    /// Lets time pass until something holds, which must be soon.
    ///
    /// # Panics
    ///
    /// If it does not come about.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.world.now + WITHIN;
        while !holds(self) {
            assert!(
                self.world.now < end,
                "not within {} s: {what}\n{}",
                WITHIN / 1_000_000,
                self.told()
            );
            let next = self.world.now + LOOK;
            self.world.run_to(next);
            self.sound();
        }
    }

    /// Heals everything, demands that all recovers, and judges.
    #[must_use]
    pub fn end(self) -> Told {
        story::conclude(self.world)
    }

    /// The member that leads the first topic, by its own word and in the latest term.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let group = self.group()?;
        let of = |number: usize| {
            let status = self.status(number, group)?;
            let leads = status.leader.as_deref() == Some(&*self.world.members[number].name);
            leads.then_some((status.term, number))
        };
        let leaders = (0..self.world.members.len()).filter_map(of);
        leaders.max().map(|(_, number)| number)
    }

    /// The member that leads the first topic; waits until somebody does.
    pub fn await_leader(&mut self) -> usize {
        self.until("somebody leads", |script| script.leader().is_some());
        self.leader().expect("it was waited for")
    }

    /// A member that does not lead the first topic; waits until somebody else does.
    pub fn await_follower(&mut self) -> usize {
        let leader = self.await_leader();
        (leader + 1) % self.world.members.len()
    }

    /// How far a member serves the first topic.
    #[must_use]
    pub fn watermark(&self, member: usize) -> u64 {
        let status = self.group().and_then(|group| self.status(member, group));
        status.map_or(0, |status| status.next.0)
    }

    /// How far the first topic is served by whoever is furthest.
    #[must_use]
    pub fn reached(&self) -> u64 {
        let members = 0..self.world.members.len();
        members
            .map(|member| self.watermark(member))
            .max()
            .unwrap_or(0)
    }

    /// Batches acknowledged so far, in all topics.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let appends = self.world.history.appends.iter();
        appends.filter(|one| one.acknowledged().is_some()).count()
    }

    /// Lets so many more batches be acknowledged.
    pub fn write(&mut self, batches: usize) {
        let due = self.acknowledged() + batches;
        self.until("writing goes on", |script| script.acknowledged() >= due);
    }

    /// How often rare things came about.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.world.invariants.tally()
    }

    /// Nothing gets from one member to another any more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.world.network.cut(self.world.now, from, to);
        self.world.watch_silence(from, to);
    }

    /// Undoes one such cut.
    pub fn join(&mut self, from: usize, to: usize) {
        self.world.network.join(from, to);
    }

    /// Cuts a member off from all others; clients still reach it.
    pub fn cut_off(&mut self, member: usize) {
        for other in self.others(member) {
            self.cut(member, other);
            self.cut(other, member);
        }
    }

    /// Undoes that.
    pub fn let_back(&mut self, member: usize) {
        for other in self.others(member) {
            self.join(member, other);
            self.join(other, member);
        }
    }

    /// Clients do not reach a member any more.
    pub fn cut_clients(&mut self, member: usize) {
        self.world.network.cut_clients(member);
    }

    /// Undoes that.
    pub fn join_clients(&mut self, member: usize) {
        self.world.network.join_clients(member);
    }

    /// The power of these goes at one instant, with all that was not synced.
    pub fn power_off(&mut self, members: &[usize]) {
        for member in members {
            self.world.members[*member].held_down += 1;
            if self.world.members[*member].host.is_some() {
                self.world.lose_power(*member);
            }
        }
    }

    /// The power of a member goes in the middle of the so-many-th call of its disk from now on.
    pub fn power_off_after(&mut self, member: usize, calls: u64) {
        self.world.members[member].held_down += 1;
        self.world.members[member].disk.end_after(calls);
    }

    /// A process dies; its system lives on.
    pub fn kill(&mut self, member: usize) {
        self.world.members[member].held_down += 1;
        self.world.end_process(member, true);
    }

    /// Whether a member's process runs.
    #[must_use]
    pub fn is_up(&self, member: usize) -> bool {
        self.world.members[member].host.is_some()
    }

    /// A member that was held down is started again.
    pub fn start(&mut self, member: usize) {
        self.world.members[member].held_down -= 1;
        self.world.start(member);
    }

    /// A process stands still.
    pub fn pause(&mut self, member: usize, millis: u64) {
        self.world.members[member].paused_until = self.world.now + millis * 1_000;
    }

    /// A call of a disk fails: the so-many-th from now on.
    pub fn fail_disk(&mut self, member: usize, calls: u64) {
        let disk = &self.world.members[member].disk;
        disk.fail_after(calls, DiskFault::Broken);
    }

    /// Everything that a member says to others takes so much longer.
    pub fn slow_down(&mut self, member: usize, millis: u64) {
        let by = Quality {
            delay: millis * 1_000,
            ..Quality::default()
        };
        for other in self.others(member) {
            self.world.network.worsen(member, other, by);
        }
    }

    /// A wall clock is set by so many seconds.
    pub fn set_clock(&mut self, member: usize, seconds: i64) {
        self.world.members[member].clock.jump(seconds * 1_000_000);
    }

    /// A member is told to lead the first topic.
    pub fn hand_over(&mut self, to: usize) {
        self.world.transfer(Some(0), to);
    }

    /// Another topic is ordered; its number.
    pub fn make_topic(&mut self) -> usize {
        self.world.order_another_topic(topic(1));
        self.world.topics.len() - 1
    }

    /// A topic is ordered that may be there already.
    pub fn make_topic_again(&mut self, topic: usize) {
        self.world.order_topic_again(topic);
    }

    /// A topic is ordered to be deleted.
    pub fn delete_topic(&mut self, topic: usize) {
        self.world.delete_topic(topic);
    }

    /// Whether everything that was ordered is done.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.world.orders.iter().all(|order| order.is_done)
    }

    /// Whether a member keeps a topic.
    #[must_use]
    pub fn keeps(&self, member: usize, topic: usize) -> bool {
        let group = self.world.topics[topic].group;
        let host = self.world.members[member].host.as_ref();
        match (group, host) {
            (Some(group), Some(host)) => host.topics.contains_key(&group),
            _ => false,
        }
    }

    fn group(&self) -> Option<GroupId> {
        self.world.topics.first()?.group
    }

    fn status(&self, number: usize, group: GroupId) -> Option<GroupStatus> {
        let member = &self.world.members[number];
        let host = member.host.as_ref()?;
        let status = host.broker.status(member.clock.now(self.world.now));
        status.groups.into_iter().find(|one| one.group == group)
    }

    fn others(&self, member: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.world.members.len();
        (0..count).filter(move |other| *other != member)
    }

    /// A script does not go on behind the first finding.
    fn sound(&self) {
        if let Some(finding) = &self.world.finding {
            panic!("{finding}\n{}", self.told());
        }
    }

    fn told(&self) -> String {
        let seconds = Micros(self.world.now).0 as f64 / 1e6;
        let lines: Vec<&str> = self.world.trace.lines().collect();
        let from = lines.len().saturating_sub(LINES_TOLD);
        format!("at {seconds:.3} s, after\n{}", lines[from..].join("\n"))
    }
}

/// Of a failure's trace so many last lines are shown.
const LINES_TOLD: usize = 60;

fn topic(producers: usize) -> Topic {
    let load = Load {
        gap: 10_000,
        records_max: 3,
        filling_max: 100,
        in_flight: 8,
        patience: 10_000_000,
        leaves_at: u64::MAX,
    };
    Topic {
        replicas: 3,
        producers: vec![load; producers],
        consumers: 2,
        readers: 1,
    }
}
