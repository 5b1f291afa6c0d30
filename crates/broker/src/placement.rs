//! Which members keep a topic, and who leads it first.

use std::collections::{BTreeMap, BTreeSet};

/// How many topics each member keeps, and how many it was first asked to lead.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Loads {
    kept: BTreeMap<u64, u64>,
    led: BTreeMap<u64, u64>,
}

/// Who keeps a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Placement {
    /// The members, the preferred leader first.
    pub replicas: Vec<u64>,
    /// Who campaigns first.
    pub preferred: u64,
}

impl Loads {
    /// Chooses the members that keep the fewest topics, and among them the one that was asked to lead
    /// the fewest; lower numbers first. `None` if there are no members.
    pub(crate) fn place(&self, members: &[u64], replicas: usize) -> Option<Placement> {
        let members: BTreeSet<u64> = members.iter().copied().collect();
        let mut candidates: Vec<u64> = members.into_iter().collect();
        // Among equals, whoever leads less is taken, or a cluster larger than a topic would hand all
        // leaderships to its lowest numbers.
        candidates.sort_by_key(|member| (of(&self.kept, *member), of(&self.led, *member)));
        candidates.truncate(replicas.max(1));
        candidates.sort_by_key(|member| (of(&self.led, *member), *member));
        Some(Placement {
            preferred: *candidates.first()?,
            replicas: candidates,
        })
    }

    /// Where a topic is to be kept by so many of these homes, if not where it is kept now: who keeps it
    /// already stays if it is at home, the emptiest come in of those who are ready, those of one list before
    /// those of the next, and the fullest go. As many as there are, never none.
    pub(crate) fn replace(
        &self,
        (replicas, preferred): (&[u64], u64),
        homes: &[u64],
        ready: &[Vec<u64>],
        wanted: usize,
    ) -> Option<Placement> {
        let fullness = |member: &u64| (of(&self.kept, *member), of(&self.led, *member), *member);
        let (mut keep, _): (Vec<u64>, Vec<u64>) =
            replicas.iter().partition(|id| homes.contains(id));
        let mut others: Vec<u64> = Vec::new();
        for list in ready {
            let is_new = |id: &&u64| !replicas.contains(id) && !others.contains(id);
            let mut more: Vec<u64> = list.iter().filter(is_new).copied().collect();
            more.sort_by_key(fullness);
            others.extend(more);
        }
        let wanted = wanted.max(1);
        while keep.len() > wanted {
            let idle = keep.iter().filter(|id| **id != preferred);
            let goes = idle.copied().max_by_key(fullness)?;
            keep.retain(|id| *id != goes);
        }
        let lack = wanted - keep.len();
        keep.extend(others.into_iter().take(lack));
        let least_led = |member: &&u64| (of(&self.led, **member), **member);
        let preferred = match keep.contains(&preferred) {
            true => preferred,
            false => *keep.iter().min_by_key(least_led)?,
        };
        let same = keep.len() == replicas.len() && keep.iter().all(|id| replicas.contains(id));
        (!same).then_some(Placement {
            replicas: keep,
            preferred,
        })
    }

    /// Topics that a member keeps.
    pub(crate) fn kept_by(&self, member: u64) -> u64 {
        of(&self.kept, member)
    }

    /// Topics that a member is to lead first.
    pub(crate) fn led_by(&self, member: u64) -> u64 {
        of(&self.led, member)
    }

    pub(crate) fn add(&mut self, replicas: &[u64], preferred: u64) {
        for member in replicas {
            *self.kept.entry(*member).or_default() += 1;
        }
        *self.led.entry(preferred).or_default() += 1;
    }

    /// Takes back an [`Loads::add`].
    pub(crate) fn remove(&mut self, replicas: &[u64], preferred: u64) {
        for member in replicas {
            lower(&mut self.kept, *member);
        }
        lower(&mut self.led, preferred);
    }
}

fn of(counts: &BTreeMap<u64, u64>, member: u64) -> u64 {
    counts.get(&member).copied().unwrap_or(0)
}

