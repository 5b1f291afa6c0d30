//! A reader of a topic's end: it asks whoever leads, whose answer a quorum has confirmed.

use kontiki_wire::{GroupId, Request, Response, TopicName};

use crate::{chance::Chance, event::Event, history::TailId, pipe::Asker, world::World};

/// One of them.
pub(crate) struct Reader {
    name: TopicName,
    group: GroupId,
    leader: Option<usize>,
    asked: Option<(TailId, usize)>,
    chance: Chance,
}

/// Between two readings, about.
const GAP: u64 = 250_000;
/// How long a member may take to answer.
const TIME_MAX: u64 = 2_000_000;

impl World {
    /// Somebody begins to watch a topic's end.
    pub(crate) fn read_tail(&mut self, name: TopicName, group: GroupId) {
        let reader = self.readers.len();
        let chance = self.chance.fork(3_000 + reader as u64);
        self.readers.push(Reader {
            name,
            group,
            leader: None,
            asked: None,
            chance,
        });
        self.plan_in(GAP, Event::Reader { reader });
    }

    pub(crate) fn wake_reader(&mut self, reader: usize) {
        let members = self.members.len();
        let at = self.time();
        let it = &mut self.readers[reader];
        let gap = 1 + it.chance.around(GAP);
        if it.asked.is_none() {
            let member = it.leader.unwrap_or_else(|| it.chance.below(members));
            it.asked = Some((self.history.tail(at, it.group), member));
            let name = it.name.clone();
            let request = Request::Topic { name };
            if self
                .ask(Asker::Reader(reader), member, request, TIME_MAX)
                .is_none()
            {
                self.tail_read(reader, None);
            }
        }
        self.plan_in(gap, Event::Reader { reader });
    }

    /// It was answered, or not.
    pub(crate) fn tail_read(&mut self, reader: usize, response: Option<Response>) {
        let at = self.time();
        let it = &mut self.readers[reader];
        let Some((tail, member)) = it.asked.take() else {
            return;
        };
        it.leader = None;
        let Some(Response::Topic(info)) = response else {
            return;
        };
        if info.group != it.group {
            return;
        }
        let leader = info.leader.as_ref();
        let leader = leader.and_then(|name| self.named(name));
        let it = &mut self.readers[reader];
        it.leader = leader;
        if it.leader == Some(member) {
            self.trace.note(at.0, 14, info.next.0);
            self.history.tail_answered(at, tail, info.next.0);
        }
    }
}
