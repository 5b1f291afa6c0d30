//! The links between members' processes: dialled, lost, dialled again, and what travels on them.

use kontiki_broker::Input;
use kontiki_raft::{Body, Message, NodeRef, SendLog};
use kontiki_wire::{Found, GroupId, GroupMessage, Missing, PeerLane};

use crate::{
    event::{Event, Process},
    world::World,
};

/// The first pause before a link is dialled again; it doubles up to the second.
const REDIAL_FIRST: u64 = 50_000;
/// The longest pause before a link is dialled again.
const REDIAL_LONGEST: u64 = 1_000_000;
/// A link that is younger is not dialled again because its peer was heard.
const LINK_FRESH: u64 = 1_000_000;
/// After so long without a sign of life a link is given up.
const LINK_SILENCE_MAX: u64 = 3_000_000;

impl World {
    /// A process that has just started dials everybody.
    pub(crate) fn open_links(&mut self, from: usize) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            let link = self.network.link(from, to);
            link.up = None;
            link.number += 1;
            let pause = REDIAL_FIRST;
            let delay = self.chance.between(50, 2_000);
            self.plan_process(delay, from, Process::Dial { to, pause });
        }
    }

    /// A process has ended: its own links with it. Those to it are found dead.
    pub(crate) fn close_links(&mut self, number: usize, system_lives: bool) {
        for other in (0..self.members.len()).filter(|other| *other != number) {
            let own = self.network.link(number, other);
            own.up = None;
            own.number += 1;
            let link = self.network.link(other, number);
            if link.up.is_some() {
                let number_of_link = link.number;
                let delay = if system_lives {
                    self.chance.between(200, 5_000)
                } else {
                    self.chance.between(LINK_SILENCE_MAX / 2, LINK_SILENCE_MAX)
                };
                let lost = Process::LinkLost {
                    to: number,
                    number: number_of_link,
                };
                self.plan_process(delay, other, lost);
            }
        }
    }

    /// One attempt.
    pub(crate) fn dial(&mut self, from: usize, to: usize, pause: u64) {
        if self.network.link(from, to).up.is_some() {
            return;
        }
        let there = &self.members[to];
        let is_there = there.host.is_some() && there.paused_until <= self.now;
        let life = there.life;
        if !is_there || !self.network.converse(from, to) {
            let delay = pause / 2 + self.chance.between(0, pause / 2);
            let pause = (pause * 2).min(REDIAL_LONGEST);
            self.plan_process(delay, from, Process::Dial { to, pause });
            return;
        }
        if !self.is_let_in(from, to) {
            self.plan_process(REDIAL_LONGEST, from, Process::Dial { to, pause });
            return;
        }
        let now = self.now;
        let link = self.network.link(from, to);
        link.up = Some(life);
        link.number += 1;
        link.since = now;
        let peer = self.members[to].me.id;
        self.input(from, Input::Reachable { peer, open: true });
        self.heard(to, from);
    }

    /// Whether a member takes what another says, as its server decides: somebody it has not heard of is
    /// introduced, and somebody who is a member no more is told so.
    pub(crate) fn is_let_in(&mut self, from: usize, to: usize) -> bool {
        let (me, by) = (self.members[from].me, self.members[to].me);
        let Some(host) = &self.members[to].host else {
            return false;
        };
        let members = &host.members;
        if members.is_gone(me.id.0) {
            self.input(from, Input::Disowned { by: by.id });
            return false;
        }
        if members.find(me.id.0).is_none() {
            let member = self.members[from].known();
            self.input(to, Input::Introduced { member });
        }
        true
    }

    /// A member ends the links of those who are members no more.
    pub(crate) fn hang_up(&mut self, number: usize) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        let members = &host.members;
        let is_gone = |other: &usize| members.is_gone(self.members[*other].me.id.0);
        let gone: Vec<usize> = (0..self.members.len()).filter(is_gone).collect();
        for from in gone {
            let link = self.network.link(from, number);
            let lost = Process::LinkLost {
                to: number,
                number: link.number,
            };
            self.plan_process(0, from, lost);
        }
    }

    /// A member that was dialled by another can dial it, too; and if that one's process is a new one,
    /// what is left of a link to the one before leads nowhere.
    fn heard(&mut self, by: usize, from: usize) {
        let life = self.members[from].life;
        let now = self.now;
        let link = self.network.link(by, from);
        match link.up {
            Some(up) if up != life || now - link.since > LINK_FRESH => {
                let number = link.number;
                let lost = Process::LinkLost { to: from, number };
                self.plan_process(0, by, lost);
            }
            Some(_) => {}
            None => {
                let pause = REDIAL_FIRST;
                self.plan_process(100, by, Process::Dial { to: from, pause });
            }
        }
    }

    /// A link is dead: what waits for it is lost, and it is dialled again.
    pub(crate) fn link_lost(&mut self, from: usize, to: usize, number: u64) {
        let link = self.network.link(from, to);
        if link.number != number || link.up.take().is_none() {
            return;
        }
        link.number += 1;
        let peer = self.members[to].me.id;
        self.input(from, Input::Reachable { peer, open: false });
        let pause = REDIAL_FIRST;
        let delay = self.chance.between(100, REDIAL_FIRST);
        self.plan_process(delay, from, Process::Dial { to, pause });
    }

    /// Links over what has just been cut are given up if it stays cut for long.
    pub(crate) fn watch_silence(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let number = self.network.link(from, to).number;
            let delay = self.chance.between(LINK_SILENCE_MAX / 2, LINK_SILENCE_MAX);
            self.plan_process(delay, from, Process::LinkSilent { to, number });
        }
    }

    /// Gives a link up if nothing has passed for long.
    pub(crate) fn link_silent(&mut self, from: usize, to: usize, number: u64) {
        let since = self.network.silent_since(from, to);
        if since.is_some_and(|since| self.now - since >= LINK_SILENCE_MAX / 2) {
            self.link_lost(from, to, number);
        }
    }

    /// Hands messages to a link.
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: NodeRef,
        lane: PeerLane,
        messages: Vec<GroupMessage>,
    ) {
        let sender = self.members[from].me;
        let said = Input::Peer {
            from: sender,
            messages,
        };
        self.say(from, to, lane, said);
    }

    /// Sends what another is to take in.
    pub(crate) fn say(&mut self, from: usize, to: NodeRef, lane: PeerLane, said: Input) {
        let Some(number) = self.members.iter().position(|member| member.me == to) else {
            return;
        };
        let Some(life) = self.network.link(from, number).up else {
            return;
        };
        let lane = lane as usize - 1;
        let arrivals = self.network.arrivals(self.now, from, number, lane);
        for at in arrivals {
            let said = Box::new(said.clone());
            let event = Event::Arrive {
                to: number,
                life,
                said,
            };
            self.plan_at(at, event);
        }
    }

    /// Reads from the log for a follower and sends.
    pub(crate) fn read_and_send(&mut self, number: usize, group: GroupId, send: SendLog) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        let Some(log) = host.storage.log(group) else {
            return;
        };
        let first = send.head.prev.index.next();
        let entries = match log.entries(first, send.last, send.bytes_max) {
            Ok(entries) => entries,
            // The topic was removed meanwhile.
            Err(kontiki_storage::Error::Gone { .. }) => return,
            Err(error) => {
                self.unreadable(number, &error.to_string());
                return;
            }
        };
        let message = Message {
            term: send.term,
            body: Body::Append {
                head: send.head,
                entries,
            },
        };
        let message = GroupMessage { group, message };
        self.send(number, send.to, PeerLane::Log, vec![message]);
    }

    /// Reads what another has lost and sends it.
    pub(crate) fn find_and_send(&mut self, number: usize, to: NodeRef, missing: Missing) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        let log = host.storage.known_log(missing.group);
        let placed = log.map(|log| log.placed(missing.first, missing.last));
        let entries = match placed.transpose() {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) => {
                self.unreadable(number, &error.to_string());
                return;
            }
        };
        let from = self.members[number].me;
        let asked = missing;
        let found = Found { asked, entries };
        self.say(number, to, PeerLane::Log, Input::Found { from, found });
    }

    /// A member cannot read what it holds.
    pub(crate) fn unreadable(&mut self, number: usize, why: &str) {
        if self.members[number].is_harmed {
            // The background looks what is wrong.
            self.plan_settle(number);
            return;
        }
        self.find(|| format!("n{} cannot read its log: {why}", number + 1));
    }
}
