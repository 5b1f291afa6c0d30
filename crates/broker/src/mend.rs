//! A group of which the disk has lost committed entries. Until it has them again it is no Raft at all,
//! as if this replica were down: it is asked of its peers, one after the other, and what they have is
//! handed to the disk, which says when the group is whole.

use kontiki_raft::{Hard, NodeId, NodeRef};
use kontiki_wire::{Found, GroupId, Member, Missing, Refusal, Response};

use crate::{
    apply::TopicLog,
    broker::Broker,
    effect::Effect,
    group::Resume,
    input::{GroupBoot, Now},
    pursuit::{Next, Pursuit, Range, join},
};

/// A group that is no Raft until the disk has again what it lost.
#[derive(Clone, Debug)]
pub(crate) struct Mending {
    pursuit: Pursuit,
    /// What was found damaged, for people.
    damage: String,
    /// Term, vote and standing, as they were when it ended.
    pub(crate) hard: Hard,
    /// Whether the disk had lost promises, too.
    pub(crate) forgot: bool,
    /// What was applied before, if the group was running in this life.
    resume: Option<Resume>,
    /// Whether there is nothing to do but to wait for the disk.
    storing: bool,
    /// What was found missing since the disk was last given something. If the disk says next that the
    /// group is whole, it had not looked there yet.
    since: Vec<Range>,
    /// What was last told for the log.
    told: &'static str,
}

/// What the disk has lost of a group.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) group: GroupId,
    pub(crate) missing: Vec<Range>,
    /// What was found damaged, for people.
    pub(crate) damage: String,
    /// Term, vote and standing.
    pub(crate) hard: Hard,
    /// Whether promises were lost, too.
    pub(crate) forgot: bool,
}

impl Lost {
    /// What a start found, if anything is missing.
    pub(crate) fn of(boot: &GroupBoot) -> Option<Self> {
        (!boot.missing.is_empty()).then(|| Self {
            group: boot.group,
            missing: boot.missing.clone(),
            damage: boot.damage.clone(),
            hard: boot.boot.hard,
            forgot: boot.boot.forgot,
        })
    }
}

impl Mending {
    /// The topic's state as it was when its group was ended, if it was running.
    pub(crate) fn log(&self) -> Option<&TopicLog> {
        self.resume.as_ref().and_then(Resume::log)
    }
}

impl Broker {
    /// The disk has lost entries of a group. If it is running, it is not from now on.
    pub(crate) fn damaged(&mut self, now: Now, id: GroupId, missing: Vec<Range>, what: String) {
        if let Some(mending) = self.mending.get_mut(&id) {
            if mending.storing {
                join(&mut mending.since, missing.clone());
            }
            mending.pursuit.miss(missing);
            return self.go_on(now, id);
        }
        let (hard, forgot, resume) = match self.groups.remove(&id) {
            Some(group) => {
                self.check(|broker| broker.release(id));
                self.tails.forget(id);
                self.note_end(now, id, group.noted);
                (group.hard(), false, Some(group.suspend(&mut self.outbox)))
            }
            None => match self.stop_fetching(now, id) {
                // What was just fetched is damaged already.
                Some(fetching) => (Hard::default(), fetching.forgot, None),
                None => {
                    if let Some(boot) = self.parked.get_mut(&id) {
                        join(&mut boot.missing, missing);
                        boot.damage = what;
                    }
                    return;
                }
            },
        };
        let lost = Lost {
            group: id,
            missing,
            damage: what,
            hard,
            forgot,
        };
        self.begin_mending(now, lost, resume);
        self.outbox.topic_closed(id);
    }

    /// A group is kept here that cannot be started before it is mended.
    pub(crate) fn begin_mending(&mut self, now: Now, lost: Lost, resume: Option<Resume>) {
        let id = lost.group;
        let mending = Mending {
            pursuit: Pursuit::new(lost.missing),
            damage: lost.damage,
            hard: lost.hard,
            forgot: lost.forgot,
            resume,
            storing: false,
            since: Vec::new(),
            told: "",
        };
        self.mending.insert(id, mending);
        self.go_on(now, id);
    }

