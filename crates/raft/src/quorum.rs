//! Majorities, of one configuration or of both halves of a joint one (§6). A function of the
//! configuration alone, computed from scratch each time.

use std::collections::BTreeSet;

use crate::{
    ids::NodeRef,
    input::{Membership, VOTERS_MAX},
};

/// The greatest value that a quorum has reached; the least value there is if nobody votes. Of yes and no
/// it is yes if a quorum said so.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Incarnation, NodeId},
        random::Random,
    };

    fn node(id: u64) -> NodeRef {
        NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(id),
        }
    }

    fn agreed(config: &Membership, yes: impl Fn(&NodeRef) -> bool) -> bool {
        reached(config, yes)
    }

    /// Halves of up to five members each, overlapping in every possible number.
    fn configurations() -> impl Iterator<Item = Membership> {
        let set = |first: u64, count: u64| (first..first + count).map(node).collect();
        (1..=5).flat_map(move |voters| {
            (0..=5).flat_map(move |outgoing| {
                (0..=voters).map(move |first| Membership {
                    voters: set(0, voters),
                    outgoing: set(first, outgoing),
                    ..Membership::default()
                })
            })
        })
    }

    fn more_than_half(half: &BTreeSet<NodeRef>, yes: impl Fn(&NodeRef) -> bool) -> bool {
        half.is_empty() || half.iter().filter(|node| yes(node)).count() * 2 > half.len()
    }

    #[test]
    fn agreement_takes_more_than_half_of_each_half() {
        for config in configurations() {
            for subset in 0..1_u32 << 10 {
                let yes = |node: &NodeRef| subset >> node.id.0 & 1 == 1;
                let expected =
                    more_than_half(&config.voters, yes) && more_than_half(&config.outgoing, yes);
                assert_eq!(agreed(&config, yes), expected, "{config:?} {subset:b}");
            }
        }
    }

    #[test]
    fn what_is_reached_is_the_greatest_value_that_a_quorum_has() {
        let mut random = Random::new(3);
        for config in configurations() {
            for _ in 0..40 {
                let values: Vec<u64> = (0..10).map(|_| random.up_to(6)).collect();
                let value = |node: &NodeRef| values[node.id.0 as usize];
                let has = |least: u64| {
                    let yes = |node: &NodeRef| value(node) >= least;
                    more_than_half(&config.voters, yes) && more_than_half(&config.outgoing, yes)
                };
                let expected = (0..=6).rev().find(|least| has(*least));
                assert_eq!(
                    Some(reached(&config, value)),
                    expected,
                    "{config:?} {values:?}"
                );
            }
        }
    }

    #[test]
    fn any_two_quorums_of_a_configuration_meet() {
        for config in configurations() {
            let quorums: Vec<u32> = (0..1 << 10)
                .filter(|subset| agreed(&config, |node| subset >> node.id.0 & 1 == 1))
                .collect();
            let least = quorums.iter().filter(|q| {
                // Those from which nobody can be spared are enough.
                (0..10).all(|bit| *q >> bit & 1 == 0 || !quorums.contains(&(*q & !(1 << bit))))
            });
            let least: Vec<_> = least.collect();
            assert!(least.iter().all(|a| least.iter().all(|b| **a & **b != 0)));
        }
    }

    #[test]
    fn nobody_agrees_where_nobody_votes() {
        assert!(!agreed(&Membership::default(), |_| true));
        assert_eq!(reached(&Membership::default(), |_| 9), 0);
    }
}
