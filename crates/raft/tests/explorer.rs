//! Visits every state that three real cores can reach within bounds, and checks the promises of Raft in
//! each: election safety, log matching, leader completeness, state machine safety, and that what is
//! committed is durable on a quorum (`promises/`). Then each safeguard is taken away ([`Planted`]), and a
//! shortest way to what it prevents is found and printed.
//!
//! In every state everything happens that can: each message ever sent arrives, be it late or for the
//! second time; the oldest write of each member reaches the disk; each member crashes, losing what is
//! not on it, and starts again; candidates campaign; leaders take proposals, begin conversations anew,
//! lose their quorum. Time is left out: whatever depends on it may happen at once. So are pre-votes,
//! reads and hand-over, which promise nothing about the log.
//!
//! Three things make this fast, and none of them leaves anything out. A core is a value, and what one
//! member does in one state is asked of it only once. Messages are never taken away, so a state in
//! which more was said and no more was used up can do whatever the other can, and the other is passed
//! over. For the same reason a member that would answer without changing answers at once.
//!
//! `EXPLORE="terms=2 candidates=2 proposals=1" cargo test -p kontiki-raft --test explorer --
//! --nocapture no_promise` goes as far as memory and patience allow; `exploration/bounds.rs` has the
//! names. A million states take some four seconds and 120 MB.

mod disk;
mod exploration;
mod promises;
#[expect(dead_code, reason = "stories say more than counterexamples")]
mod words;

use std::{env, time::Instant};

use exploration::{Bounds, Outcome, explore};
use kontiki_raft::Planted;

/// Two candidates, two terms, a crash at any moment.
const ELECTIONS: Bounds = Bounds {
    terms: 2,
    members: 3,
    candidates: 2,
    campaigns: 2,
    proposals: 0,
    crashes: 1,
    voters: &[1, 2, 3],
    target: &[],
    forgets: 0,
    renewals: 0,
    quorum_losses: false,
    append_bytes_max: 1 << 20,
    elected: false,
    logs: [&[]; 3],
    thrifty: true,
    states: 100_000_000,
    planted: None,
};

/// One leader, a proposal, a conversation begun anew, a crash at any moment.
const REPLICATION: Bounds = Bounds {
    candidates: 1,
    campaigns: 1,
    proposals: 1,
    renewals: 1,
    ..ELECTIONS
};

/// While 1 leads, 3 loses its disk at any moment, and 2 may take over.
const FORGETTING: Bounds = Bounds {
    crashes: 0,
    forgets: 3,
    elected: true,
    ..ELECTIONS
};

/// 1 leads, is to be left alone, and 2 may take over.
const SHRINKING: Bounds = Bounds {
    target: &[1],
    elected: true,
    crashes: 0,
    ..ELECTIONS
};

/// 1 leads alone and is joined by two, one of which may take over.
const GROWING: Bounds = Bounds {
    voters: &[1],
    target: &[1, 2, 3],
    campaigns: 1,
    ..ELECTIONS
};

/// 1 leads and is left out, and 2 may take over.
const REPLACING: Bounds = Bounds {
    voters: &[1, 2],
    target: &[2, 3],
    ..SHRINKING
};

#[test]
fn no_promise_is_broken_while_members_change_as_far_as_time_goes() {
    for bounds in [SHRINKING, GROWING, REPLACING] {
        let states = 40_000;
        let outcome = run(Bounds { states, ..bounds });
        let broken = outcome.broken.map(|b| format!("{}:\n{}", b.promise, b.way));
        assert_eq!(broken, None, "found within {states} states");
    }
}

#[test]
fn a_change_without_a_joint_configuration_agrees_on_two_logs() {
    let planted = Planted::ChangeWithoutJoint;
    finds(SHRINKING, planted, "leader completeness");
}

#[test]
fn a_joint_configuration_left_before_it_is_committed_agrees_on_two_logs() {
    let planted = Planted::LeaveJointUncommitted;
    finds(SHRINKING, planted, "leader completeness");
}

#[test]
fn a_joint_configuration_whose_halves_are_counted_together_elects_two() {
    let planted = Planted::CountHalvesTogether;
    finds(GROWING, planted, "election safety");
}

#[test]
fn no_promise_is_broken_as_far_as_we_go() {
    match env::var("EXPLORE") {
        Ok(asked) => holds(
            ELECTIONS
                .with(&asked)
                .expect("bounds as in exploration/bounds.rs"),
        ),
        Err(_) => holds(ELECTIONS),
    }
}

#[test]
fn no_promise_is_broken_while_entries_are_taken() {
    holds(REPLICATION);
}

#[test]
fn no_promise_is_broken_by_a_member_that_forgets() {
    let alone = Bounds {
        candidates: 1,
        elected: false,
        ..FORGETTING
    };
    holds(alone);
    holds(Bounds {
        forgets: 1,
        ..alone
    });
    holds(Bounds {
        terms: 1,
        elected: false,
        ..FORGETTING
    });
}

