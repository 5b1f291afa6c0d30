//! A member fetches a group's log as it lies on another's disk, a piece at a time: meanwhile either may end,
//! and the way between them may go.

use kontiki_broker::Input;
use kontiki_raft::NodeRef;
use kontiki_storage::{Incoming, NotTaken, Shipment};
use kontiki_wire::{GroupId, Inquiry, PeerLane, Stock};

use crate::{
    event::{Life, Process},
    world::World,
};

/// Between two pieces, about.
const PIECE_TAKES: u64 = 400;
/// Bytes of a piece, at most: small, so that there are many.
const PIECE_BYTES_MAX: u64 = 8 << 10;
/// A fetch of which nothing comes for so long has failed.
const SILENCE_MAX: u64 = 2_000_000;

/// A log on its way.
pub(crate) struct Fetch {
    from: NodeRef,
    /// The giver's place and life.
    giver: (usize, Life),
    shipment: Shipment,
    incoming: Incoming,
}

impl World {
    /// A member is asked how much there is of a log.
    pub(crate) fn tell_stock(&mut self, number: usize, to: NodeRef, asked: Inquiry) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        let log = host.storage.known_log(asked.group);
        let stocked = log.map(|log| log.stocked(asked.first)).unwrap_or_default();
        let stock = Stock {
            asked,
            last: stocked.last,
            bytes: stocked.bytes,
        };
        let from = self.members[number].me;
        self.say(number, to, PeerLane::Log, Input::Stock { from, stock });
    }

    /// Begins to fetch.
    pub(crate) fn begin_fetch(&mut self, number: usize, group: GroupId, from: NodeRef) {
        match self.open_fetch(number, group, from) {
            Ok(fetch) => {
                if let Some(host) = &mut self.members[number].host {
                    host.fetches.insert(group, fetch);
                }
                self.plan_piece(number, group);
            }
            Err(why) => self.end_fetch(number, group, from, Some(why)),
        }
        self.hear_storage(number);
    }

    fn open_fetch(
        &mut self,
        number: usize,
        group: GroupId,
        from: NodeRef,
    ) -> Result<Fetch, String> {
        let giver = self.members.iter().position(|member| member.me == from);
        let giver = giver.ok_or("it is nobody's")?;
        if self.network.link(number, giver).up.is_none() {
            return Err("there is no way to it".to_owned());
        }
        let host = self.members[number].host.as_ref().ok_or("it is down")?;
        let incoming = host.storage.take_in(group);
        let incoming = incoming.map_err(|error| error.to_string())?;
        let there = &self.members[giver];
        let log = there
            .host
            .as_ref()
            .and_then(|host| host.storage.known_log(group));
        let shipment = log.ok_or("it has nothing")?.ship(incoming.next());
        Ok(Fetch {
            from,
            giver: (giver, there.life),
            shipment,
            incoming,
        })
    }

    fn plan_piece(&mut self, number: usize, group: GroupId) {
        let delay = 20 + self.members[number].chance.around(PIECE_TAKES);
        self.plan_process(delay, number, Process::Fetch { group });
    }

    /// The next piece comes.
    pub(crate) fn fetch(&mut self, number: usize, group: GroupId) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        let Some(mut fetch) = host.fetches.remove(&group) else {
            return;
        };
        let (from, (giver, life)) = (fetch.from, fetch.giver);
        let there = &self.members[giver];
        let is_there = there.host.is_some() && there.life == life;
        if !is_there || self.network.link(number, giver).up.is_none() {
            let silent = Process::FetchLost { group, from };
            self.plan_process(SILENCE_MAX, number, silent);
            return;
        }
        let bytes = self.members[number].chance.between(1, PIECE_BYTES_MAX);
        let piece = match fetch.shipment.next(bytes as usize) {
            Ok(piece) => piece,
            Err(error) => {
                self.unreadable(giver, &error.to_string());
                self.end_fetch(number, group, from, Some(error.to_string()));
                return;
            }
        };
        let Some(piece) = piece else {
            if let Some(host) = &mut self.members[number].host {
                host.fetched.insert(group, fetch.incoming);
            }
            self.end_fetch(number, group, from, None);
            return;
        };
        match fetch.incoming.take(&piece) {
            Ok(()) => {
                let bytes = fetch.incoming.bytes();
                let of = bytes;
                if let Some(host) = &mut self.members[number].host {
                    host.fetches.insert(group, fetch);
                }
                self.input(number, Input::Fetching { group, bytes, of });
                self.plan_piece(number, group);
            }
            Err(NotTaken::Refused(why)) => {
                if !self.members[giver].is_harmed {
                    self.find(|| format!("n{} refuses what nobody damaged: {why}", number + 1));
                }
                self.end_fetch(number, group, from, Some(why));
            }
            Err(NotTaken::Failed(error)) => {
                self.end_fetch(number, group, from, Some(error.to_string()));
            }
        }
        self.hear_storage(number);
    }

    /// A fetch has come to its end.
    pub(crate) fn end_fetch(
        &mut self,
        number: usize,
        group: GroupId,
        from: NodeRef,
        failed: Option<String>,
    ) {
        let ended = Input::Fetched {
            group,
            from,
            failed,
        };
        self.input(number, ended);
    }

    /// A group is to begin with what was fetched.
    pub(crate) fn adopt(&mut self, number: usize, group: GroupId, forgot: bool) {
        let from = self.members[number].me;
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        let fetched = host.fetched.remove(&group);
        let incoming = fetched.map_or_else(|| host.storage.take_in(group), Ok);
        let adopted = incoming.and_then(|incoming| host.storage.adopt(incoming, forgot));
        if let Err(error) = adopted {
            self.end_fetch(number, group, from, Some(error.to_string()));
        }
        self.plan_settle(number);
        self.hear_storage(number);
    }
}
