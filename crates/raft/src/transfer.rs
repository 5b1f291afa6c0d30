//! Handing leadership over (dissertation §3.10).

use crate::{
    effect::Effect,
    ids::{LogId, NodeId, NodeRef},
    input::Planted,
    message::{Body, Message},
    raft::Raft,
    role::{Handover, State, Summons},
};

impl Raft {
    /// The host wants `to` to lead.
    pub(crate) fn on_transfer(&mut self, to: NodeId) {
        let target = self
            .configs
            .latest()
            .voters
            .iter()
            .find(|node| node.id == to);
        let target = target.copied();
        let Some(leader) = self.state.leader_mut() else {
            return self.transfer_ended(Some("this member does not lead"));
        };
        let Some(to) = target else {
            return self.transfer_ended(Some("the target is not a voter"));
        };
        if let Some(handover) = self.handover.as_mut().filter(|h| h.to == to) {
            handover.asked = handover.asked.saturating_add(1);
            return;
        }
        let recovering = leader.peer(to).is_some_and(|peer| !peer.counts);
        leader.summoned = false;
        self.end_handover(Some("another target was named"));
        if to == self.me {
            return self.transfer_ended(None);
        }
        if recovering {
            return self.transfer_ended(Some("the target is recovering"));
        }
        let until = self.now.after(self.settings.election_timeout);
        self.handover = Some(Handover {
            to,
            until,
            asked: 1,
        });
    }

    /// A transfer under way ends, which is said as often as it was asked for.
    pub(crate) fn end_handover(&mut self, failed: Option<&'static str>) {
        let asked = self.handover.take().map_or(0, |handover| handover.asked);
        for _ in 0..asked {
            self.transfer_ended(failed);
        }
    }

    fn transfer_ended(&mut self, failed: Option<&'static str>) {
        self.effects.push(Effect::TransferEnded { failed });
    }

    /// If it is now known who leads, a transfer that this member began has ended.
    pub(crate) fn leader_known(&mut self) {
        let State::Follower(follower) = &self.state else {
            return;
        };
        let (Some(handover), Some(leader)) = (self.handover, follower.leader) else {
            return;
        };
        let reached = leader == handover.to;
        self.end_handover((!reached).then_some("another member was elected"));
    }

    /// Tells the target to take over, once it has everything.
    pub(crate) fn send_summons(&mut self, out: &mut Vec<Effect>) {
        let (Some(handover), need) = (self.handover, self.log.last()) else {
            return;
        };
        let Some(leader) = self.state.leader_mut() else {
            return;
        };
        // Who leaves for good lets all that was taken be answered first.
        let answered = !leader.stepping_out || self.commit == need.index;
        let ready = leader
            .peer(handover.to)
            .is_some_and(|peer| peer.counted == need.index);
        let ready = ready || self.settings.plants(Planted::TransferUnready);
        if leader.summoned || !ready || !answered {
            return;
        }
        leader.summoned = true;
        out.push(Effect::Send {
            to: handover.to,
            message: Message {
                term: self.hard.term,
                body: Body::TimeoutNow { need },
            },
        });
    }

    /// The leader wants this member to take over.
    pub(crate) fn on_summons(&mut self, from: NodeRef, need: LogId) {
        let until = self.now.after(self.settings.election_timeout);
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        if follower.leader == Some(from) {
            follower.summons = Some(Summons { need, until });
            self.try_summons();
        }
    }

    /// Takes over if it was told to and has on disk what it takes.
    pub(crate) fn try_summons(&mut self) {
        let State::Follower(follower) = &mut self.state else {
            return;
        };
        let Some(Summons { need, until }) = follower.summons else {
            return;
        };
        if self.now >= until {
            follower.summons = None;
            return;
        }
        let ready = self.writes.durable() >= need.index && self.log.contains(need)
            || self.settings.plants(Planted::TransferUnready);
        if ready && self.stands() {
            self.campaign(true, "the leader hands over");
        }
    }
}
