//! A group that this node is to keep and has nothing of, while its peers have much: instead of being sent
//! the log entry by entry by its leader, it fetches it as it lies in the files of another, and is a Raft
//! only when that is here. Until then it is as if this replica were down; the rest is sent by the leader.
//!
//! Whoever is to keep the group is asked how much there is. If that is worth it, one of those who have it
//! is asked for it, the leader last; whoever fails is passed over. When all have failed several times, what
//! was fetched is made use of, or the group is born with nothing.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{Body, Index, Message, Micros, NodeRef};
use kontiki_wire::{FetchStatus, GroupId, Inquiry, Stock, Topic};

use crate::{
    broker::Broker,
    effect::Effect,
    input::{GroupBoot, Now},
    meter::Meter,
};

/// Bytes in sealed files from which on a log is fetched, unless set otherwise: less is sent in a second or so.
pub const FETCH_BYTES_MIN: u64 = 64 << 20;
/// Whoever has not said by then how much there is, is done without.
const STOCK_AWAITED_MAX: Micros = Micros(500_000);
/// Before everybody is asked once more.
const PASS_REST: Micros = Micros(1_000_000);
/// How often everybody is asked.
const PASSES_MAX: u32 = 4;
/// Whoever leads what is fetched hears so often that it comes on: more than once in the time after which it
/// would give up somebody of whom it hears nothing.
const ASK_ON: Micros = Micros(5_000_000);

/// How far it has come with one group.
#[derive(Clone, Debug)]
pub(crate) struct Fetching {
    stage: Stage,
    /// Whether it may have forgotten what it promised in the group. Nothing else here knows once the
    /// cluster's own group counts again, which it may do long before the log is here.
    pub(crate) forgot: bool,
    /// What peers have said.
    stocks: BTreeMap<NodeRef, u64>,
    /// Who has failed in this pass.
    failed: BTreeSet<NodeRef>,
    passes: u32,
    /// When peers were asked last.
    asked: Micros,
    /// Who was heard to lead.
    leader: Option<NodeRef>,
    bytes: u64,
    of: u64,
    /// How fast it comes, since something has.
    meter: Option<Meter>,
    /// What went wrong last, for people.
    trouble: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Peers are asked what they have.
    Asking(Micros),
    /// All have failed: after this they are asked again.
    Resting(Micros),
    /// Another group is fetched.
    Queued,
    /// It is fetched.
    Fetching(NodeRef),
    /// It is here, and the disk is to have the group begin with it.
    Adopting,
}

impl Fetching {
    /// It was not heard of by an election: who beats or appends leads.
    pub(crate) fn hear(&mut self, from: NodeRef, message: &Message) {
        if matches!(
            message.body,
            Body::Beat { .. } | Body::Rest { .. } | Body::Append { .. }
        ) {
            self.leader = Some(from);
        }
    }
}

impl Broker {
    /// Whether a group of which nothing is here is to be looked for at its peers first. Whoever it was born
    /// with may be needed to elect a leader, and is not kept from that.
    pub(crate) fn may_fetch(&self, topic: &Topic) -> bool {
        let me = self.settings.me;
        if self.settings.fetch_bytes_min == u64::MAX {
            return false;
        }
        let founder = topic.founders.iter().any(|one| NodeRef::from(*one) == me);
        (!founder || topic.parted.contains(&me.id.0)) && !self.peers_of(topic.group).is_empty()
    }

    /// Asks who has the log of a group.
    ///
    /// While it is fetched, the disk has nothing of the group, and does not say either that promises were
    /// forgotten in it. So what an entry that was on the disk at the start places here may have been fetched
    /// by an earlier life that had forgotten, and this one goes on from there. If nothing was, that keeps
    /// nobody from anything: who was not there at the birth of a group counts in it only with its log.
    pub(crate) fn begin_fetching(&mut self, now: Now, topic: &Topic) {
        let again = self.cluster.applied().index <= self.found;
        let fetching = Fetching {
            stage: Stage::Asking(now.monotonic),
            forgot: self.birth(topic.group, now).boot.forgot || again,
            stocks: BTreeMap::new(),
            failed: BTreeSet::new(),
            passes: 0,
            asked: now.monotonic,
            leader: None,
            bytes: 0,
            of: 0,
            meter: None,
            trouble: None,
        };
        self.fetching.insert(topic.group, fetching);
        self.inquire(now, topic.group);
    }

    fn inquire(&mut self, now: Now, id: GroupId) {
        let peers = self.peers_of(id);
        let Some(fetching) = self.fetching.get_mut(&id) else {
            return;
        };
        let until = now.monotonic.after(STOCK_AWAITED_MAX);
        fetching.stage = Stage::Asking(until);
        fetching.passes += 1;
        fetching.asked = now.monotonic;
        fetching.stocks.clear();
        fetching.failed.clear();
        self.ask(id, peers);
        self.timers.forget(id);
        self.timers.want(id, Some(until));
    }

