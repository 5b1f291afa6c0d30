//! A group's part of a drain: what its Raft asks for is handed on, and what it agreed on is given its
//! meaning.

use kontiki_raft::{Committed, Entry, Fate, Index, ProposalId, Role};
use kontiki_wire::{GroupId, Offset, Refusal, Response};

use crate::{
    broker::Broker,
    chores::Chore,
    cluster::{Change, no_such_topic},
    effect::{Effect, Placed},
    group::Group,
    input::Now,
    planted::{Planted, plants},
    tickets::Sought,
};

impl Broker {
    /// Drains one group.
    pub(crate) fn turn(&mut self, now: Now, id: GroupId) {
        self.tell_watched(now, id);
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
        self.bound_tails(id);
        self.note_rest(now, id);
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
            Asked::Persist(persist) => {
                if id == GroupId::CLUSTER {
                    self.read_ahead(&persist);
                }
                self.outbox.persist(id, persist);
            }
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
                if role == Role::Leader {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.led_since = now.monotonic;
                    }
                    self.begin_to_lead(now, id);
                }
                self.outbox.role_changed(Effect::RoleChanged {
                    group: id,
                    term,
                    role,
                    why,
                });
            }
            Asked::Forgot => self.forget(now),
            Asked::TransferEnded { failed } => return self.transfer_ended(now, id, failed),
            Asked::ReadReady { id, index } => return self.tickets.confirm_read(id, index),
            Asked::ReadFailed { id, refused } => {
                let response = Response::Refused(self.cluster.refusal(Fate::Refused(refused)));
                if let Some(ticket) = self.tickets.fail_read(id)? {
                    return self.tickets.answer(ticket, response, &mut self.outbox);
                }
            }
            Asked::ChangeEnded { id: change, end } => self.change_ended(now, id, change, end),
            Asked::ConfigChanged { .. } if self.groups.get(&id).is_some_and(Group::leads) => {
                self.soon(now, Chore::Steer(id));
                if id == GroupId::CLUSTER {
                    // Who counts now may get topics.
                    self.soon(now, Chore::Place);
                }
            }
            Asked::ConfigChanged { .. } => {}
            // An old word says so, too: the cluster's state tells who is a member and who keeps what.
            Asked::Removed { .. } => {}
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
            if let Some(change) = &change {
                self.take_effect(now, entry.id.index, change)?;
            }
            self.spare(now, entry.id.index)?;
            self.answer_command(&entry, proposal, change)?;
        }
        self.outbox.applied(GroupId::CLUSTER, all, Offset(0));
        Ok(())
    }

    /// What a command has changed beside the cluster's state.
    fn take_effect(&mut self, now: Now, at: Index, change: &Change) -> Result<(), String> {
        match change {
            Change::Made(topic) => {
                self.make(now, topic)?;
                self.review(now, topic.group);
            }
            Change::Removed(topic) => {
                self.remove(now, at, topic)?;
                self.reluctant.remove(&topic.group);
                if self.leads_cluster() {
                    self.balance_later(now);
                }
                // It may have been the last one of somebody who leaves.
                self.soon_if_led(now, GroupId::CLUSTER);
            }
            Change::Edited(topic) => self.review(now, topic.group),
            Change::Placed(topic) => {
                self.placed(now, topic)?;
                self.review(now, topic.group);
                self.look_who_is_to_lead(now, topic.group);
            }
            Change::Settled(topic) => {
                self.settled(now, at, topic)?;
                self.review(now, topic.group);
                // Whoever leaves may keep nothing any more.
                self.soon_if_led(now, GroupId::CLUSTER);
            }
            Change::Reported(topic) => self.review(now, topic.group),
            Change::Admitted(_) | Change::Member(_) => self.members_changed(now),
            Change::Dropped(member) => {
                self.members_changed(now);
                if member.node() == self.settings.me {
                    self.expelled("the members have agreed on it");
                }
            }
            Change::Recovered { lost } => {
                for topic in lost {
                    self.remove(now, at, topic)?;
                }
                self.members_changed(now);
            }
            Change::Balance => {
                self.review_all(now);
                self.soon(now, Chore::Lead);
            }
            Change::Version(_) => self.tell_members(),
            Change::Trusted => self.tell_trust(),
            Change::Exists(_)
            | Change::Token(_)
            | Change::TokenGone
            | Change::Confirmed
            | Change::Void(_) => {}
        }
        Ok(())
    }

    fn members_changed(&mut self, now: Now) {
        self.check_versions(now);
        self.watch_members();
        self.tell_members();
        self.soon_if_led(now, GroupId::CLUSTER);
        self.review_all(now);
    }

    /// This node leads a group from now on.
    fn begin_to_lead(&mut self, now: Now, id: GroupId) {
        self.soon(now, Chore::Steer(id));
        match id {
            GroupId::CLUSTER => self.review_all(now),
            _ => self.look_who_is_to_lead(now, id),
        }
    }

    /// Looks after a group soon if this node leads it.
    pub(crate) fn soon_if_led(&mut self, now: Now, id: GroupId) {
        if self.groups.get(&id).is_some_and(Group::leads) {
            self.soon(now, Chore::Steer(id));
        }
    }

    /// Answers whoever waited for the command of this entry.
    fn answer_command(
        &mut self,
        entry: &Entry,
        proposal: Option<ProposalId>,
        change: Option<Change>,
    ) -> Result<(), String> {
        let Some(change) = change else {
            return match proposal {
                None => Ok(()),
                Some(_) => Err(format!(
                    "entry {} carries a proposal and no command",
                    entry.id
                )),
            };
        };
        let ticket = proposal
            .map(|id| self.tickets.end_command(id))
            .transpose()?;
        let ticket = ticket.flatten();
        if ticket.is_none() && !self.tickets.has_relays() {
            return Ok(());
        }
        let response = self.response(change);
        self.end_relays(&entry.body, &response)?;
        match ticket {
            Some(ticket) => self.tickets.answer(ticket, response, &mut self.outbox),
            None => Ok(()),
        }
    }

    fn response(&self, change: Change) -> Response {
        match change {
            Change::Made(topic) => Response::Topic(self.topic_info(&topic)),
            Change::Exists(topic) => Response::Exists(self.topic_info(&topic)),
            Change::Edited(topic)
            | Change::Placed(topic)
            | Change::Settled(topic)
            | Change::Reported(topic) => Response::Topic(self.topic_info(&topic)),
            Change::Admitted(member) => Response::Admitted(member),
            Change::Member(member) => Response::Member(member),
            Change::Token(token) => Response::Token(token.info()),
            Change::Removed(_)
            | Change::Dropped(_)
            | Change::TokenGone
            | Change::Balance
            | Change::Recovered { .. }
            | Change::Trusted
            | Change::Confirmed => Response::Done,
            Change::Version(version) => Response::Version(version),
            Change::Void(refusal) => Response::Refused(refusal),
        }
    }

    fn fate(&mut self, group: GroupId, proposal: ProposalId, fate: Fate) -> Result<(), String> {
        let refusal = self.cluster.refusal(fate);
        if group == GroupId::CLUSTER {
            let Some(ticket) = self.tickets.end_command(proposal)? else {
                return Ok(());
            };
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
        now: Now,
        group: GroupId,
        failed: Option<&'static str>,
    ) -> Result<(), String> {
        let response = failed.map_or(Response::Done, |why| {
            Response::Refused(Refusal::Unavailable {
                why: why.to_owned(),
            })
        });
        let to = self.tickets.transfer_to(group);
        let waited = self.tickets.end_transfer(group);
        if let Some(to) = to
            && failed.is_none()
            && !waited.is_empty()
            && !self.retiring
        {
            self.prefer(now, group, to);
        }
        for ticket in waited {
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
        let deadline = group.next_deadline();
        group.settle(&mut self.outbox)?;
        let deadline = self.wake_at(id, deadline);
        self.timers.want(id, deadline);
        let Some(group) = self.groups.get(&id) else {
            return Ok(());
        };
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
                Sought::Settled(placement) => {
                    self.confirm_settled(now, id, placement);
                    continue;
                }
                Sought::Topics => self.metadata(),
                Sought::Tokens => self.tokens(),
                Sought::Recoveries => self.recoveries(),
                Sought::Trust => Response::Trust(self.cluster.state().trust.clone()),
                Sought::Topic(name) => match self.topic(&name) {
                    Some(topic) => Response::Topic(topic),
                    None => Response::Refused(no_such_topic(&name)),
                },
            };
            if let Some(ticket) = ticket {
                self.tickets.answer(ticket, response, &mut self.outbox)?;
            }
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
