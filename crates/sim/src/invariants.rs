//! What must hold at every moment, in every member and among all of them, whatever is broken. One file
//! for each promise, named for it.
//!
//! Whoever runs members tells what each takes in and what it does, as it happens; from that alone a
//! ledger keeps what every disk must hold, and each promise is held against it. Nothing here asks
//! the members: a member that is wrong about itself would be believed. What one says of its own state is
//! only held against what others said of theirs.

mod ledger;
mod observation;

mod acknowledged_is_applied;
mod answered_once;
mod changes_need_both_halves;
mod committed_is_durable_on_a_majority;
mod committed_is_never_cut;
mod committed_never_changes;
mod leaders_are_voted_for;
mod leaders_commit_in_their_term;
mod leaders_hold_what_is_committed;
mod leaders_never_cut;
mod leaders_without_a_quorum_fall_silent;
mod logs_match;
mod offsets_are_dense;
mod one_leader_a_term;
mod promises_wait_for_the_disk;
mod reads_are_confirmed;
mod replicas_are_identical;
mod silent_after_the_end;
mod terms_are_asked_for_first;
mod terms_never_go_back;
mod the_forgetful_promise_nothing;
mod the_forgetful_wait_for_what_is_new;
mod times_never_go_back;
mod unanswered_is_bounded;
mod votes_go_to_logs_as_new;
mod votes_once_a_term;
mod watermark_never_passes_commit;
mod what_was_synced_is_kept;

#[cfg(test)]
mod trial;

use std::fmt;

use kontiki_broker::{Effect, GroupWrite};
use kontiki_raft::{Micros, NodeRef};

use ledger::Ledger;
pub use ledger::Tally;
pub use observation::Observation;

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which promise: the name of its file.
    pub promise: &'static str,
    /// When.
    pub at: Micros,
    /// Whose deed it was.
    pub member: NodeRef,
    /// What was seen, and what it contradicts.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.0 as f64 / 1e6;
        write!(
            f,
            "{seconds:.6} s, member {}: {}: {}",
            self.member, self.promise, self.what
        )
    }
}

/// Something observed, and where and when.
#[derive(Clone, Copy, Debug)]
struct Sighting<'a> {
    at: Micros,
    member: NodeRef,
    what: &'a Observation<'a>,
}

impl<'a> Sighting<'a> {
    /// What is written by it, of each group.
    fn writes(&self) -> &'a [GroupWrite] {
        match self.what {
            Observation::Does {
                effect: Effect::Persist(writes),
            } => &writes.writes,
            _ => &[],
        }
    }
}

/// One promise.
trait Promise {
    /// Compares something observed with what was seen before it; says what contradicts it.
    fn observe(&mut self, seen: Sighting<'_>, before: &Ledger) -> Result<(), String>;
}

/// All promises, and what they are held against.
pub struct Invariants {
    ledger: Ledger,
    promises: Vec<(&'static str, Box<dyn Promise>)>,
}

impl fmt::Debug for Invariants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invariants").finish_non_exhaustive()
    }
}

macro_rules! promises {
    ($($name:ident: $promise:ident),* $(,)?) => {
        vec![$((stringify!($name), Box::new($name::$promise::default()) as Box<dyn Promise>)),*]
    };
}

impl Default for Invariants {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            promises: promises![
                one_leader_a_term: OneLeaderATerm,
                votes_once_a_term: VotesOnceATerm,
                votes_go_to_logs_as_new: VotesGoToLogsAsNew,
                leaders_are_voted_for: LeadersAreVotedFor,
                terms_never_go_back: TermsNeverGoBack,
                promises_wait_for_the_disk: PromisesWaitForTheDisk,
                logs_match: LogsMatch,
                times_never_go_back: TimesNeverGoBack,
                leaders_hold_what_is_committed: LeadersHoldWhatIsCommitted,
                leaders_never_cut: LeadersNeverCut,
                leaders_commit_in_their_term: LeadersCommitInTheirTerm,
                terms_are_asked_for_first: TermsAreAskedForFirst,
                committed_is_never_cut: CommittedIsNeverCut,
                committed_is_durable_on_a_majority: CommittedIsDurableOnAMajority,
                committed_never_changes: CommittedNeverChanges,
                offsets_are_dense: OffsetsAreDense,
                watermark_never_passes_commit: WatermarkNeverPassesCommit,
                acknowledged_is_applied: AcknowledgedIsApplied,
                answered_once: AnsweredOnce,
                reads_are_confirmed: ReadsAreConfirmed,
                replicas_are_identical: ReplicasAreIdentical,
                what_was_synced_is_kept: WhatWasSyncedIsKept,
                silent_after_the_end: SilentAfterTheEnd,
                the_forgetful_promise_nothing: TheForgetfulPromiseNothing,
                the_forgetful_wait_for_what_is_new: TheForgetfulWaitForWhatIsNew,
                leaders_without_a_quorum_fall_silent: LeadersWithoutAQuorumFallSilent,
                unanswered_is_bounded: UnansweredIsBounded,
                changes_need_both_halves: ChangesNeedBothHalves,
            ],
        }
    }
}

impl Invariants {
    /// How often rare things were seen.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.ledger.tally
    }

    /// Takes in one thing observed, in the order in which a member did it. The first promise that it
    /// breaks, if it breaks one.
    pub fn observe(
        &mut self,
        at: Micros,
        member: NodeRef,
        what: &Observation<'_>,
    ) -> Result<(), Box<Finding>> {
        let seen = Sighting { at, member, what };
        for (promise, one) in &mut self.promises {
            one.observe(seen, &self.ledger).map_err(|what| {
                Box::new(Finding {
                    promise,
                    at,
                    member,
                    what,
                })
            })?;
        }
        self.ledger.observe(seen);
        Ok(())
    }
}
