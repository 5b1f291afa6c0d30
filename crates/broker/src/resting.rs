//! Groups that rest, and the members that are watched for them.
//!
//! In a group that rests all is said, and nobody in it beats (see `rest.rs` of `kontiki-raft`). Instead each two
//! members that have such groups in common beat for all of them at once: [`MemberBeat`], every beat interval, from
//! each to the other, with the number of the last one heard. From that both know how lately the other lived, and
//! tell it to a group before anything else happens in it.
//!
//! A member's beat says to who follows: *I lead on whatever you rest in with me.* So whoever ceases to lead a group
//! names it in its beats to all members until that was heard; whoever begins anew beats with another life; and whoever
//! is not heard for an election timeout, or does not answer for a little longer, is believed to lead, or to follow, no
//! more.
//! Then the groups are roused and look after themselves, as they do without all this. Nothing here is waited
//! for: what is lost costs a rest that begins later, or an election that was not needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry};

use kontiki_raft::{Input as Said, Micros, NodeRef};
use kontiki_wire::{GroupId, Member, MemberBeat, limits::ENDED_RESTS_MAX};

use crate::{broker::Broker, chores::Chore, group::Noted, input::Now};

/// Which groups rest with whom.
#[derive(Clone, Debug)]
pub(crate) struct Resting {
    /// This run.
    life: u64,
    /// The last beat sent, to whomever.
    beat: u64,
    groups: BTreeMap<GroupId, Rest>,
    /// Who is beaten to. Of each kind they have those of `groups` that rest with the peer.
    watches: BTreeMap<NodeRef, Watch>,
}

/// One group's.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rest {
    leads: bool,
    with: Vec<NodeRef>,
}

/// One peer, with all groups that rest with it.
#[derive(Clone, Debug, Default)]
struct Watch {
    /// Those that this member leads.
    led: BTreeSet<GroupId>,
    /// Those that the peer leads.
    followed: BTreeSet<GroupId>,
    /// Those that this member has ceased to lead, and that may rest there.
    ended: BTreeMap<GroupId, Ended>,
    /// Beats sent that are not answered yet, and when each left.
    unanswered: VecDeque<(u64, Micros)>,
    /// When the last one left that was answered.
    answered: Option<Micros>,
    /// The life and number of the last beat heard.
    heard: Option<(u64, u64)>,
    /// When that was.
    heard_at: Option<Micros>,
    /// It named groups, and waits for word that this was heard.
    owed: bool,
    /// Since when groups of each kind rest with it: before, nothing was to be heard.
    led_since: Micros,
    followed_since: Micros,
}

/// Who follows is to hear that the group has no leader here any more.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// The first beat that says so, once one has left.
    told: Option<u64>,
    /// By then whoever rests has been roused by itself.
    until: Micros,
}

