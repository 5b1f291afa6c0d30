//! A group's part of a drain: what its Raft asks for is handed on, and what it agreed on is given its
//! meaning.

use kontiki_raft::{Committed, Fate, Index};
use kontiki_wire::{GroupId, Offset, Refusal, Response};

use crate::{
    broker::Broker,
    cluster::{Change, no_such_topic},
    effect::{Effect, Placed},
    input::Now,
    planted::{Planted, plants},
    tickets::Sought,
};

impl Broker {
    /// Drains one group.
    pub(crate) fn turn(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.touched = false;
        let mut effects = std::mem::take(&mut self.scratch);
        group.drain(now, &mut effects);
        for effect in effects.drain(..) {
            self.check(|broker| {
                broker
                    .perform(now, id, effect)
                    .map_err(|reason| format!("group {id}: {reason}"))
            });
        }
        self.scratch = effects;
        self.check(|broker| broker.settle(now, id));
    }

    fn perform(
        &mut self,
        now: Now,
        id: GroupId,
        effect: kontiki_raft::Effect,
    ) -> Result<(), String> {
        use kontiki_raft::Effect as Asked;
        match effect {
            Asked::Persist(persist) => self.outbox.persist(id, persist),
            Asked::Send { to, message } => self.outbox.send(id, to, message),
            Asked::SendLog(send) => self.outbox.send_log(id, send),
            Asked::Committed(committed) if id == GroupId::CLUSTER => {
                return self.commands(now, committed);
            }
            Asked::Committed(committed) => {
                if let Some(group) = self.groups.get_mut(&id) {
                    return group.apply(committed, &mut self.outbox);
                }
            }
            Asked::Fate { id: proposal, fate } => return self.fate(id, proposal, fate),
            Asked::RoleChanged { term, role, why } => {
                self.outbox.role_changed(Effect::RoleChanged {
                    group: id,
                    term,
                    role,
                    why,
                });
            }
            Asked::Forgot => self.forget(now),
            Asked::TransferEnded { failed } => return self.transfer_ended(id, failed),
            Asked::ReadReady { id, index } => return self.tickets.confirm_read(id, index),
            Asked::ReadFailed { id, refused } => {
                let response = Response::Refused(self.cluster.refusal(Fate::Refused(refused)));
                let ticket = self.tickets.fail_read(id)?;
                return self.tickets.answer(ticket, response, &mut self.outbox);
            }
            // A topic's members are those of its birth: nobody asks for others yet.
            Asked::ChangeEnded { .. } | Asked::ConfigChanged { .. } | Asked::Removed { .. } => {}
            // And no log is compacted yet, so that nobody is told to fetch one.
            Asked::Fetch { .. } | Asked::Install { .. } | Asked::StretchRefused { .. } => {}
            Asked::Halt { reason } => return Err(reason),
        }
        Ok(())
    }

    /// Applies entries of the cluster's own group.
    fn commands(&mut self, now: Now, committed: Vec<Committed>) -> Result<(), String> {
        let mut all = Vec::with_capacity(committed.len());
        for Committed { entry, proposal } in committed {
            let change = self.cluster.apply(&entry)?;
            let placed = without_records(entry.id.index);
            if let Some(group) = self.groups.get_mut(&GroupId::CLUSTER) {
                group.placed(&placed)?;
            }
            all.push(placed);
            match &change {
                Some(Change::Made(topic)) => self.make(now, topic)?,
                Some(Change::Removed(topic)) => self.remove(entry.id.index, topic)?,
                Some(Change::Admitted(_) | Change::Member(_) | Change::Dropped(_)) => {
                    self.outbox.members(self.cluster.state());
                }
                Some(_) | None => {}
            }
            let Some(id) = proposal else { continue };
            let Some(change) = change else {
                return Err(format!(
                    "entry {} carries a proposal and no command",
                    entry.id
                ));
            };
            let response = self.response(change);
            let ticket = self.tickets.end_command(id)?;
            self.tickets.answer(ticket, response, &mut self.outbox)?;
        }
        self.outbox.applied(GroupId::CLUSTER, all, Offset(0));
        Ok(())
    }

    fn response(&self, change: Change) -> Response {
        match change {
            Change::Made(topic) => Response::Topic(self.topic_info(&topic)),
            Change::Exists(topic) => Response::Exists(self.topic_info(&topic)),
            Change::Edited(topic) | Change::Placed(topic) | Change::Settled(topic) => {
                Response::Topic(self.topic_info(&topic))
            }
            Change::Admitted(member) | Change::Member(member) => Response::Member(member),
            Change::Token(token) => Response::Token(token.info()),
            Change::Removed(_) | Change::Dropped(_) | Change::TokenGone => Response::Done,
            Change::Void(refusal) => Response::Refused(refusal),
        }
    }

    fn fate(
        &mut self,
        group: GroupId,
        proposal: kontiki_raft::ProposalId,
        fate: Fate,
    ) -> Result<(), String> {
        let refusal = self.cluster.refusal(fate);
        if group == GroupId::CLUSTER {
            let ticket = self.tickets.end_command(proposal)?;
            let response = Response::Refused(refusal);
            return self.tickets.answer(ticket, response, &mut self.outbox);
        }
        match self.groups.get_mut(&group) {
            Some(group) => group.refused(proposal, refusal, &mut self.outbox),
            None => Ok(()),
        }
    }

    fn transfer_ended(
        &mut self,
        group: GroupId,
        failed: Option<&'static str>,
    ) -> Result<(), String> {
        let response = failed.map_or(Response::Done, |why| {
            Response::Refused(Refusal::Unavailable {
                why: why.to_owned(),
            })
        });
        for ticket in self.tickets.end_transfer(group) {
            self.tickets
                .answer(ticket, response.clone(), &mut self.outbox)?;
        }
        Ok(())
    }

    /// After a group's turn: checkpoints, the next alarm, the books.
    fn settle(&mut self, now: Now, id: GroupId) -> Result<(), String> {
        let Some(group) = self.groups.get_mut(&id) else {
            return Ok(());
        };
        self.timers.want(id, group.next_deadline());
        group.settle(&mut self.outbox)?;
        let applied = match plants(Planted::ReadBeforeApplied) {
            true => Index(u64::MAX),
            false => match group.log() {
                Some(log) => log.applied(),
                None if id == GroupId::CLUSTER => self.cluster.applied().index,
                None => Index(0),
            },
        };
        for (ticket, sought) in self.tickets.end_reads(id, applied) {
            let response = match sought {
                Sought::Topics => self.metadata(),
                Sought::Tokens => self.tokens(),
                Sought::Topic(name) => match self.topic(&name) {
                    Some(topic) => Response::Topic(topic),
                    None => Response::Refused(no_such_topic(&name)),
                },
            };
            self.tickets.answer(ticket, response, &mut self.outbox)?;
        }
        if id == GroupId::CLUSTER {
            if let Some((at, state)) = self.cluster.due_checkpoint() {
                self.outbox.checkpoint(id, at, state);
            }
            if !self.leaving.is_empty()
                && let Some(group) = self.groups.get(&id)
            {
                let durable = group.status(now.monotonic).durable;
                self.leave(durable);
            }
        }
        Ok(())
    }
}

fn without_records(index: Index) -> Placed {
    Placed {
        index,
        offset: Offset(0),
        count: 0,
    }
}
