//! How groups come and go: taken up from the disk at the start, born when the cluster's log makes
//! their topic, removed when it deletes it.

use std::collections::BTreeMap;

use kontiki_raft::{Boot, Index, LogId, Membership, Micros, NodeId, NodeRef, Persist, Raft};
use kontiki_wire::{GroupId, Member, Offset, Refusal, Response, Topic};

use crate::{
    apply::TopicLog,
    broker::Broker,
    cluster::{let_go_by, no_such_topic, placed_on, unapplied},
    group::{Group, Meaning, Resume},
    input::{GroupBoot, Now},
    invariants::Order,
    mend::Lost,
    planted::{Planted, plants},
};

impl Broker {
    /// Takes up every group that the disk held, and gives birth to the ones it should have held.
    pub(crate) fn open(
        &mut self,
        own: GroupBoot,
        mut held: BTreeMap<GroupId, GroupBoot>,
        now: Now,
    ) -> Result<(), String> {
        match Lost::of(&own) {
            None => self.take_up(own, now)?,
            Some(lost) => {
                let applied = own.checkpoint.map_or(Index(0), |(at, _)| at.index);
                self.begin_mending(now, lost, Some(Resume::cluster(applied)));
            }
        }
        for topic in self.cluster.state().topics.clone() {
            if self.keeps(&topic) {
                let boot = held.remove(&topic.group);
                self.start(now, &topic, boot)?;
            }
        }
        for (group, boot) in held {
            if self.cluster.is_to_come(group) || self.may_come(group) {
                self.parked.insert(group, boot);
            } else {
                self.remove_files(group);
            }
        }
        Ok(())
    }

    /// The cluster's log made a topic.
    pub(crate) fn make(&mut self, now: Now, topic: &Topic) -> Result<(), String> {
        let id = topic.group;
        let early = self.early.take(id);
        if !self.keeps(topic) {
            // What is parked of it was born when it was placed here later than now.
            return Ok(());
        }
        let parked = self.parked.remove(&id);
        let fresh = self.start(now, topic, parked)?;
        if fresh && NodeId(topic.preferred) == self.settings.me.id {
            self.feed(now, id, kontiki_raft::Input::Campaign);
        }
        for (from, message) in early {
            self.feed(now, id, kontiki_raft::Input::Message { from, message });
        }
        Ok(())
    }

    /// Starts a kept topic's group from what the disk has of it, or gives birth to it; whether it is
    /// fresh.
    ///
    /// The disk returns every group that it ever confirmed a write of and was not told to remove. If
    /// this one is not there and the log on the disk lets it go, it may have been removed for that
    /// reason, by an earlier life that had applied more than the state on the disk: then it has
    /// forgotten what it promised, and must not be born again in the short time until the deletion is
    /// applied once more. While the cluster's own log is not whole, nobody knows what it deletes.
    fn start(&mut self, now: Now, topic: &Topic, boot: Option<GroupBoot>) -> Result<bool, String> {
        let unknown = self.mending.contains_key(&GroupId::CLUSTER);
        let id = topic.group;
        let goes = self.going.contains(&id) || self.leaving.iter().any(|(_, of)| *of == id);
        if boot.is_none() && (unknown || goes || self.doomed.contains_key(&id)) {
            return Ok(false);
        }
        if let Some(lost) = boot.as_ref().and_then(Lost::of) {
            self.begin_mending(now, lost, None);
            return Ok(false);
        }
        if boot.is_none() && self.may_fetch(topic) {
            self.begin_fetching(now, topic);
            return Ok(false);
        }
        let boot = boot.unwrap_or_else(|| self.birth(topic.group, now));
        let fresh = boot.boot.fresh;
        self.take_up(boot, now)?;
        self.announce(topic.clone());
        Ok(fresh)
    }

    /// The cluster's log has others keep a topic. If this node is one of them, its replica is born, or
    /// found again that a later state than the one on the disk had born; who is not one of them any more
    /// stays until the topic's group does without it.
    pub(crate) fn placed(&mut self, now: Now, topic: &Topic) -> Result<(), String> {
        let id = topic.group;
        if self.keeps(topic) && !self.has(id) {
            let parked = self.parked.remove(&id);
            let early = self.early.take(id);
            self.start(now, topic, parked)?;
            for (from, message) in early {
                self.feed(now, id, kontiki_raft::Input::Message { from, message });
            }
        }
        self.soon_if_led(now, id);
        Ok(())
    }

