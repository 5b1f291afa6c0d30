//! What a node looks after from time to time, beside what its groups are woken for: nothing, while all is
//! as it is to be.

use kontiki_raft::Micros;
use kontiki_wire::GroupId;

use crate::{broker::Broker, input::Now};

/// Something to be looked after.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Chore {
    /// Members that are watched for groups that rest.
    Beat,
    /// Commands that were handed over and are not applied yet.
    Relay,
    /// Whether the cluster knows what this node's build can do.
    StateVersions,
    /// Whether topics are placed as they are to be.
    Place,
    /// Whether a group is made of those who are to keep it.
    Steer(GroupId),
    /// Whether topics and leaderships are spread evenly.
    Balance,
    /// Whether topics are led by those who are to lead them.
    Lead,
    /// Whether the cluster knows whom persons have handed topics over to.
    Choice,
}

impl Broker {
    /// Looks after something at once, with the next alarm: never with the one that has just gone off.
    pub(crate) fn soon(&mut self, now: Now, chore: Chore) {
        self.later(now, chore, Micros(1));
    }

    /// Looks after something in a while, if not before.
    pub(crate) fn later(&mut self, now: Now, chore: Chore, wait: Micros) {
        self.chores.want(chore, Some(now.monotonic.after(wait)));
    }

    /// Looks after whatever is due.
    pub(crate) fn do_chores(&mut self, now: Now) {
        while let Some(chore) = self.chores.take_due(now.monotonic) {
            match chore {
                Chore::Beat => self.beat(now),
                Chore::Relay => self.relay_again(now),
                Chore::StateVersions => self.tell_versions(now),
                Chore::Place => self.place_topics(now),
                Chore::Steer(group) => self.steer(now, group),
                Chore::Balance => self.balance(now),
                Chore::Lead => self.hand_back(now),
                Chore::Choice => self.tell_choices(now),
            }
        }
    }
}
