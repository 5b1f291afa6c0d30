//! Majorities, of one configuration or of both halves of a joint one (§6). A function of the
//! configuration alone, computed from scratch each time.

use std::collections::BTreeSet;

use crate::{
    ids::NodeRef,
    input::{Membership, VOTERS_MAX},
};

/// The greatest value that a quorum has reached; the least value there is if nobody votes.
pub(crate) fn reached<T: Ord + Copy + Default>(
    config: &Membership,
    value: impl Fn(&NodeRef) -> T,
) -> T {
    let incoming = majority(&config.voters, &value).unwrap_or_default();
    match majority(&config.outgoing, &value) {
        Some(outgoing) => incoming.min(outgoing),
        None => incoming,
    }
}

/// Whether a quorum said yes.
pub(crate) fn agreed(config: &Membership, yes: impl Fn(&NodeRef) -> bool) -> bool {
    reached(config, yes)
}

/// The greatest value that more than half of `voters` have reached; `None` without voters.
fn majority<T: Ord + Copy + Default>(
    voters: &BTreeSet<NodeRef>,
    value: impl Fn(&NodeRef) -> T,
) -> Option<T> {
    let mut values = [T::default(); VOTERS_MAX];
    let values = &mut values[..voters.len()];
    for (slot, voter) in values.iter_mut().zip(voters) {
        *slot = value(voter);
    }
    values.sort_unstable();
    let middle = voters.len().checked_sub(1)? / 2;
    Some(values[middle])
}