    /// The cluster's log says, in the entry at `at`, that a topic's group does without those who are not to
    /// keep it any more.
    pub(crate) fn settled(&mut self, now: Now, at: Index, topic: &Topic) -> Result<(), String> {
        let id = topic.group;
        self.steering.remove(&id);
        // What is here may have been born when it was placed here once more, later than now, or counts again since.
        let returns = self.returning.get(&id).is_some_and(|last| *last > at);
        match self.parts_with(topic) && !returns {
            true => self.part(now, at, id),
            false => Ok(()),
        }
    }

    /// Whether the topic's group does without this node, which kept it.
    fn parts_with(&self, topic: &Topic) -> bool {
        topic.parted.contains(&self.settings.me.id.0) && !self.keeps(topic)
    }

    /// Lets go of a topic that others keep.
    fn part(&mut self, now: Now, at: Index, id: GroupId) -> Result<(), String> {
        if self.groups.contains_key(&id) {
            self.outbox.topic_closed(id);
        }
        let why = "this member does not keep the topic any more, ask another".to_owned();
        self.let_go(now, at, id, Refusal::Unavailable { why })
    }

    /// Entries of the cluster's log up to `at` are applied, whatever became of the commands in them: what they
    /// might have let go is known to be kept now, or is gone.
    pub(crate) fn spare(&mut self, now: Now, at: Index) -> Result<(), String> {
        self.part_late(now, at)?;
        if self.doomed.is_empty() {
            return Ok(());
        }
        let (past, doomed) = std::mem::take(&mut self.doomed)
            .into_iter()
            .partition(|(_, last)| *last <= at);
        self.doomed = doomed;
        let past: BTreeMap<GroupId, Index> = past;
        for id in past.into_keys() {
            let topic = self.cluster.topic_of(id).cloned();
            if let Some(topic) = topic.filter(|topic| self.keeps(topic) && !self.has(id)) {
                let parked = self.parked.remove(&id);
                self.start(now, &topic, parked)?;
            }
        }
        Ok(())
    }

    /// The cluster's log deleted a topic, by the entry at `at`.
    pub(crate) fn remove(&mut self, now: Now, at: Index, topic: &Topic) -> Result<(), String> {
        self.let_go(now, at, topic.group, no_such_topic(&topic.name))
    }

    /// This node does not keep a group from the entry at `at` on. Its files stay until that entry is
    /// durable here: if they went sooner, a crash could leave nothing that tells why the log is gone.
    fn let_go(&mut self, now: Now, at: Index, id: GroupId, why: Refusal) -> Result<(), String> {
        let fetched = self.stop_fetching(now, id).is_some();
        if fetched || self.mending.remove(&id).is_some() || self.parked.remove(&id).is_some() {
            self.timers.forget(id);
            self.leaving.push_back((at, id));
            return Ok(());
        }
        let Some(group) = self.groups.remove(&id) else {
            return Ok(());
        };
        self.tails.forget(id);
        self.note_end(now, id, group.noted);
        group.end(&mut self.outbox);
        self.timers.forget(id);
        self.steering.remove(&id);
        self.touched.retain(|touched| *touched != id);
        let refused = Response::Refused(why);
        let reads = self.tickets.drop_reads(id).into_iter();
        let waiting = reads.filter_map(|(ticket, _)| ticket);
        let waiting: Vec<_> = waiting.chain(self.tickets.end_transfer(id)).collect();
        for ticket in waiting {
            self.tickets
                .answer(ticket, refused.clone(), &mut self.outbox)?;
        }
        self.leaving.push_back((at, id));
        Ok(())
    }

    /// Lets go of the files of topics whose removal is durable.
    pub(crate) fn leave(&mut self, durable: Index) {
        while let Some(&(at, group)) = self.leaving.front()
            && at <= durable
        {
            self.leaving.pop_front();
            self.remove_files(group);
        }
    }

    /// Whether there is anything of the group here, running or being mended.
    fn has(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
            || self.mending.contains_key(&id)
            || self.fetching.contains_key(&id)
    }

    fn remove_files(&mut self, id: GroupId) {
        self.going.insert(id);
        self.outbox.topic_removed(id);
    }

    /// The files of a group are gone. If it was placed here once more meanwhile, it is born anew.
    pub(crate) fn gone(&mut self, now: Now, id: GroupId) -> Result<(), String> {
        self.going.remove(&id);
        let topic = self.cluster.topic_of(id).cloned();
        if let Some(topic) = topic.filter(|topic| self.keeps(topic) && !self.has(id)) {
            self.start(now, &topic, None)?;
        }
        Ok(())
    }

