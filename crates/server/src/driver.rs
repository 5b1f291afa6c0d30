//! The one task that decides: it takes inputs, runs a turn of the broker, and has the effects done. It
//! decides nothing itself and waits for nothing but inputs and deadlines.

use std::{pin::pin, sync::Arc, thread, time::Instant};

use bytes::Bytes;
use kontiki_broker::{Broker, Effect, Input, Members, Writes};
use kontiki_raft::{Body, NodeRef, Role};
use kontiki_storage::{Event, Storage};
use kontiki_transport::Precedence;
use kontiki_wire::{GroupId, Member, MemberStatus, Token, TokenId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::yield_now,
    time::sleep_until,
};
use tracing::{error, info, trace, warn};

use crate::{
    agreed::Agreed,
    answers::Answers,
    awake::Awake,
    clock::Clock,
    error::ServerError,
    fetching::Fetches,
    limits::{INPUTS_PER_TURN_MAX, SMALL_WRITE_BYTES_MAX},
    links::Links,
    shipping::stock,
    topics::Topics,
};

/// What the driver is made of.
pub(crate) struct Driver {
    pub(crate) me: NodeRef,
    pub(crate) broker: Broker,
    pub(crate) clock: Clock,
    pub(crate) storage: Storage,
    pub(crate) links: Links,
    pub(crate) fetches: Fetches,
    pub(crate) topics: Topics,
    pub(crate) answers: Answers,
    pub(crate) members: watch::Sender<Arc<Members>>,
    pub(crate) agreed: watch::Sender<Arc<Agreed>>,
    pub(crate) inputs: Inputs,
    pub(crate) awake: Awake,
    pub(crate) writes: OnTheirWay,
    pub(crate) precedence: Precedence,
}

/// Writes between here and the disk, by their numbers.
#[derive(Default)]
pub(crate) struct OnTheirWay {
    given: u64,
    durable: u64,
}

/// Where inputs come from. Each kind has a queue of its own and a share of every turn, so that no flood
/// of one keeps another waiting.
pub(crate) struct Inputs {
    /// From storage's threads, which must not be blocked. At most one for each write.
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// Beats, votes, and whether peers can be reached: they decide who leads, and wait behind nothing.
    pub(crate) beats: mpsc::Receiver<Input>,
    /// What peers say of the log.
    pub(crate) log: mpsc::Receiver<Input>,
    pub(crate) clients: mpsc::Receiver<Input>,
    pub(crate) orders: mpsc::Receiver<Order>,
}

/// What the member's owner wants.
pub(crate) enum Order {
    /// What the member knows of itself.
    Status(oneshot::Sender<MemberStatus>),
    /// A token, if it is known here.
    Token(TokenId, oneshot::Sender<Option<Token>>),
    /// Send a frame of the host's own to a peer, if there is a link.
    Say { to: NodeRef, frame: Bytes },
    /// Seek no leadership any more.
    Retire,
    /// End.
    Stop,
}

/// What a turn begins with.
enum Wake {
    Event(Event),
    Input(Input),
    Order(Order),
    Deadline,
}

