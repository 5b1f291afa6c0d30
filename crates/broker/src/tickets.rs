//! Requests that wait: for a command to be committed, for a leader to be followed by another, or for a
//! quorum to confirm that what a leader knows is as new as any answer that was given.

use std::collections::BTreeMap;

use kontiki_raft::{Index, NodeId, ProposalId, ReadId};
use kontiki_wire::{GroupId, Response, TopicName};

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
}

/// A question asked of a group's leader.
#[derive(Clone, Debug)]
struct Read {
    group: GroupId,
    sought: Sought,
    ticket: Ticket,
    /// What must be applied before it is answered, once a quorum has confirmed it.
    confirmed: Option<Index>,
}

/// A command under way.
#[derive(Clone, Debug)]
struct Proposed {
    ticket: Ticket,
    /// Where the topic that it makes is to be kept.
    placement: Option<Placement>,
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

    /// The ticket waits for a command.
    pub(crate) fn wait_for_command(
        &mut self,
        id: ProposalId,
        ticket: Ticket,
        placement: Option<Placement>,
    ) {
        let proposed = Proposed { ticket, placement };
        self.proposed.insert(id, proposed);
    }

    /// A command was committed or its fate is known: the ticket that waited for it.
    pub(crate) fn end_command(&mut self, id: ProposalId) -> Result<Ticket, String> {
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
        proposed.into_values().map(|one| one.ticket).collect()
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
        ticket: Ticket,
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
    pub(crate) fn fail_read(&mut self, id: ReadId) -> Result<Ticket, String> {
        let read = self.reads.remove(&id);
        read.map(|read| read.ticket)
            .ok_or_else(|| format!("read {id} failed and was never asked"))
    }

    /// The reads of a group that may be answered now that it has applied this far.
    pub(crate) fn end_reads(&mut self, group: GroupId, applied: Index) -> Vec<(Ticket, Sought)> {
        let ready = |read: &Read| {
            read.group == group && read.confirmed.is_some_and(|index| index <= applied)
        };
        self.take_reads(ready)
    }

    /// The group is no more: all its reads.
    pub(crate) fn drop_reads(&mut self, group: GroupId) -> Vec<(Ticket, Sought)> {
        self.take_reads(|read| read.group == group)
    }

    fn take_reads(&mut self, taken: impl Fn(&Read) -> bool) -> Vec<(Ticket, Sought)> {
        let ids = self.reads.iter().filter(|(_, read)| taken(read));
        let ids: Vec<ReadId> = ids.map(|(id, _)| *id).collect();
        let reads = ids.into_iter().filter_map(|id| self.reads.remove(&id));
        reads.map(|read| (read.ticket, read.sought)).collect()
    }

    /// Whatever was taken was answered or waits for something.
    pub(crate) fn balance(&self) -> Result<(), String> {
        let transfers = self.transfers.values();
        let waiting: usize = transfers.map(|transfer| transfer.tickets.len()).sum();
        self.open
            .balance(waiting + self.proposed.len() + self.reads.len())
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
        tickets.wait_for_command(ProposalId(9), Ticket(1), None);
        tickets.balance().unwrap();
        let ticket = tickets.end_command(ProposalId(9)).unwrap();
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