    /// Entries come to the cluster's own log. If they place a topic here once more, whoever leads its group may
    /// count this member already, and with what it has: that is not let go for what was meant before.
    pub(crate) fn read_ahead(&mut self, persist: &Persist) {
        if let Some(from) = persist.truncate_from {
            // What stood there may have been one of them: it is known when another does.
            for last in self.returning.values_mut() {
                *last = (*last).min(from);
            }
        }
        let placed = placed_on(self.settings.me.id, &persist.append);
        self.returning.extend(placed);
    }

    /// What seemed to be placed here once more, and after the entry at `at` is known not to be, is let go.
    fn part_late(&mut self, now: Now, at: Index) -> Result<(), String> {
        let past = |(_, last): &(&GroupId, &Index)| **last <= at;
        let past: Vec<GroupId> = self
            .returning
            .iter()
            .filter(past)
            .map(|(id, _)| *id)
            .collect();
        for id in past {
            self.returning.remove(&id);
            let topic = self.cluster.topic_of(id);
            if topic.is_some_and(|topic| self.parts_with(topic)) {
                self.part(now, at, id)?;
            }
        }
        Ok(())
    }

    /// Whether the group on this disk is of a topic that the state on the disk has not yet placed here.
    /// What this node has dropped comes again only if the log on the disk says so.
    fn may_come(&self, id: GroupId) -> bool {
        let me = self.settings.me.id.0;
        let topic = self.cluster.topic_of(id);
        topic.is_some_and(|topic| {
            let parted = topic.parted.contains(&me) && !self.returning.contains_key(&id);
            !self.keeps(topic) && !parted
        })
    }

    fn keeps(&self, topic: &Topic) -> bool {
        topic
            .keepers()
            .any(|keeper| keeper == self.settings.me.id.0)
    }

    fn announce(&mut self, topic: Topic) {
        let id = topic.group;
        self.outbox.topic_made(topic);
        let watermark = self.groups.get(&id).map_or(Offset(0), Group::watermark);
        self.outbox.applied(id, Vec::new(), watermark);
    }

    /// Whether the disk may have lost groups. While this node recovers the cluster's own group, it
    /// applies entries that it may have applied before, and so the groups that they make may have been
    /// here. An entry that is applied later is new to it: the one after which it counts again was
    /// proposed since the disk lost them.
    fn forgets(&self) -> bool {
        let own = self.groups.get(&GroupId::CLUSTER);
        own.map_or_else(|| self.settings.damage.is_some(), Group::is_recovering)
    }

    /// A group that the disk knows nothing of.
    ///
    /// Unless the disk has lost groups, no vote and no acknowledgement was ever given in it, because
    /// both wait for the disk. What an earlier life may have done in it is to hear a leader and promise
    /// it with that not to elect another for an election timeout. So only a birth later than that after
    /// the start, or in a node that had no earlier life, is `fresh` and need not sit that out. Who kept the
    /// group once and dropped it has forgotten what it promised then.
    pub(crate) fn birth(&self, group: GroupId, now: Now) -> GroupBoot {
        let up = now.monotonic.0.saturating_sub(self.started.0);
        let me = self.settings.me.id.0;
        let topic = self.cluster.topic_of(group);
        let parted = topic.is_some_and(|topic| topic.parted.contains(&me))
            && !plants(Planted::DropForgotten);
        let boot = Boot {
            fresh: self.newborn || up >= self.settings.raft.election_timeout.0,
            forgot: self.forgets() || parted,
            ..Boot::born(self.settings.me, Membership::default())
        };
        GroupBoot {
            group,
            boot,
            checkpoint: None,
            missing: Vec::new(),
            damage: String::new(),
        }
    }

    /// Takes up a group that is whole again, from what was applied of it before, if anything was.
    pub(crate) fn resume(
        &mut self,
        now: Now,
        boot: GroupBoot,
        resume: Option<Resume>,
    ) -> Result<(), String> {
        let id = boot.group;
        if id == GroupId::CLUSTER {
            return self.resume_cluster(now, boot, resume);
        }
        let Some(topic) = self.cluster.topic_of(id).cloned() else {
            return Err(format!("group {id} was mended and is no topic's"));
        };
        match resume.and_then(|resume| Some((resume.applied()?, resume))) {
            Some((at, resume)) => self.take_up_at(boot, at, resume, now)?,
            None => self.take_up(boot, now)?,
        }
        self.announce(topic);
        Ok(())
    }

