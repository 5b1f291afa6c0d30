//! Commands that members ask for themselves. Each is taken to whoever leads the cluster's own group, and
//! again until this node sees it applied: whose proposal it was, and how often it came, makes no
//! difference to what it comes to.

use bytes::Bytes;
use kontiki_raft::{Input, Kind, Micros, NodeRef, Proposal};
use kontiki_wire::{ClusterCommand, GroupId, Refusal, Response, Standing};

use crate::{
    broker::Broker,
    chores::Chore,
    input::{Now, Ticket},
    tickets::Proposed,
};

impl Broker {
    /// Has the cluster's own group agree on a command, wherever its leader is.
    pub(crate) fn relay(&mut self, now: Now, ticket: Ticket, command: ClusterCommand) {
        self.check(|broker| broker.tickets.open(ticket));
        if self.tickets.count() > RELAYS_MAX {
            let busy = Response::Refused(Refusal::Busy);
            return self.check(|broker| broker.tickets.answer(ticket, busy, &mut broker.outbox));
        }
        let until = now.monotonic.after(RELAY_MAX);
        self.tickets.wait_for_relay(ticket, command.clone(), until);
        self.hand_over(now, command);
        self.later(now, Chore::Relay, RELAY_AGAIN);
    }

    /// Asks again for what was not applied yet, and gives up what has waited long enough.
    pub(crate) fn relay_again(&mut self, now: Now) {
        for ticket in self.tickets.expired_relays(now.monotonic) {
            let unknown = Response::Refused(Refusal::Unknown);
            self.check(|broker| broker.tickets.answer(ticket, unknown, &mut broker.outbox));
        }
        let waiting = self.tickets.relays();
        if !waiting.is_empty() {
            self.later(now, Chore::Relay, RELAY_AGAIN);
        }
        for command in waiting {
            self.hand_over(now, command);
        }
    }

    /// Proposes a command, or has its proposer do so, if there is one that is known.
    pub(crate) fn hand_over(&mut self, now: Now, command: ClusterCommand) {
        let Some(own) = self.groups.get(&GroupId::CLUSTER) else {
            return;
        };
        if own.leads() {
            self.propose_for_nobody(now, &command);
        } else if let Some(leader) = own.other_leader() {
            self.outbox.relay(leader, command);
        }
    }

    /// Another member hands over a command. Who does not lead drops it: it will be asked for again.
    pub(crate) fn relayed(&mut self, now: Now, from: NodeRef, command: ClusterCommand) {
        let member = self.cluster.member(from.id.0);
        let own = self.groups.get(&GroupId::CLUSTER);
        let leads = own.is_some_and(|own| own.leads());
        if leads
            && member.is_some_and(|member| member.node() == from)
            && self.may_ask(from, &command)
        {
            self.propose_for_nobody(now, &command);
        }
    }

    /// Whether it is up to this member to ask for a command: whom a topic is to be led by, and how those get on
    /// who are to copy it, is said by those who keep it, what a build can do by who runs it, and what a member shows by itself alone.
    fn may_ask(&self, from: NodeRef, command: &ClusterCommand) -> bool {
        match command {
            ClusterCommand::Prefer { group, .. } | ClusterCommand::ReportCopy { group, .. } => {
                let topic = self.cluster.topic_of(*group);
                topic.is_some_and(|topic| topic.keepers().any(|id| id == from.id.0))
            }
            ClusterCommand::StateVersions { member, .. } => *member == from.id.0,
            ClusterCommand::Certify(papers) => papers.member == from.id.0,
            _ => true,
        }
    }

    /// Proposes a command that this node wants for itself: what it comes to is seen in the state.
    pub(crate) fn propose_for_nobody(&mut self, now: Now, command: &ClusterCommand) {
        self.propose(now, command, None, None);
    }

    /// A command was applied: whoever waited for one like it is answered.
    pub(crate) fn end_relays(&mut self, body: &Bytes, response: &Response) -> Result<(), String> {
        for ticket in self.tickets.end_relays(body) {
            self.tickets
                .answer(ticket, response.clone(), &mut self.outbox)?;
        }
        Ok(())
    }

    /// Proposes a command to the cluster's own group.
    pub(crate) fn propose(
        &mut self,
        now: Now,
        command: &ClusterCommand,
        ticket: Option<Ticket>,
        placement: Option<crate::placement::Placement>,
    ) {
        let id = self.next_proposal();
        let body = kontiki_wire::encode(command);
        let proposal = Proposal {
            id,
            kind: Kind::Command,
            checksum: kontiki_wire::entry_checksum(&body),
            body: body.into(),
        };
        let proposed = Proposed {
            ticket,
            placement,
            sends_away: matches!(
                command,
                ClusterCommand::SetStanding { standing, .. } if *standing != Standing::Active
            ),
        };
        self.tickets.wait_for_command(id, proposed);
        let propose = Input::Propose {
            time: Micros(now.wall.0),
            proposals: vec![proposal],
        };
        self.feed(now, GroupId::CLUSTER, propose);
    }
}

/// A command that was not applied is asked for again so often.
const RELAY_AGAIN: Micros = Micros(1_000_000);
/// Nobody waits longer than this for one.
const RELAY_MAX: Micros = Micros(10_000_000);
/// Requests that may wait beside it.
const RELAYS_MAX: usize = 1024;