    /// Answers everybody who waits for a group that is ended, and forgets what the disk has not
    /// confirmed of it.
    fn release(&mut self, id: GroupId) -> Result<(), String> {
        self.timers.forget(id);
        self.steering.remove(&id);
        self.touched.retain(|touched| *touched != id);
        self.outbox.forget_writes(id);
        let refused = Response::Refused(Refusal::Unavailable {
            why: "a part of its log is damaged on this member, which fetches it from the others"
                .to_owned(),
        });
        for ticket in self.tickets.end_transfer(id) {
            self.tickets
                .answer(ticket, refused.clone(), &mut self.outbox)?;
        }
        for (ticket, _) in self.tickets.drop_reads(id) {
            if let Some(ticket) = ticket {
                self.tickets
                    .answer(ticket, refused.clone(), &mut self.outbox)?;
            }
        }
        if id == GroupId::CLUSTER {
            let unknown = Response::Refused(Refusal::Unknown);
            for ticket in self.tickets.drop_commands() {
                self.tickets
                    .answer(ticket, unknown.clone(), &mut self.outbox)?;
            }
        }
        Ok(())
    }

    /// A peer has answered.
    pub(crate) fn found(&mut self, now: Now, from: NodeRef, found: Found) {
        let id = found.asked.group;
        let Some(mending) = self.mending.get_mut(&id) else {
            return;
        };
        let first = found.entries.first().map(|placed| placed.entry.id.index);
        let asked = (found.asked.first, found.asked.last);
        if !mending.pursuit.answered(from, asked, first) {
            return;
        }
        if first == Some(asked.0) {
            mending.storing = true;
            mending.since.clear();
            self.timers.forget(id);
            self.outbox.mend(id, found.entries);
        } else {
            self.go_on(now, id);
        }
    }

    /// The disk has taken in what it was given.
    pub(crate) fn taken_in(
        &mut self,
        now: Now,
        id: GroupId,
        missing: Vec<Range>,
        refused: Option<String>,
    ) {
        let Some(mending) = self.mending.get_mut(&id) else {
            return;
        };
        mending.storing = false;
        mending.pursuit.set_missing(missing);
        if let Some(why) = refused {
            mending.damage = why;
            mending.told = "";
            mending.pursuit.rest(now.monotonic);
        }
        self.go_on(now, id);
    }

    /// The alarm of a group that is mended has gone off.
    pub(crate) fn wake_mending(&mut self, now: Now, id: GroupId) {
        let Some(mending) = self.mending.get_mut(&id).filter(|mending| !mending.storing) else {
            return;
        };
        mending.pursuit.wake(now.monotonic);
        self.go_on(now, id);
    }

    /// A link to a peer has opened.
    pub(crate) fn ask_again(&mut self, now: Now, peer: NodeId) {
        let ids: Vec<GroupId> = self.mending.keys().copied().collect();
        for id in ids {
            if let Some(mending) = self.mending.get_mut(&id) {
                mending.pursuit.opened(peer);
                self.go_on(now, id);
            }
        }
    }

    /// Does what is next.
    fn go_on(&mut self, now: Now, id: GroupId) {
        let peers = self.peers_of(id);
        let Some(mending) = self.mending.get_mut(&id).filter(|mending| !mending.storing) else {
            return;
        };
        if let Next::Ask(to, (first, last)) = mending.pursuit.next(&peers, now.monotonic) {
            let missing = Missing {
                group: id,
                first,
                last,
            };
            self.outbox.ask(to, missing);
        }
        let deadline = mending.pursuit.deadline();
        self.timers.forget(id);
        self.timers.want(id, Some(deadline));
        self.tell(id);
    }