#[test]
fn no_promise_is_broken_by_a_member_that_forgets_while_two_lead_as_far_as_time_goes() {
    let outcome = run(Bounds {
        states: 150_000,
        ..FORGETTING
    });
    assert!(outcome.broken.is_none(), "found within 150,000 states");
}

#[test]
fn what_is_passed_over_is_missed_by_nobody() {
    for bounds in [
        Bounds {
            terms: 1,
            ..ELECTIONS
        },
        Bounds {
            campaigns: 2,
            crashes: 0,
            renewals: 0,
            ..REPLICATION
        },
    ] {
        let plain = Bounds {
            thrifty: false,
            ..bounds
        };
        let (thrifty, plain) = (run(bounds), run(plain));
        assert_eq!(
            thrifty.groups, plain.groups,
            "the members come into the same states"
        );
        assert_eq!(
            (thrifty.members, thrifty.messages),
            (plain.members, plain.messages)
        );
        assert!(thrifty.complete && plain.complete && thrifty.states < plain.states);
    }
}

/// Visits everything within bounds, and finds nothing.
fn holds(bounds: Bounds) {
    let outcome = run(bounds);
    if let Some(broken) = &outcome.broken {
        panic!(
            "{} after {} steps:\n{}",
            broken.promise, broken.length, broken.way
        );
    }
    assert!(outcome.complete, "{} states are not all", outcome.states);
}

/// Finds a way to break a promise without a safeguard, and none with it.
fn breaks(bounds: Bounds, planted: Planted, promise: &str) {
    finds(bounds, planted, promise);
    holds(bounds);
}

/// Finds a way to break a promise without a safeguard.
fn finds(bounds: Bounds, planted: Planted, promise: &str) {
    let planted = Some(planted);
    let found = run(Bounds { planted, ..bounds }).broken;
    let broken = found.unwrap_or_else(|| panic!("{planted:?} goes unnoticed within {bounds}"));
    println!(
        "{} after {} steps:\n{}",
        broken.promise, broken.length, broken.way
    );
    assert!(broken.promise.starts_with(promise), "not {promise}");
}

fn run(bounds: Bounds) -> Outcome {
    #[expect(clippy::disallowed_methods, reason = "to say how long it took")]
    let start = Instant::now();
    let outcome = explore(bounds);
    let Outcome {
        states,
        steps,
        members,
        messages,
        groups: (groups, _),
        ..
    } = &outcome;
    println!(
        "{bounds}: {states} states, {steps} steps; {groups} groups of {members} states of members, \
         {messages} messages; {:.1?}",
        start.elapsed()
    );
    outcome
}

#[test]
fn a_vote_granted_before_it_is_durable_elects_two() {
    let bounds = Bounds {
        terms: 1,
        ..ELECTIONS
    };
    breaks(bounds, Planted::UngatedVoteReply, "election safety");
}

#[test]
fn an_append_acknowledged_before_it_is_durable_is_lost() {
    let bounds = Bounds {
        candidates: 1,
        campaigns: 1,
        ..ELECTIONS
    };
    breaks(bounds, Planted::UngatedAppended, "durability");
}

#[test]
fn a_leader_that_counts_itself_before_it_is_durable_loses() {
    let bounds = Bounds {
        candidates: 1,
        campaigns: 1,
        ..ELECTIONS
    };
    breaks(bounds, Planted::CountSelfBeforeDurable, "durability");
}

#[test]
fn a_leader_before_its_own_vote_is_durable_leads_twice_in_a_term() {
    let bounds = Bounds {
        terms: 1,
        members: 2,
        candidates: 1,
        proposals: 2,
        ..ELECTIONS
    };
    breaks(bounds, Planted::LeadBeforeOwnVote, "log matching");
}

#[test]
fn a_vote_asked_for_with_a_log_that_a_crash_loses_elects_without_it() {
    let bounds = Bounds {
        candidates: 1,
        campaigns: 3,
        quorum_losses: true,
        ..ELECTIONS
    };
    breaks(bounds, Planted::UngatedVoteRequest, "leader completeness");
}

#[test]
fn an_entry_of_an_earlier_term_committed_by_count_is_replaced() {
    let bounds = Bounds {
        terms: 4,
        crashes: 0,
        append_bytes_max: 1,
        // Figure 8 (b): 1 and 2 have led terms of their own, and nobody else has heard of it.
        logs: [&[1], &[2], &[]],
        ..ELECTIONS
    };
    breaks(bounds, Planted::CommitOldTermByCount, "leader completeness");
}

#[test]
fn what_a_recovering_member_acknowledges_is_lost_if_it_is_counted() {
    finds(FORGETTING, Planted::CountRecovering, "leader completeness");
}

#[test]
fn a_member_that_rejoins_without_an_entry_of_its_own_votes_in_vain() {
    finds(FORGETTING, Planted::RejoinAtOnce, "leader completeness");
}
