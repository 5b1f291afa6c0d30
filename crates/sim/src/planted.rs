//! Mistakes that others have shipped, made on purpose: a simulator is worth what it finds. Each is one
//! line where it would be made, in a build with the feature `planted` alone.

mod catalogue;
mod hunt;

use crate::plan::Plan;

pub use catalogue::CATALOGUE;
pub use hunt::{Found, Hunt, Hunted, hunt, tell};

/// What is planted, and in which crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    Raft(kontiki_raft::Planted),
    Broker(kontiki_broker::Planted),
    Storage(kontiki_storage::Planted),
    Client(kontiki_client::parts::Planted),
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is done wrong.
    pub what: &'static str,
    /// Who is known to have done it, or to have lost something by it.
    pub known: Option<&'static str>,
    /// Where it is planted.
    pub place: &'static str,
    /// What a story must have for it to matter.
    pub takes: &'static str,
    /// Whether a hunt takes more than three seconds of a processor.
    pub is_rare: bool,
    plant: Plant,
}

impl Mistake {
    /// The mistake of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|mistake| mistake.name == name)
    }

    /// Whether it matters only where members come and go.
    pub(crate) fn is_of_changes(&self) -> bool {
        use kontiki_raft::Planted::{
            ChangeWithoutJoint, CountHalvesTogether, LeaveJointUncommitted,
        };
        use kontiki_storage::Planted::{AdoptedTermLost, CheckpointsConfigForgotten};
        matches!(
            self.plant,
            Plant::Raft(ChangeWithoutJoint | LeaveJointUncommitted | CountHalvesTogether)
                | Plant::Storage(AdoptedTermLost | CheckpointsConfigForgotten)
                | Plant::Broker(kontiki_broker::Planted::DropForgotten)
        )
    }

    /// Makes the mistake in this thread, and in this plan's members, until what is given back is dropped.
    pub(crate) fn plant(&self, plan: &mut Plan) -> Planting {
        // Whatever was planted before goes.
        drop(Planting);
        match self.plant {
            Plant::Raft(what) => plan.tuning.raft.planted = Some(what),
            Plant::Broker(what) => kontiki_broker::plant(Some(what)),
            Plant::Storage(what) => kontiki_storage::plant(Some(what)),
            Plant::Client(what) => kontiki_client::parts::plant(Some(what)),
        }
        Planting
    }
}

/// A mistake is being made in this thread.
#[must_use]
pub(crate) struct Planting;

impl Drop for Planting {
    fn drop(&mut self) {
        kontiki_broker::plant(None);
        kontiki_storage::plant(None);
        kontiki_client::parts::plant(None);
    }
}