impl Resting {
    pub(crate) fn new(life: u64) -> Self {
        Self {
            life: life.max(1),
            beat: 0,
            groups: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// What is known of the members that are watched for a group; `None` if it does not rest.
    fn evidence(&self, group: GroupId) -> Option<Vec<(NodeRef, Micros)>> {
        let rest = self.groups.get(&group)?;
        let heard = rest.with.iter().filter_map(|peer| {
            let watch = self.watches.get(peer)?;
            let at = match rest.leads {
                true => watch.answered,
                false => watch.heard_at,
            };
            at.map(|at| (*peer, at))
        });
        Some(heard.collect())
    }

    /// A group is as it is now. Whether it has begun to rest with anybody.
    fn note(&mut self, group: GroupId, now: Micros, rest: Option<Rest>) -> bool {
        if self.groups.get(&group) == rest.as_ref() {
            return false;
        }
        let before = match &rest {
            Some(rest) => self.groups.insert(group, rest.clone()),
            None => self.groups.remove(&group),
        };
        let of = |rest: Option<&Rest>, leads: bool| -> BTreeSet<NodeRef> {
            let rest = rest.filter(|rest| rest.leads == leads);
            rest.map_or_else(BTreeSet::new, |rest| rest.with.iter().copied().collect())
        };
        let mut begun = false;
        for led in [true, false] {
            let (before, after) = (of(before.as_ref(), led), of(rest.as_ref(), led));
            for peer in before.difference(&after) {
                let watch = self.watches.entry(*peer).or_default();
                watch.of(led).remove(&group);
            }
            for peer in after.difference(&before) {
                self.watches
                    .entry(*peer)
                    .or_default()
                    .begin(group, led, now);
                begun = true;
            }
        }
        begun
    }

    /// This member leads a group from now on.
    fn lead(&mut self, group: GroupId) {
        for watch in self.watches.values_mut() {
            watch.ended.remove(&group);
        }
    }

    /// This member leads a group no more: nobody is to take its beats for the group's. Who follows may rest before
    /// its leader does, and so may anybody.
    fn cease(&mut self, group: GroupId, until: Micros, members: impl Iterator<Item = NodeRef>) {
        for peer in members {
            let watch = self.watches.entry(peer).or_default();
            watch.ended.insert(group, Ended { told: None, until });
        }
    }

    /// The next beat to each peer that has groups in common, or is to be told that it has none.
    fn beats(&mut self, now: Micros, timeout: Micros) -> Vec<(NodeRef, MemberBeat)> {
        self.beat += 1;
        let this = (self.life, self.beat);
        let watches = self.watches.iter_mut();
        let open = watches.filter(|(_, watch)| !watch.is_over());
        open.map(|(peer, watch)| (*peer, watch.next(this, now, timeout)))
            .collect()
    }
}

impl Watch {
    fn of(&mut self, led: bool) -> &mut BTreeSet<GroupId> {
        match led {
            true => &mut self.led,
            false => &mut self.followed,
        }
    }

    fn begin(&mut self, group: GroupId, led: bool, now: Micros) {
        if self.of(led).is_empty() {
            match led {
                true => self.led_since = now,
                false => self.followed_since = now,
            }
        }
        self.of(led).insert(group);
    }

    fn is_over(&self) -> bool {
        let none = self.led.is_empty() && self.followed.is_empty() && self.ended.is_empty();
        none && !self.owed
    }

    fn next(&mut self, (life, beat): (u64, u64), now: Micros, timeout: Micros) -> MemberBeat {
        self.owed = false;
        self.ended.retain(|_, ended| ended.until > now);
        let old = |(_, at): &(u64, Micros)| now.since(*at) > timeout;
        while self.unanswered.front().is_some_and(old) {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((beat, now));
        for (at, ended) in self.ended.values_mut().enumerate() {
            // Whoever answers this one has heard of those that are in it.
            let told = ended.told.unwrap_or(beat);
            ended.told = (at < ENDED_RESTS_MAX).then_some(told);
        }
        MemberBeat {
            life,
            beat,
            ended: self.ended.keys().take(ENDED_RESTS_MAX).copied().collect(),
            heard: self.heard,
        }
    }

    /// A beat was heard: the groups that rest no more because of it. `None` if it is an old one.
    fn hear(&mut self, life: u64, beat: &MemberBeat, now: Micros) -> Option<Vec<GroupId>> {
        let (before, number) = self.heard.unwrap_or((beat.life, 0));
        let anew = before != beat.life;
        if !anew && beat.beat <= number {
            return None;
        }
        self.heard = Some((beat.life, beat.beat));
        self.owed = !beat.ended.is_empty();
        if let Some((_, answered)) = beat.heard.filter(|(of, _)| *of == life) {
            while let Some((number, at)) = self.unanswered.front().copied()
                && number <= answered
            {
                self.answered = Some(at);
                self.unanswered.pop_front();
            }
            let open = |told: Option<u64>| told.is_none_or(|told| told > answered);
            self.ended.retain(|_, ended| open(ended.told));
        }
        if anew {
            // What was agreed on with the life before is not known to this one.
            return Some(self.led.union(&self.followed).copied().collect());
        }
        self.heard_at = Some(now);
        let ended = beat
            .ended
            .iter()
            .filter(|group| self.followed.contains(group));
        Some(ended.copied().collect())
    }

    /// The groups for which the peer has been silent for too long. An answer takes its way there and back, and up
    /// to an interval at either end.
    fn lost(&self, now: Micros, timeout: Micros, interval: Micros) -> Vec<GroupId> {
        let silent = |last: Option<Micros>, since: Micros, timeout: Micros| {
            now.since(last.map_or(since, |at| at.max(since))) >= timeout
        };
        let answered = timeout.after(interval).after(interval);
        let led = Some(&self.led).filter(|_| silent(self.answered, self.led_since, answered));
        let silent = silent(self.heard_at, self.followed_since, timeout);
        let followed = Some(&self.followed).filter(|_| silent);
        led.into_iter().chain(followed).flatten().copied().collect()
    }
}

impl Broker {
    /// After a group's turn: whether it rests now, and with whom, and whether this member leads it.
    pub(crate) fn note_rest(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let (leads, with) = (group.leads(), group.rests_with());
        let rests = with.is_some();
        let before = std::mem::replace(&mut group.noted, Noted { rests, leads });
        if !rests && before == group.noted {
            return;
        }
        if leads && !before.leads {
            self.resting.lead(id);
        }
        let ceases = before.leads && !leads;
        self.note_change(now, id, with.map(|with| Rest { leads, with }), ceases);
    }

    /// A group is ended that was noted so.
    pub(crate) fn note_end(&mut self, now: Now, id: GroupId, noted: Noted) {
        if noted != Noted::default() {
            self.note_change(now, id, None, noted.leads);
        }
    }

    fn note_change(&mut self, now: Now, id: GroupId, rest: Option<Rest>, ceases: bool) {
        // The cluster's own group never rests.
        let ceases = ceases && id != GroupId::CLUSTER;
        if ceases {
            let until = now.monotonic.after(self.settings.raft.rest_of_followers());
            let members = self.cluster.state().members.iter().map(Member::node);
            let others = members.filter(|node| *node != self.settings.me);
            self.resting.cease(id, until, others);
        }
        let begins = self.resting.note(id, now.monotonic, rest);
        if begins || ceases {
            self.later(now, Chore::Beat, self.settings.raft.beat_interval);
        }
    }

    /// Tells a group that rests how lately the members were heard that are watched for it.
    pub(crate) fn tell_watched(&mut self, now: Now, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id)
            && group.noted.rests
            && let Some(heard) = self.resting.evidence(id)
        {
            group.watched(now, heard);
        }
    }

    /// When a group is to be woken that wants to be at `deadline`: rests end together, so that the beats of many
    /// groups share a frame.
    pub(crate) fn wake_at(&self, id: GroupId, deadline: Option<Micros>) -> Option<Micros> {
        let grain = (self.settings.raft.rest.0 / REST_GRAINS).max(1);
        match self.resting.groups.contains_key(&id) {
            true => {
                deadline.map(|at| Micros(at.0.checked_next_multiple_of(grain).unwrap_or(u64::MAX)))
            }
            false => deadline,
        }
    }

    /// Forgets those who are members no more.
    pub(crate) fn watch_members(&mut self) {
        let cluster = &self.cluster;
        let stays = |peer: &NodeRef, watch: &mut Watch| {
            cluster.member(peer.id.0).is_some() || !watch.is_over()
        };
        self.resting.watches.retain(stays);
    }

    /// Beats for all groups that rest, and rouses those whose members are silent.
    pub(crate) fn beat(&mut self, now: Now) {
        let raft = &self.settings.raft;
        let (timeout, interval) = (raft.election_timeout, raft.beat_interval);
        let watches = self.resting.watches.values();
        let lost = watches.flat_map(|watch| watch.lost(now.monotonic, timeout, interval));
        self.rouse(now, lost.collect());
        let beats = self.resting.beats(now.monotonic, timeout);
        if !beats.is_empty() {
            self.later(now, Chore::Beat, interval);
        }
        for (to, beat) in beats {
            self.outbox.beat(to, beat);
        }
    }

    /// A peer has beaten.
    pub(crate) fn beaten(&mut self, now: Now, from: NodeRef, beat: &MemberBeat) {
        let life = self.resting.life;
        // With whom nothing rests here finds that out when it is not answered.
        let watch = match self.resting.watches.entry(from) {
            Entry::Vacant(_) if beat.ended.is_empty() => return,
            entry => entry.or_default(),
        };
        let ended = watch.hear(life, beat, now.monotonic);
        if watch.owed {
            self.later(now, Chore::Beat, self.settings.raft.beat_interval);
        }
        self.rouse(now, ended.unwrap_or_default().into_iter().collect());
    }

    fn rouse(&mut self, now: Now, groups: BTreeSet<GroupId>) {
        for id in groups {
            self.feed(now, id, Said::Rouse);
        }
    }
}

/// How long a topic's group rests, as shipped.
pub const REST: Micros = Micros(10_000_000);
/// The rests of all groups end at so many times within the longest one.
const REST_GRAINS: u64 = 10;

#[cfg(test)]
mod tests;