    /// A peer says how much there is.
    pub(crate) fn stocked(&mut self, now: Now, from: NodeRef, stock: Stock) {
        let id = stock.asked.group;
        let peers = self.peers_of(id);
        let Some(fetching) = self.fetching.get_mut(&id) else {
            return;
        };
        if !matches!(fetching.stage, Stage::Asking(_)) || !peers.contains(&from) {
            return;
        }
        fetching.stocks.insert(from, stock.bytes);
        if peers.iter().all(|peer| fetching.stocks.contains_key(peer)) {
            self.choose(now, id);
        }
    }

    /// The alarm of a group that is fetched has gone off.
    pub(crate) fn wake_fetching(&mut self, now: Now, id: GroupId) {
        let Some(fetching) = self.fetching.get(&id) else {
            return;
        };
        match fetching.stage {
            Stage::Asking(at) if at <= now.monotonic => self.choose(now, id),
            Stage::Resting(at) if at <= now.monotonic => self.inquire(now, id),
            Stage::Asking(at) | Stage::Resting(at) => self.timers.want(id, Some(at)),
            Stage::Queued | Stage::Fetching(_) | Stage::Adopting => {}
        }
    }

    /// Fetches from the best of those who have not failed, if it is worth it.
    fn choose(&mut self, now: Now, id: GroupId) {
        let (me, least) = (self.settings.me.id.0, self.settings.fetch_bytes_min);
        let preferred = self.cluster.topic_of(id).map(|topic| topic.preferred);
        let busy = |one: &Fetching| matches!(one.stage, Stage::Fetching(_));
        let busy = self.fetching.values().any(busy);
        let Some(fetching) = self.fetching.get_mut(&id) else {
            return;
        };
        self.timers.forget(id);
        let leads = |node: &NodeRef| match fetching.leader {
            Some(leader) => *node == leader,
            None => Some(node.id.0) == preferred,
        };
        let able = fetching
            .stocks
            .iter()
            .filter(|(node, bytes)| **bytes >= least.max(1) && !fetching.failed.contains(node));
        // Of several who come at once, not all begin with the same.
        let best = able.min_by_key(|(node, _)| (leads(node), node.id.0.wrapping_sub(me)));
        match best.map(|(node, bytes)| (*node, *bytes)) {
            Some(_) if busy => fetching.stage = Stage::Queued,
            Some((from, of)) => {
                fetching.stage = Stage::Fetching(from);
                fetching.of = fetching.of.max(of);
                self.outbox.fetch(Effect::Fetch { group: id, from });
                self.tell_fetching(id);
            }
            // Links may not be up yet, if nobody has said anything.
            None if (!fetching.failed.is_empty() || fetching.stocks.is_empty())
                && fetching.passes < PASSES_MAX =>
            {
                let at = now.monotonic.after(PASS_REST);
                fetching.stage = Stage::Resting(at);
                self.timers.want(id, Some(at));
            }
            None if fetching.bytes > 0 => self.adopt(now, id),
            None => self.begin_without(now, id),
        }
    }

    /// The disk has more of a log that is fetched.
    pub(crate) fn fetching(&mut self, now: Now, id: GroupId, bytes: u64, of: u64) {
        if let Some(fetching) = self.fetching.get_mut(&id) {
            let meter = fetching.meter.take();
            let meter = meter.unwrap_or_else(|| Meter::new(now.monotonic, bytes));
            fetching.meter = Some(meter.read(now.monotonic, bytes));
            fetching.bytes = bytes;
            fetching.of = of.max(bytes);
        }
        self.ask_on(now);
    }

