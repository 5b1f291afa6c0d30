//! One group of this node: its Raft, and what its order means.

use kontiki_raft::{
    Body, Committed, Hard, Index, LogId, Micros, NodeRef, ProposalId, Raft, Role, Status, Tail,
};
use kontiki_wire::{Batch, GroupId, Offset, Refusal, Watermark};

use crate::{
    append::Appends,
    apply::TopicLog,
    effect::Placed,
    input::{Now, StreamId},
    invariants::Order,
    outbox::Outbox,
};

/// A member of a group, with what was collected for it.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    id: GroupId,
    raft: Raft,
    meaning: Meaning,
    order: Order,
    appends: Appends,
    /// When this node began to lead it, if it does.
    pub(crate) led_since: Micros,
    /// The greatest commit index that a leader has told of.
    pub(crate) told: Index,
    /// Whether it is among those to be drained.
    pub(crate) touched: bool,
    /// Whether it rested, and whether it was led here, when that was last noted.
    pub(crate) noted: Noted,
}

/// What is known of a group where members are watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Noted {
    pub(crate) rests: bool,
    pub(crate) leads: bool,
}

/// What has been applied of a group that is ended, to go on from.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    meaning: Meaning,
    order: Order,
}

impl Resume {
    /// What a checkpoint tells of the cluster's own group.
    pub(crate) fn cluster(applied: Index) -> Self {
        Self {
            meaning: Meaning::Cluster,
            order: Order::new(applied, Offset(0)),
        }
    }

    /// How far that goes, unless this is the cluster's own group.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.log().map(TopicLog::position)
    }

    /// The topic's state, unless this is the cluster's own group.
    pub(crate) fn log(&self) -> Option<&TopicLog> {
        match &self.meaning {
            Meaning::Cluster => None,
            Meaning::Topic(log) => Some(log),
        }
    }
}

/// What the order is of.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    /// Commands to the cluster.
    Cluster,
    /// A topic's batches.
    Topic(TopicLog),
}

impl Group {
    pub(crate) fn new(id: GroupId, raft: Raft, meaning: Meaning, order: Order) -> Self {
        Self {
            id,
            raft,
            meaning,
            order,
            appends: Appends::default(),
            led_since: Micros(0),
            told: Index(0),
            touched: false,
            noted: Noted::default(),
        }
    }

    /// A group that goes on from what it had applied.
    pub(crate) fn resumed(id: GroupId, raft: Raft, resume: Resume) -> Self {
        Self::new(id, raft, resume.meaning, resume.order)
    }

    /// Whatever was collected before an input is proposed before it.
    pub(crate) fn feed(&mut self, now: Now, input: kontiki_raft::Input) {
        self.propose(now);
        self.raft.handle(now.monotonic, input);
    }

    /// To one that rests, before anything else: how lately the members were heard that are watched for it.
    pub(crate) fn watched(&mut self, now: Now, heard: Vec<(NodeRef, Micros)>) {
        let input = kontiki_raft::Input::Watched { heard };
        self.raft.handle(now.monotonic, input);
    }

    fn propose(&mut self, now: Now) {
        let proposals = self.appends.collected();
        if proposals.is_empty() {
            return;
        }
        let time = now.wall;
        let input = kontiki_raft::Input::Propose { time, proposals };
        self.raft.handle(now.monotonic, input);
    }

    /// Takes a batch that was admitted.
    pub(crate) fn append(&mut self, id: ProposalId, stream: StreamId, batch: &Batch) {
        self.appends.take(id, stream, batch);
    }

    /// What it keeps in memory for followers.
    pub(crate) fn tail(&self) -> Tail {
        self.raft.tail()
    }

    /// Keeps nothing of that.
    pub(crate) fn forget_tail(&mut self) {
        self.raft.forget_tail();
    }

    pub(crate) fn drain(&mut self, now: Now, out: &mut Vec<kontiki_raft::Effect>) {
        self.propose(now);
        self.raft.drain(now.monotonic, out);
    }