    fn resume_cluster(
        &mut self,
        now: Now,
        boot: GroupBoot,
        resume: Option<Resume>,
    ) -> Result<(), String> {
        let at = self.cluster.applied();
        let resume = resume.unwrap_or_else(|| Resume::cluster(at.index));
        let to_come = unapplied(&boot.boot.tail, at.index);
        self.doomed = let_go_by(to_come);
        self.returning = placed_on(self.settings.me.id, to_come);
        self.found = self.found.max(boot.boot.last);
        self.take_up_at(boot, at, resume, now)?;
        for topic in self.cluster.state().topics.clone() {
            if self.keeps(&topic) && !self.has(topic.group) {
                self.start(now, &topic, None)?;
            }
        }
        Ok(())
    }

    /// Takes up a group of which entries up to `at` are applied already.
    fn take_up_at(
        &mut self,
        boot: GroupBoot,
        at: LogId,
        resume: Resume,
        now: Now,
    ) -> Result<(), String> {
        let GroupBoot {
            group, mut boot, ..
        } = boot;
        let run = boot.terms.partition_point(|(first, _)| *first <= at.index);
        let term = match run.checked_sub(1) {
            Some(run) => boot.terms[run].1,
            None => boot.base.term,
        };
        if !(boot.base.index..=boot.last).contains(&at.index) || term != at.term {
            return Err(format!(
                "entry {at} of group {group} was applied, and is not in its log"
            ));
        }
        boot.applied = at.index;
        boot.commit = boot.commit.max(at.index);
        let raft = self.raft_from(group, boot, now);
        let raft = raft.map_err(|reason| format!("group {group} cannot start: {reason}"))?;
        self.begin(group, Group::resumed(group, raft, resume));
        Ok(())
    }

    fn take_up(&mut self, boot: GroupBoot, now: Now) -> Result<(), String> {
        let id = boot.group;
        let group = self
            .group_from(boot, now)
            .map_err(|reason| format!("group {id} cannot start: {reason}"))?;
        self.begin(id, group);
        Ok(())
    }

    fn begin(&mut self, id: GroupId, group: Group) {
        self.groups.insert(id, group);
        self.bound_tails(id);
        self.touch(id);
    }

    fn group_from(&self, boot: GroupBoot, now: Now) -> Result<Group, String> {
        let GroupBoot {
            group,
            boot,
            checkpoint,
            ..
        } = boot;
        let reached = checkpoint.as_ref().map_or(Index(0), |(at, _)| at.index);
        if boot.applied != reached {
            return Err(format!(
                "entry {} is said to be applied, and the checkpoint reaches entry {reached}",
                boot.applied
            ));
        }
        let meaning = if group == GroupId::CLUSTER {
            Meaning::Cluster
        } else {
            Meaning::Topic(TopicLog::restore(
                checkpoint.as_ref(),
                self.settings.checkpoints,
            )?)
        };
        let watermark = match &meaning {
            Meaning::Cluster => Offset(0),
            Meaning::Topic(log) => log.next(),
        };
        let raft = self.raft_from(group, boot, now)?;
        Ok(Group::new(
            group,
            raft,
            meaning,
            Order::new(reached, watermark),
        ))
    }

    fn raft_from(&self, group: GroupId, mut boot: Boot, now: Now) -> Result<Raft, String> {
        boot.me = self.settings.me;
        if boot.base_config.1 == Membership::default() {
            boot.base_config = (Index(0), self.founders(group));
        }
        let mut settings = self.settings.raft.clone();
        if group == GroupId::CLUSTER {
            // Who is a member is known by it.
            settings.rest = Micros(0);
        }
        let seed = mixed(self.settings.seed, group.0);
        let raft = Raft::new(settings, boot, seed, now.monotonic);
        let mut raft = raft.map_err(|error| error.to_string())?;
        if self.retiring {
            raft.handle(now.monotonic, kontiki_raft::Input::Retire);
        }
        Ok(raft)
    }
}

impl Broker {
    /// The configuration that a group was born with.
    fn founders(&self, group: GroupId) -> Membership {
        if group == GroupId::CLUSTER {
            return Membership::of(self.settings.birth.members.iter().map(Member::node));
        }
        let topic = self.cluster.topic_of(group);
        let founders = topic.map_or(&[][..], |topic| &topic.founders);
        Membership::of(founders.iter().map(|founder| NodeRef::from(*founder)))
    }
}

/// A seed of its own for each group: neighbours must not draw the same timeouts (splitmix64).
fn mixed(seed: u64, group: u64) -> u64 {
    let mut mixed = seed ^ group.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