    /// Says once what has changed.
    fn tell(&mut self, id: GroupId) {
        let sentence = self.mending_sentence(id);
        let Some(mending) = self.mending.get_mut(&id) else {
            return;
        };
        let kind = mending.pursuit.kind();
        if std::mem::replace(&mut mending.told, kind) != kind {
            self.outbox.role_changed(Effect::Mending {
                group: id,
                note: sentence,
            });
        }
    }

    /// Everybody else who is to have what this node has of a group. Of the cluster's own these are also those who
    /// have come since: all whom this node's state knows may be gone.
    pub(crate) fn peers_of(&self, id: GroupId) -> Vec<NodeRef> {
        let keeps = |member: u64| match self.cluster.topic_of(id) {
            Some(topic) => topic.keepers().any(|keeper| keeper == member),
            None => id == GroupId::CLUSTER,
        };
        let members = self.cluster.state().members.iter();
        let members = members.chain(self.strangers.values());
        let peers = members.filter(|member| member.id != self.settings.me.id.0 && keeps(member.id));
        peers.map(Member::node).collect()
    }

    /// The group is whole again.
    pub(crate) fn mended(&mut self, now: Now, mut boot: GroupBoot) {
        let id = boot.group;
        if self.adopted(now, &mut boot) {
            return;
        }
        let Some(mut mending) = self.mending.remove(&id) else {
            return;
        };
        let since = std::mem::take(&mut mending.since);
        if !since.is_empty() {
            mending.storing = false;
            mending.pursuit.set_missing(since);
            self.mending.insert(id, mending);
            return self.go_on(now, id);
        }
        self.timers.forget(id);
        let me = self.cluster.name(self.settings.me.id);
        let what = self.group_words(id);
        self.outbox.role_changed(Effect::Mending {
            group: id,
            note: format!("{me} has mended {what}, which is whole again"),
        });
        boot.boot.forgot |= mending.forgot;
        self.check(|broker| broker.resume(now, boot, mending.resume));
    }

    /// One sentence for each group that is being mended.
    pub(crate) fn mending_sentences(&self) -> Vec<String> {
        let ids = self.mending.keys();
        ids.map(|id| self.mending_sentence(*id)).collect()
    }

    fn mending_sentence(&self, id: GroupId) -> String {
        let Some(mending) = self.mending.get(&id) else {
            return String::new();
        };
        let what = self.group_words(id);
        let me = self.cluster.name(self.settings.me.id);
        let name = |node: &NodeId| self.cluster.name(*node);
        let pursuit = &mending.pursuit;
        let damage = &mending.damage;
        let peers = self.peers_of(id);
        if let Some(nowhere) = pursuit.nowhere(&peers) {
            let others: Vec<_> = peers.iter().map(|peer| name(&peer.id)).collect();
            let others = match &others[..] {
                [] => "no other member keeps them".to_owned(),
                [other] => format!("{other} does not have them"),
                [others @ .., last] => {
                    format!("neither {} nor {last} has them", others.join(" nor "))
                }
            };
            let entries = words(&nowhere);
            return format!("{what} has stopped: {entries} are damaged on {me} and {others}");
        }
        let left = pursuit.missing_count();
        let silent: Vec<_> = pursuit.silent().iter().map(name).collect();
        match &silent[..] {
            [] => format!("{me} is mending {what}, {left} entries are left to fetch: {damage}"),
            silent => format!(
                "{me} is mending {what}, {left} entries are left to fetch, and waits for {}: {damage}",
                silent.join(" and ")
            ),
        }
    }
}

/// The first of some ranges, in words.
fn words(ranges: &[Range]) -> String {
    let range = |&(first, last): &Range| match first == last {
        true => format!("{first}"),
        false => format!("{first} to {last}"),
    };
    let listed: Vec<_> = ranges.iter().take(RANGES_TOLD).map(range).collect();
    let more = ranges.len().saturating_sub(RANGES_TOLD);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more stretches"),
    };
    format!("entries {}{more}", listed.join(", "))
}

/// Ranges that a sentence names.
const RANGES_TOLD: usize = 4;