    /// Applies committed batches of a topic, answers their producers, and says where all went.
    pub(crate) fn apply(
        &mut self,
        committed: Vec<Committed>,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        let Meaning::Topic(log) = &mut self.meaning else {
            return Err("the cluster's own group has no batches".to_owned());
        };
        let mut all = Vec::with_capacity(committed.len());
        for Committed { entry, proposal } in committed {
            let applied = log.apply(&entry)?;
            self.order.placed(&applied.placed)?;
            all.push(applied.placed);
            let Some(id) = proposal else { continue };
            let Some(outcome) = applied.answer else {
                return Err(format!(
                    "entry {} carries a proposal and no batch",
                    entry.id
                ));
            };
            let (stream, answer) = self.appends.end(id, outcome)?;
            outbox.answer(stream, answer);
        }
        let watermark = log.next();
        self.order.raised(watermark)?;
        outbox.applied(self.id, all, watermark);
        Ok(())
    }

    /// Notes that an entry of the cluster's own group was applied.
    pub(crate) fn placed(&mut self, placed: &Placed) -> Result<(), String> {
        self.order.placed(placed)
    }

    /// A proposal ended without being committed.
    pub(crate) fn refused(
        &mut self,
        id: ProposalId,
        refusal: Refusal,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        let (stream, answer) = self.appends.end(id, Err(refusal))?;
        outbox.answer(stream, answer);
        Ok(())
    }

    /// What is left to do after a drain: keep the state if it is time, and check the books.
    pub(crate) fn settle(&mut self, outbox: &mut Outbox) -> Result<(), String> {
        if let Meaning::Topic(log) = &mut self.meaning
            && let Some((at, state)) = log.due_checkpoint()
        {
            outbox.checkpoint(self.id, at, state);
        }
        self.appends.balance()
    }

    /// The group is no more: nobody will learn what became of the batches that wait.
    pub(crate) fn end(mut self, outbox: &mut Outbox) {
        for (stream, answer) in self.appends.end_all(&Refusal::Unknown) {
            outbox.answer(stream, answer);
        }
    }

    /// The same, but what was applied stays, for the group comes back.
    pub(crate) fn suspend(mut self, outbox: &mut Outbox) -> Resume {
        for (stream, answer) in self.appends.end_all(&Refusal::Unknown) {
            outbox.answer(stream, answer);
        }
        Resume {
            meaning: self.meaning,
            order: self.order,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.raft.next_deadline()
    }

    /// Term, vote and standing.
    pub(crate) fn hard(&self) -> Hard {
        self.raft.hard()
    }

    /// Whether this node may have forgotten promises in it.
    pub(crate) fn is_recovering(&self) -> bool {
        self.raft.is_recovering()
    }

    /// The members that are to be watched for it, if it rests.
    pub(crate) fn rests_with(&self) -> Option<Vec<NodeRef>> {
        self.raft.rests_with()
    }

    pub(crate) fn leads(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// The leader this member knows; not itself.
    pub(crate) fn other_leader(&self) -> Option<NodeRef> {
        match self.raft.role() {
            Role::Follower { leader } => leader,
            _ => None,
        }
    }

    /// Whether it is led at this moment, by this member with its quorum or by one that was just heard.
    pub(crate) fn hears_leader(&self, now: Micros) -> bool {
        self.raft.hears_leader(now)
    }

    pub(crate) fn status(&self, now: Micros) -> Status {
        self.raft.status(now)
    }

    /// The topic's state, unless this is the cluster's own group.
    pub(crate) fn log(&self) -> Option<&TopicLog> {
        match &self.meaning {
            Meaning::Cluster => None,
            Meaning::Topic(log) => Some(log),
        }
    }

    pub(crate) fn watermark(&self) -> Watermark {
        self.log().map_or_else(Watermark::default, TopicLog::next)
    }

    /// Whoever leads may tell how much is committed.
    pub(crate) fn hear_of(&mut self, body: &Body) {
        let commit = match body {
            Body::Beat { commit, .. } | Body::Rest { commit, .. } => *commit,
            Body::Append { head, .. } => head.commit,
            _ => return,
        };
        self.told = self.told.max(commit);
    }

    /// Batches taken and not proposed yet.
    pub(crate) fn collected_count(&self) -> usize {
        self.appends.collected_count()
    }
}