impl Driver {
    /// Runs until it is told to stop or something is wrong that must not spread. Hands the disk back.
    pub(crate) async fn run(mut self) -> (Storage, Result<(), ServerError>) {
        let mut inputs = Vec::new();
        let mut effects = Vec::new();
        loop {
            // The broker has something to say before its first input, too.
            let now = self.clock.now(self.broker.next_deadline());
            for input in inputs.drain(..) {
                trace!(?input, "input");
                self.broker.handle(now, input);
            }
            if self
                .broker
                .next_deadline()
                .is_some_and(|at| at <= now.monotonic)
            {
                self.broker.handle(now, Input::Timer);
            }
            self.broker.drain(now, &mut effects);
            let sends_entries = effects.iter().any(is_append_with_entries);
            for effect in effects.drain(..) {
                trace!(?effect, "effect");
                if sends_entries && matches!(&effect, Effect::Persist(writes) if is_small(writes)) {
                    // The appends leave first: the followers' disks have the longer way to go, and the
                    // thread that writes would take the processor from the one that sends.
                    let waits = self.precedence.waits();
                    yield_now().await;
                    drop(waits);
                }
                if let Err(error) = self.perform(effect) {
                    return (self.storage, Err(error));
                }
            }
            match self.wait().await {
                Wake::Deadline => {}
                Wake::Input(input) => inputs.push(input),
                Wake::Event(event) => {
                    if let Err(error) = self.take_event(event, &mut inputs) {
                        return (self.storage, Err(error));
                    }
                }
                Wake::Order(Order::Stop) => return (self.storage, Ok(())),
                Wake::Order(Order::Say { to, frame }) => self.links.say(to, frame),
                Wake::Order(Order::Retire) => inputs.push(Input::Retire),
                Wake::Order(Order::Token(id, asker)) => {
                    let tokens = &self.broker.cluster().tokens;
                    let found = tokens.iter().find(|token| token.id == id && !token.revoked);
                    let _ = asker.send(found.cloned());
                }
                Wake::Order(Order::Status(asker)) => {
                    let now = self.clock.now(self.broker.next_deadline());
                    // An asker that has gone needs no answer.
                    let _ = asker.send(self.broker.status(now));
                }
            }
            if let Err(error) = self.take_queued(&mut inputs) {
                return (self.storage, Err(error));
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let begun = Instant::now();
        let writes = self.writes.given.saturating_sub(self.writes.durable);
        let awake_until = begun + self.awake.before_sleeping(writes);
        let wake = {
            let mut sleep = pin!(self.sleep());
            loop {
                if Instant::now() >= awake_until {
                    break sleep.await;
                }
                tokio::select! {
                    biased;
                    wake = &mut sleep => break wake,
                    // First the other tasks, which send what this turn has said..
                    () = yield_now() => {}
                }
                // .. and then the other processes that want this processor.
                thread::yield_now();
            }
        };
        self.awake.waited(begun.elapsed());
        wake
    }

    async fn sleep(&mut self) -> Wake {
        let deadline = self.broker.next_deadline().map(|at| self.clock.instant(at));
        let deadline = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let inputs = &mut self.inputs;
        tokio::select! {
            biased;
            Some(order) = inputs.orders.recv() => Wake::Order(order),
            Some(event) = inputs.events.recv() => Wake::Event(event),
            Some(input) = inputs.beats.recv() => Wake::Input(input),
            Some(input) = inputs.log.recv() => Wake::Input(input),
            Some(input) = inputs.clients.recv() => Wake::Input(input),
            () = deadline => Wake::Deadline,
        }
    }

    /// Whatever else is there already belongs to the same turn.
    fn take_queued(&mut self, into: &mut Vec<Input>) -> Result<(), ServerError> {
        while let Ok(event) = self.inputs.events.try_recv() {
            self.take_event(event, into)?;
        }
        let Inputs {
            beats,
            log,
            clients,
            ..
        } = &mut self.inputs;
        for queue in [beats, log, clients] {
            let queued = std::iter::from_fn(|| queue.try_recv().ok());
            into.extend(queued.take(INPUTS_PER_TURN_MAX));
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event, into: &mut Vec<Input>) -> Result<(), ServerError> {
        match event {
            Event::Persisted { upto } => {
                self.writes.durable = upto;
                into.push(Input::Persisted { upto });
            }
            // Nothing that was not durable has been promised: to end at once breaks no promise.
            Event::Damaged {
                group,
                missing,
                what,
            } => {
                error!(group = group.0, %what, "the disk does not give what it held");
                into.push(Input::Damaged {
                    group,
                    missing,
                    what,
                });
            }
            Event::Mending {
                group,
                missing,
                refused,
            } => into.push(Input::Mending {
                group,
                missing,
                refused,
            }),
            Event::Mended(group) => {
                let boot = group.into_boot(self.me);
                into.push(Input::Mended(Box::new(boot)));
            }
            Event::Removed { group } => into.push(Input::Removed { group }),
            Event::Failed(error) => return Err(ServerError::Disk(error.to_string())),
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), ServerError> {
        match effect {
            Effect::Persist(writes) => {
                self.writes.given = writes.seq;
                self.storage.persist(writes);
            }
            Effect::Send { to, lane, messages } => self.links.send(to, lane, messages),
            Effect::Beat { to, beat } => self.links.beat(to, &beat),
            Effect::SendLog { group, send } => {
                if let Some(log) = self.storage.log(group) {
                    self.links.send_log(group, send, log);
                }
            }
            Effect::Applied {
                group,
                placed,
                watermark,
            } => {
                self.storage.applied(group, &placed);
                self.topics.raise(group, watermark);
            }
            Effect::Checkpoint { group, at, state } => self.storage.checkpoint(group, at, state),
            Effect::Answer { stream, answer } => self.answers.answer(stream, answer),
            Effect::Respond { ticket, response } => self.answers.respond(ticket, response),
            Effect::TopicMade(topic) => {
                info!(topic = %topic.name, group = topic.group.0, "topic made");
                self.storage.revive(topic.group);
                self.topics.add(&topic, &self.storage);
            }
            Effect::TopicRemoved(group) => {
                let name = self.topics.name(group);
                let topic = name.as_ref().map(|name| name.as_str());
                info!(topic, group = group.0, "topic removed");
                self.topics.remove(group);
                self.fetches.stop(group);
                self.storage.remove(group);
            }
            Effect::TopicClosed(group) => self.topics.close(group),
            Effect::Ask { to, missing } => self.links.ask(to, &missing),
            Effect::Find { to, missing } => {
                let log = self.storage.known_log(missing.group);
                self.links.find(to, missing, log);
            }
            Effect::Mend { group, entries } => self.storage.mend(group, entries),
            Effect::Mending { group, note } => warn!(group = group.0, "{note}"),
            Effect::Fetching { group, note } => info!(group = group.0, "{note}"),
            Effect::Inquire { to, inquiry } => self.links.inquire(to, inquiry),
            Effect::Stocktake { to, inquiry } => {
                let log = self.storage.known_log(inquiry.group);
                self.links.tell_stock(to, stock(inquiry, log.as_ref()));
            }
            Effect::Fetch { group, from } => {
                self.fetches.start(group, from, self.links.way_to(from));
            }
            Effect::Adopt { group, forgot } => self.fetches.adopt(self.me, group, forgot),
            Effect::Forgo(group) => {
                self.fetches.stop(group);
                self.storage.forgo(group);
            }
            Effect::Relay { to, command } => self.links.relay(to, command),
            Effect::Trust(trust) => {
                self.agreed
                    .send_modify(|agreed| *agreed = Arc::new(agreed.followed_by(trust)));
            }
            Effect::Expelled { why } => {
                error!(%why, "the member is one no more");
                return Err(ServerError::Expelled(why));
            }
            // Who was known when this member joined is of more use than who was before. It is told to nobody:
            // the log has not said yet that this member is one.
            Effect::Members(members) if members.next < self.members.borrow().next => {
                let known = Arc::clone(&self.members.borrow());
                self.links.set_members(&with_newer(&known, members));
            }
            Effect::Members(members) => {
                let names: Vec<_> = members.list.iter().map(|member| &member.name).collect();
                info!(?names, "members");
                self.links.set_members(&members.list);
                self.members.send_replace(Arc::new(members));
            }
            Effect::RoleChanged {
                group,
                term,
                role,
                why,
            } => {
                self.topics.lead(group, role == Role::Leader);
                self.report_role(group, term.0, role, why);
            }
            Effect::Halt { reason } => {
                error!(%reason, "the member stops itself");
                return Err(ServerError::Halted(reason));
            }
        }
        Ok(())
    }

    fn report_role(&self, group: GroupId, term: u64, role: Role, why: &str) {
        let topic = self.topics.name(group);
        let topic = topic.as_ref().map_or("(cluster)", |name| name.as_str());
        let members = self.members.borrow();
        let leader = match role {
            Role::Follower { leader } => leader
                .and_then(|leader| members.find(leader.id.0))
                .map(|member| &*member.name),
            _ => None,
        };
        let role = match role {
            Role::Follower { .. } => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        };
        info!(
            topic,
            group = group.0,
            term,
            role,
            leader,
            why,
            "role changed"
        );
    }
}

fn is_append_with_entries(effect: &Effect) -> bool {
    let Effect::Send { messages, .. } = effect else {
        return false;
    };
    let mut bodies = messages.iter().map(|message| &message.message.body);
    bodies.any(|body| matches!(body, Body::Append { entries, .. } if !entries.is_empty()))
}

fn is_small(writes: &Writes) -> bool {
    let entries = writes.writes.iter().flat_map(|write| &write.persist.append);
    let bytes: usize = entries.map(|entry| entry.body.len()).sum();
    bytes <= SMALL_WRITE_BYTES_MAX
}

/// Those known when this member joined, and those who have come since and said so themselves.
fn with_newer(known: &Members, told: Members) -> Vec<Member> {
    let newer = told.list.into_iter();
    let newer = newer.filter(|member| member.id >= known.next);
    known.list.iter().cloned().chain(newer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_older_than_the_welcome_only_those_who_came_later_count() {
        let members = |ids: &[u64], next| Members {
            list: ids
                .iter()
                .map(|&id| Member {
                    id,
                    ..Member::default()
                })
                .collect(),
            next,
            version: 1,
        };
        let merged = with_newer(&members(&[2, 3], 4), members(&[1, 3, 4, 9], 2));
        assert_eq!(merged, members(&[2, 3, 4, 9], 4).list);
    }
}
