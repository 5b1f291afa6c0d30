//! How a member's process comes to life and how it ends.

use kontiki_broker::GroupBoot;
use kontiki_raft::Micros;

use crate::{
    event::Event,
    invariants::Observation,
    member::{Host, NoStart},
    world::World,
};

/// A process that did not come up or stopped itself is started again after about this long.
const RESTART: u64 = 400_000;

impl World {
    /// Starts a member's process, unless it runs or something holds it down.
    pub(crate) fn start(&mut self, number: usize) {
        let founders = self.members.iter().filter(|member| member.is_founder);
        let members = founders.map(|member| member.known()).collect();
        let at = self.now;
        let member = &mut self.members[number];
        if member.host.is_some() || member.held_down > 0 || member.is_out {
            return;
        }
        match member.start(at, &self.plan.tuning, members) {
            Ok(groups) => {
                self.trace.note(at, 2, number as u64);
                let name = &member.name;
                let damage = member.host.as_ref().map_or(0, |host| host.damage.len());
                self.trace.tell(at, || match damage {
                    0 => format!("{name} starts"),
                    damage => format!("{name} starts, {damage} damages found"),
                });
                let groups = &groups;
                self.observe(number, &Observation::Started { groups });
                self.check_restored(number, groups);
                self.check_damage(number);
                self.plan_turn(number);
                self.open_links(number);
            }
            Err(NoStart::Broker(why)) => {
                self.find(|| format!("n{} does not start from its disk: {why}", number + 1));
            }
            Err(NoStart::Disk(error)) => self.did_not_open(number, &error),
        }
    }

    /// What a checkpoint kept is what the broker has made of it.
    fn check_restored(&mut self, number: usize, groups: &[GroupBoot]) {
        for found in groups.iter().filter(|found| found.checkpoint.is_some()) {
            let host = self.members[number].host.as_ref();
            let state = host.and_then(|host| host.broker.state(found.group));
            if let Some((at, state)) = state {
                let (group, state) = (found.group, &state);
                self.observe(number, &Observation::Has { group, at, state });
            }
        }
    }

    /// A disk that nobody damaged is not found to be damaged.
    fn check_damage(&mut self, number: usize) {
        let Some(host) = &self.members[number].host else {
            return;
        };
        if !self.members[number].is_harmed
            && let Some(damage) = host.damage.first().cloned()
        {
            self.find(|| format!("n{} finds damage that nobody did: {damage}", number + 1));
        }
    }

    fn did_not_open(&mut self, number: usize, error: &kontiki_storage::Error) {
        self.trace.note(self.now, 3, number as u64);
        let at = self.now;
        let member = &mut self.members[number];
        let name = &member.name;
        self.trace
            .tell(at, || format!("{name} does not start: {error}"));
        if member.disk.has_ended() {
            member.lose_power();
        } else if !member.disk.took_fault() {
            self.find(|| {
                format!(
                    "n{}: a disk without a fault does not open: {error}",
                    number + 1
                )
            });
            return;
        }
        let delay = RESTART / 2 + self.chance.around(RESTART / 2);
        self.plan_in(delay, Event::Start { member: number });
    }

    /// The disk failed: the process ends at once, as the server's does. Its system lives on.
    pub(crate) fn failed(&mut self, number: usize, error: &kontiki_storage::Error) {
        if !self.members[number].disk.took_fault() {
            self.find(|| format!("n{}: a disk without a fault fails: {error}", number + 1));
            return;
        }
        let name = &self.members[number].name;
        self.trace
            .tell(self.now, || format!("{name} stops itself: {error}"));
        self.end_process(number, true);
        let delay = RESTART / 2 + self.chance.around(RESTART / 2);
        self.plan_in(delay, Event::Start { member: number });
    }

    /// The process ends. Those it talked with learn of it soon if its system lives on, and late if not.
    pub(crate) fn end_process(&mut self, number: usize, system_lives: bool) -> Option<Host> {
        let member = &mut self.members[number];
        let host = member.host.take()?;
        member.paused_until = 0;
        self.observe(number, &Observation::Died);
        self.trace.note(self.now, 10, number as u64);
        self.close_links(number, system_lives);
        self.end_pipes(number, system_lives);
        Some(host)
    }

    /// The power goes, with what of the disk was not synced; it comes back after a while.
    pub(crate) fn lose_power(&mut self, number: usize) {
        let name = &self.members[number].name;
        self.trace
            .tell(self.now, || format!("{name} loses its power"));
        self.end_process(number, false);
        self.members[number].lose_power();
        if self.members.iter().all(|member| member.host.is_none()) {
            self.history.outages.push(Micros(self.now));
        }
        let delay = RESTART / 2 + self.chance.around(RESTART);
        self.plan_in(delay, Event::Start { member: number });
    }
}