fn lower(counts: &mut BTreeMap<u64, u64>, member: u64) {
    let count = counts
        .get_mut(&member)
        .expect("only what was added is removed");
    *count -= 1;
    if *count == 0 {
        counts.remove(&member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_all(members: &[u64], replicas: usize, topics: usize) -> Loads {
        let mut loads = Loads::default();
        for _ in 0..topics {
            let placement = loads.place(members, replicas).unwrap();
            assert!(placement.replicas.contains(&placement.preferred));
            assert_eq!(placement.replicas.len(), replicas.min(members.len()));
            loads.add(&placement.replicas, placement.preferred);
        }
        loads
    }

    #[test]
    fn topics_and_leaders_are_spread_evenly() {
        for (members, replicas) in [(3, 3), (5, 3), (4, 2), (7, 1), (2, 3)] {
            let members: Vec<u64> = (1..=members).collect();
            let loads = place_all(&members, replicas, 420);
            for counts in [&loads.kept, &loads.led] {
                let (least, most) = (counts.values().min(), counts.values().max());
                let apart = most.unwrap() - least.unwrap();
                assert!(apart <= 2, "{members:?} × {replicas}: {loads:?}");
            }
        }
    }

    #[test]
    fn emptied_member_is_filled_first() {
        let members = [1, 2, 3, 4];
        let mut loads = place_all(&members, 2, 40);
        for _ in 0..5 {
            loads.remove(&[4], 4);
        }
        let placement = loads.place(&members, 2).unwrap();
        assert_eq!(placement.preferred, 4);
    }

    fn moved(replicas: &[u64], homes: &[u64], wanted: usize) -> Option<Vec<u64>> {
        let mut loads = Loads::default();
        loads.add(&[1, 2, 3], 1);
        loads.add(&[1, 2], 2);
        let placement = loads.replace((replicas, replicas[0]), homes, &[homes.to_vec()], wanted)?;
        assert!(placement.replicas.contains(&placement.preferred));
        Some(placement.replicas)
    }

    #[test]
    fn a_topic_that_is_where_it_is_to_be_stays() {
        assert_eq!(moved(&[3, 1, 2], &[1, 2, 3, 4], 3), None);
        assert_eq!(moved(&[1, 2], &[1, 2], 3), None, "there are no more");
        assert_eq!(moved(&[1], &[], 3), None, "there is nowhere to go");
    }

    #[test]
    fn the_emptiest_come_in_and_the_fullest_go() {
        assert_eq!(moved(&[1, 2], &[1, 2, 3, 4], 3), Some(vec![1, 2, 4]));
        assert_eq!(moved(&[1, 2, 3], &[1, 2, 3], 2), Some(vec![1, 3]));
        assert_eq!(moved(&[1, 2, 3], &[1, 2, 3], 1), Some(vec![1]), "who leads");
    }

    #[test]
    fn who_is_not_at_home_is_replaced_or_given_up() {
        assert_eq!(moved(&[1, 2, 3], &[1, 3, 4], 3), Some(vec![1, 3, 4]));
        assert_eq!(moved(&[1, 2, 3], &[1, 3], 3), Some(vec![1, 3]));
        assert_eq!(moved(&[2], &[1, 3], 1), Some(vec![3]));
    }

    #[test]
    fn who_is_not_ready_gets_nothing_and_keeps_what_it_has() {
        let loads = Loads::default();
        let replace = |replicas: &[u64], ready: &[u64]| {
            loads.replace((replicas, 1), &[1, 2, 3], &[ready.to_vec()], 3)
        };
        assert_eq!(replace(&[1, 2], &[1, 2]), None);
        assert_eq!(replace(&[1, 2, 3], &[1]), None);
        assert_eq!(replace(&[1, 2], &[1, 3]).unwrap().replicas, [1, 2, 3]);
    }

    #[test]
    fn who_is_in_the_first_list_comes_in_before_the_emptier_of_the_next() {
        let mut loads = Loads::default();
        loads.add(&[3], 3);
        let ready = [vec![3], vec![2, 3, 4]];
        let replaced = |wanted| loads.replace((&[1], 1), &[1, 2, 3, 4], &ready, wanted);
        assert_eq!(replaced(2).unwrap().replicas, [1, 3]);
        assert_eq!(replaced(3).unwrap().replicas, [1, 3, 2]);
    }

    #[test]
    fn no_members_no_placement() {
        assert_eq!(Loads::default().place(&[], 3), None);
    }
}
