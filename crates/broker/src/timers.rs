//! When each group or chore wants to be woken, kept so that a thousand idle groups cost a few wake-ups.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Micros;

/// At most one alarm for each of what is woken.
///
/// A follower's deadline moves later with every beat it hears. Such a move is not recorded: the
/// earlier alarm stands, goes off, and finds the group with a later deadline, once for each election
/// timeout instead of once for each beat. Deadlines are rounded up to a grain, so that groups whose
/// beats are due together are woken together and their messages share a frame.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    grain: u64,
    due: BTreeSet<(Micros, K)>,
    alarms: BTreeMap<K, Micros>,
}

impl<K: Ord + Copy> Timers<K> {
    /// No alarms; `grain` is at least one microsecond.
    pub(crate) fn new(grain: Micros) -> Self {
        Self {
            grain: grain.0.max(1),
            due: BTreeSet::new(),
            alarms: BTreeMap::new(),
        }
    }

    /// The group wants to be woken at `deadline`; an earlier alarm of it stands.
    pub(crate) fn want(&mut self, group: K, deadline: Option<Micros>) {
        let Some(deadline) = deadline else { return };
        let at = Micros(
            deadline
                .0
                .checked_next_multiple_of(self.grain)
                .unwrap_or(u64::MAX),
        );
        match self.alarms.get(&group) {
            Some(&earlier) if earlier <= at => {}
            known => {
                if let Some(&later) = known {
                    self.due.remove(&(later, group));
                }
                self.due.insert((at, group));
                self.alarms.insert(group, at);
            }
        }
    }

    /// The group is gone.
    pub(crate) fn forget(&mut self, group: K) {
        if let Some(at) = self.alarms.remove(&group) {
            self.due.remove(&(at, group));
        }
    }

    /// Takes the next group whose alarm has gone off. It has no alarm until it wants one again.
    pub(crate) fn take_due(&mut self, now: Micros) -> Option<K> {
        let &(at, group) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, group));
        self.alarms.remove(&group);
        Some(group)
    }

    /// The earliest alarm.
    pub(crate) fn next(&self) -> Option<Micros> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::GroupId;

    use super::*;

    #[test]
    fn alarm_moves_earlier_but_not_later() {
        let mut timers = Timers::new(Micros(1));
        let group = GroupId(1);
        timers.want(group, Some(Micros(50)));
        timers.want(group, Some(Micros(90)));
        assert_eq!(timers.next(), Some(Micros(50)));
        timers.want(group, Some(Micros(20)));
        timers.want(group, None);
        assert_eq!(timers.next(), Some(Micros(20)));
        assert_eq!(timers.take_due(Micros(19)), None);
        assert_eq!(timers.take_due(Micros(20)), Some(group));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn deadlines_are_rounded_up_to_the_grain() {
        let mut timers = Timers::new(Micros(10));
        timers.want(GroupId(1), Some(Micros(41)));
        timers.want(GroupId(2), Some(Micros(50)));
        timers.want(GroupId(3), Some(Micros(u64::MAX - 1)));
        assert_eq!(timers.take_due(Micros(49)), None);
        assert_eq!(timers.take_due(Micros(50)), Some(GroupId(1)));
        assert_eq!(timers.take_due(Micros(50)), Some(GroupId(2)));
        assert_eq!(timers.take_due(Micros(50)), None);
        assert_eq!(timers.next(), Some(Micros(u64::MAX)));
    }

    #[test]
    fn forgotten_group_is_not_woken() {
        let mut timers = Timers::new(Micros(1));
        timers.want(GroupId(1), Some(Micros(5)));
        timers.want(GroupId(2), Some(Micros(6)));
        timers.forget(GroupId(1));
        assert_eq!(timers.take_due(Micros(9)), Some(GroupId(2)));
        assert_eq!(timers.take_due(Micros(9)), None);
    }

    #[test]
    fn follower_hearing_beats_keeps_one_alarm() {
        let mut timers = Timers::new(Micros(1));
        for beat in 0..100 {
            timers.want(GroupId(1), Some(Micros(300 + beat)));
        }
        assert_eq!(timers.due.len(), 1);
        assert_eq!(timers.alarms.len(), 1);
    }
}