    /// While something comes, whoever leads what is fetched, or waits for that to end, is asked once more how
    /// much there is: from a group that is no Raft yet it hears nothing else.
    fn ask_on(&mut self, now: Now) {
        let is_due = |one: &Fetching| now.monotonic.since(one.asked) >= ASK_ON;
        let due = self.fetching.iter().filter(|(_, one)| is_due(one));
        let due: Vec<GroupId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let mut peers = self.peers_of(id);
            let Some(fetching) = self.fetching.get_mut(&id) else {
                continue;
            };
            fetching.asked = now.monotonic;
            if let Some(leader) = fetching.leader {
                peers.retain(|peer| *peer == leader);
            }
            self.ask(id, peers);
        }
    }

    fn ask(&mut self, group: GroupId, peers: impl IntoIterator<Item = NodeRef>) {
        let first = Index(1);
        for to in peers {
            let inquiry = Inquiry { group, first };
            self.outbox.fetch(Effect::Inquire { to, inquiry });
        }
    }

    /// A fetch has ended.
    pub(crate) fn fetched(&mut self, now: Now, id: GroupId, from: NodeRef, failed: Option<String>) {
        let stage = self.fetching.get(&id).map(|fetching| fetching.stage);
        // The own disk says so; a peer's fetch that failed late does not matter any more.
        if stage == Some(Stage::Adopting) && from == self.settings.me && failed.is_some() {
            self.begin_without(now, id);
        }
        if let Some(fetching) = self.fetching.get_mut(&id)
            && fetching.stage == Stage::Fetching(from)
        {
            match failed {
                None => self.adopt(now, id),
                Some(why) => {
                    fetching.failed.insert(from);
                    fetching.trouble = Some(format!("{}: {why}", self.cluster.name(from.id)));
                    self.choose(now, id);
                    self.tell_fetching(id);
                }
            }
        }
        self.fetch_next(now);
    }

    fn adopt(&mut self, now: Now, id: GroupId) {
        if let Some(fetching) = self.fetching.get_mut(&id) {
            fetching.stage = Stage::Adopting;
            let forgot = fetching.forgot;
            self.outbox.fetch(Effect::Adopt { group: id, forgot });
        }
        self.fetch_next(now);
    }

    /// Whoever waited for another fetch to end has its turn.
    fn fetch_next(&mut self, now: Now) {
        let waiting =
            |(id, one): (&GroupId, &Fetching)| (one.stage == Stage::Queued).then_some(*id);
        if let Some(id) = self.fetching.iter().find_map(waiting) {
            self.choose(now, id);
        }
    }

    /// There is little to fetch, or nobody gives it: the leader sends what there is.
    fn begin_without(&mut self, now: Now, id: GroupId) {
        let fetching = self.fetching.remove(&id);
        self.outbox.fetch(Effect::Forgo(id));
        let mut boot = self.birth(id, now);
        boot.boot.forgot |= fetching.is_some_and(|fetching| fetching.forgot);
        self.check(|broker| broker.resume(now, boot, None));
    }

    /// What was fetched of a group is its log from now on; false if it was not fetched.
    pub(crate) fn adopted(&mut self, now: Now, boot: &mut GroupBoot) -> bool {
        let Some(fetching) = self.fetching.remove(&boot.group) else {
            return false;
        };
        boot.boot.forgot |= fetching.forgot;
        let (me, what) = (self.settings.me.id, self.group_words(boot.group));
        let note = format!(
            "{} has fetched {what} up to entry {}",
            self.cluster.name(me),
            boot.boot.last
        );
        self.outbox.role_changed(Effect::Fetching {
            group: boot.group,
            note,
        });
        let boot = boot.clone();
        self.check(|broker| broker.resume(now, boot, None));
        true
    }

    /// It is fetched no more: how far it had come, if it was. Whoever waited for that has its turn.
    pub(crate) fn stop_fetching(&mut self, now: Now, id: GroupId) -> Option<Fetching> {
        let was = self.fetching.remove(&id)?;
        self.fetch_next(now);
        Some(was)
    }

    /// How far it has come, if the group is being fetched.
    pub(crate) fn fetch_status(&self, id: GroupId) -> Option<FetchStatus> {
        let fetching = self.fetching.get(&id)?;
        let from = match fetching.stage {
            Stage::Fetching(from) => Some(self.cluster.name(from.id)),
            _ => None,
        };
        Some(FetchStatus {
            from,
            bytes: fetching.bytes,
            of: fetching.of,
            bytes_per_second: fetching.meter.map_or(0, |meter| meter.bytes_per_second),
            why: self.fetch_sentence(id),
        })
    }

    fn tell_fetching(&mut self, id: GroupId) {
        let note = self.fetch_sentence(id);
        self.outbox
            .role_changed(Effect::Fetching { group: id, note });
    }

    fn fetch_sentence(&self, id: GroupId) -> String {
        let Some(fetching) = self.fetching.get(&id) else {
            return String::new();
        };
        let (me, what) = (self.cluster.name(self.settings.me.id), self.group_words(id));
        let does = match fetching.stage {
            Stage::Asking(_) => "asks who has the log of".to_owned(),
            Stage::Resting(_) => "will ask again who has the log of".to_owned(),
            Stage::Queued => "fetches another log before that of".to_owned(),
            Stage::Fetching(from) => {
                format!("fetches from {} the log of", self.cluster.name(from.id))
            }
            Stage::Adopting => "has fetched and takes in the log of".to_owned(),
        };
        match &fetching.trouble {
            None => format!("{me} {does} {what}"),
            Some(trouble) => format!("{me} {does} {what} ({trouble})"),
        }
    }
}
