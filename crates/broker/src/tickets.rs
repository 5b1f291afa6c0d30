//! Requests that wait: for a command to be committed, for a leader to be followed by another, or for a
//! quorum to confirm that what a leader knows is as new as any answer that was given.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::{Index, Micros, NodeId, ProposalId, ReadId};
use kontiki_wire::{ClusterCommand, GroupId, Response, TopicName};

use crate::{
    input::Ticket, invariants::OpenTickets, outbox::Outbox, placement::Loads, placement::Placement,
};

/// Every request that was taken and not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    open: OpenTickets,
    proposed: BTreeMap<ProposalId, Proposed>,
    transfers: BTreeMap<GroupId, Transfer>,
    reads: BTreeMap<ReadId, Read>,
    relayed: Vec<Relayed>,
}

/// A command that the cluster's own group is to agree on, whoever leads it.
#[derive(Clone, Debug)]
struct Relayed {
    ticket: Ticket,
    command: ClusterCommand,
    /// The command as it stands in the log.
    body: Bytes,
    /// When nobody waits any longer.
    until: Micros,
}

/// What a read of a group is to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sought {
    /// A topic, and how far its log goes.
    Topic(TopicName),
    /// Which topics there are.
    Topics,
    /// Which tokens there are.
    Tokens,
    /// How the cluster was recovered.
    Recoveries,
    /// What is agreed on about certificates.
    Trust,
    /// Whether the group is made of those who are to keep its topic since this placement.
    Settled(u64),
}

/// A question asked of a group's leader.
#[derive(Clone, Debug)]
struct Read {
    group: GroupId,
    sought: Sought,
    /// Who waits for it; nobody, if it is this node that wants to know.
    ticket: Option<Ticket>,
    /// What must be applied before it is answered, once a quorum has confirmed it.
    confirmed: Option<Index>,
}

/// A command under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposed {
    /// Who waits for it; nobody, if it is this node that wants it.
    pub(crate) ticket: Option<Ticket>,
    /// Where the topic that it makes is to be kept.
    pub(crate) placement: Option<Placement>,
    /// Whether it sends a member away.
    pub(crate) sends_away: bool,
}

/// A leadership being handed over.
#[derive(Clone, Debug)]
struct Transfer {
    to: NodeId,
    tickets: Vec<Ticket>,
}

impl Tickets {
    /// Takes a ticket in.
    pub(crate) fn open(&mut self, ticket: Ticket) -> Result<(), String> {
        self.open.open(ticket)
    }

    /// Answers a ticket.
    pub(crate) fn answer(
        &mut self,
        ticket: Ticket,
        response: Response,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        self.open.close(ticket)?;
        outbox.respond(ticket, response);
        Ok(())
    }

    /// A command is under way.
    pub(crate) fn wait_for_command(&mut self, id: ProposalId, proposed: Proposed) {
        self.proposed.insert(id, proposed);
    }

    /// Whether a command is under way that sends a member away.
    pub(crate) fn sends_somebody_away(&self) -> bool {
        self.proposed.values().any(|proposed| proposed.sends_away)
    }

    /// A command was committed or its fate is known: the ticket that waited for it.
    pub(crate) fn end_command(&mut self, id: ProposalId) -> Result<Option<Ticket>, String> {
        let proposed = self.proposed.remove(&id);
        proposed
            .map(|proposed| proposed.ticket)
            .ok_or_else(|| format!("command {id} has a second fate"))
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.count()
    }

    /// What members will be loaded with when the commands under way are committed.
    pub(crate) fn add_to(&self, loads: &mut Loads) {
        for proposed in self.proposed.values() {
            if let Some(placement) = &proposed.placement {
                loads.add(&placement.replicas, placement.preferred);
            }
        }
    }

    /// To whom the group's leadership is being handed.
    pub(crate) fn transfer_to(&self, group: GroupId) -> Option<NodeId> {
        self.transfers.get(&group).map(|transfer| transfer.to)
    }

    /// The cluster's own group is ended: all that wait for a command.
    pub(crate) fn drop_commands(&mut self) -> Vec<Ticket> {
        let proposed = std::mem::take(&mut self.proposed);
        proposed
            .into_values()
            .filter_map(|one| one.ticket)
            .collect()
    }

    /// The group's leadership is being handed to `to`, which nobody waits for yet.
    pub(crate) fn begin_transfer(&mut self, group: GroupId, to: NodeId) {
        let tickets = Vec::new();
        self.transfers.insert(group, Transfer { to, tickets });
    }

    /// The ticket waits for the group's leadership to pass to `to`, to which alone it is being handed.
    pub(crate) fn wait_for_transfer(&mut self, group: GroupId, to: NodeId, ticket: Ticket) {
        let transfer = self.transfers.entry(group).or_insert_with(|| Transfer {
            to,
            tickets: Vec::new(),
        });
        transfer.tickets.push(ticket);
    }

    /// The transfer ended, if there was one: the tickets that waited for it.
    pub(crate) fn end_transfer(&mut self, group: GroupId) -> Vec<Ticket> {
        self.transfers
            .remove(&group)
            .map_or_else(Vec::new, |transfer| transfer.tickets)
    }

