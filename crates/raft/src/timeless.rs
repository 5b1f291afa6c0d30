//! A member without clock and chance, so that an exhaustive search knows a state when it sees it again.
//! Whatever depends on time becomes possible at once, and so nothing that time could allow is missed.

use crate::{ids::Micros, raft::Raft, random::Random, role::State};

impl Raft {
    /// Makes everything that happened long ago, the last draw of chance the first, and the oldest
    /// write under way the first one ever. Nobody is believed alive afterwards, and every deadline has
    /// passed. What is left decides who may lead and what is committed. To be called when drained.
    pub fn forget_time(&mut self) {
        self.now = Micros(0);
        self.silent_until = Micros(0);
        self.heard_at = None;
        self.patience = Micros(0);
        self.election_at = Micros(0);
        self.random = Random::new(0);
        self.round = 0;
        self.why = "";
        self.writes.renumber();
        if let State::Follower(follower) = &mut self.state {
            follower.way.ask_at = Micros(0);
        }
        if let State::Leader(leader) = &mut self.state {
            leader.beats.forget_time();
            leader.ends.forget_time();
            leader.peers.iter_mut().for_each(|p| p.forget_time());
        }
        self.check();
    }
}