    /// The ticket waits until a quorum has confirmed the read.
    pub(crate) fn wait_for_read(
        &mut self,
        id: ReadId,
        group: GroupId,
        sought: Sought,
        ticket: Option<Ticket>,
    ) {
        let read = Read {
            group,
            sought,
            ticket,
            confirmed: None,
        };
        self.reads.insert(id, read);
    }

    /// A quorum has confirmed the read; it may be answered when `index` is applied.
    pub(crate) fn confirm_read(&mut self, id: ReadId, index: Index) -> Result<(), String> {
        let read = self.reads.get_mut(&id);
        let read = read.ok_or_else(|| format!("read {id} is confirmed and was never asked"))?;
        read.confirmed = Some(index);
        Ok(())
    }

    /// The read cannot be confirmed: the ticket that waited for it.
    pub(crate) fn fail_read(&mut self, id: ReadId) -> Result<Option<Ticket>, String> {
        let read = self.reads.remove(&id);
        read.map(|read| read.ticket)
            .ok_or_else(|| format!("read {id} failed and was never asked"))
    }

    /// The reads of a group that may be answered now that it has applied this far.
    pub(crate) fn end_reads(
        &mut self,
        group: GroupId,
        applied: Index,
    ) -> Vec<(Option<Ticket>, Sought)> {
        let ready = |read: &Read| {
            read.group == group && read.confirmed.is_some_and(|index| index <= applied)
        };
        self.take_reads(ready)
    }

    /// The group is no more: all its reads.
    pub(crate) fn drop_reads(&mut self, group: GroupId) -> Vec<(Option<Ticket>, Sought)> {
        self.take_reads(|read| read.group == group)
    }

    fn take_reads(&mut self, taken: impl Fn(&Read) -> bool) -> Vec<(Option<Ticket>, Sought)> {
        let ids = self.reads.iter().filter(|(_, read)| taken(read));
        let ids: Vec<ReadId> = ids.map(|(id, _)| *id).collect();
        let reads = ids.into_iter().filter_map(|id| self.reads.remove(&id));
        reads.map(|read| (read.ticket, read.sought)).collect()
    }

    /// The ticket waits until a command like this one is applied, whoever proposes it.
    pub(crate) fn wait_for_relay(
        &mut self,
        ticket: Ticket,
        command: ClusterCommand,
        until: Micros,
    ) {
        let body = kontiki_wire::encode(&command).into();
        self.relayed.push(Relayed {
            ticket,
            command,
            body,
            until,
        });
    }

    /// A command was applied: the tickets that waited for one like it.
    pub(crate) fn end_relays(&mut self, body: &Bytes) -> Vec<Ticket> {
        self.take_relays(|relayed| relayed.body == *body)
    }

    /// The tickets that have waited long enough.
    pub(crate) fn expired_relays(&mut self, now: Micros) -> Vec<Ticket> {
        self.take_relays(|relayed| relayed.until <= now)
    }

    fn take_relays(&mut self, taken: impl Fn(&Relayed) -> bool) -> Vec<Ticket> {
        let ended = self.relayed.extract_if(.., |relayed| taken(relayed));
        ended.map(|relayed| relayed.ticket).collect()
    }

    /// Whether anybody waits for a command that was handed over.
    pub(crate) fn has_relays(&self) -> bool {
        !self.relayed.is_empty()
    }

    /// What is still to be agreed on.
    pub(crate) fn relays(&self) -> Vec<ClusterCommand> {
        let relayed = self.relayed.iter();
        relayed.map(|relayed| relayed.command.clone()).collect()
    }

    /// Whatever was taken was answered or waits for something.
    pub(crate) fn balance(&self) -> Result<(), String> {
        let transfers = self.transfers.values();
        let waiting: usize = transfers.map(|transfer| transfer.tickets.len()).sum();
        let proposed = self.proposed.values().filter(|one| one.ticket.is_some());
        let reads = self.reads.values().filter(|read| read.ticket.is_some());
        self.open
            .balance(waiting + proposed.count() + reads.count() + self.relayed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_that_waits_for_nothing_is_noticed() {
        let mut tickets = Tickets::default();
        let mut outbox = Outbox::default();
        tickets.open(Ticket(1)).unwrap();
        assert!(tickets.balance().is_err());
        let ticket = Some(Ticket(1));
        let proposed = Proposed {
            ticket,
            ..Proposed::default()
        };
        tickets.wait_for_command(ProposalId(9), proposed);
        tickets.balance().unwrap();
        let ticket = tickets.end_command(ProposalId(9)).unwrap().unwrap();
        assert!(tickets.balance().is_err());
        tickets.answer(ticket, Response::Done, &mut outbox).unwrap();
        tickets.balance().unwrap();
        assert!(tickets.end_command(ProposalId(9)).is_err());
        assert!(tickets.answer(ticket, Response::Done, &mut outbox).is_err());
    }

    #[test]
    fn several_may_wait_for_one_transfer() {
        let mut tickets = Tickets::default();
        for ticket in [Ticket(1), Ticket(2)] {
            tickets.open(ticket).unwrap();
            tickets.wait_for_transfer(GroupId(4), NodeId(2), ticket);
        }
        tickets.balance().unwrap();
        assert_eq!(tickets.transfer_to(GroupId(4)), Some(NodeId(2)));
        assert_eq!(tickets.end_transfer(GroupId(4)), [Ticket(1), Ticket(2)]);
        assert_eq!(tickets.end_transfer(GroupId(4)), []);
    }
}
