//! When a member's storage does what is asked of it, and what it tells then.

use kontiki_broker::Input;
use kontiki_storage::Event as Told;

use crate::{event::Process, world::World};

/// How long nothing is written before the journal writes a mark.
const QUIET: u64 = 100_000;
/// How long after it syncs that mark.
const QUIET_AGAIN: u64 = 1_000_000;
/// How often the background looks again.
const LOOK_AGAIN: u64 = 50_000;

impl World {
    /// The writer begins with what is queued, as soon as it is free. What comes while it writes waits for
    /// the next write.
    pub(crate) fn plan_write(&mut self, number: usize) {
        let slow = self.disk_delay(number);
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if !host.is_writing && host.hands.take() {
            host.is_writing = true;
            self.plan_process(slow, number, Process::Written);
        }
    }

    pub(crate) fn plan_settle(&mut self, number: usize) {
        let delay = self.members[number].chance.between(100, 3_000);
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if !std::mem::replace(&mut host.is_settling, true) {
            self.plan_process(delay, number, Process::Settle);
        }
    }

    fn disk_delay(&mut self, number: usize) -> u64 {
        let sync = self.plan.sync;
        let now = self.now;
        let member = &mut self.members[number];
        let (until, slow) = member.slow_disk;
        let slow = if now < until { slow } else { 0 };
        30 + member.chance.around(sync + slow)
    }

    pub(crate) fn written(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.is_writing = false;
        let wrote = host.hands.write();
        if wrote {
            host.writes += 1;
            let writes = host.writes;
            let again = false;
            self.plan_write(number);
            self.plan_settle(number);
            self.plan_process(QUIET, number, Process::Quiet { writes, again });
        }
        self.hear_storage(number);
    }

    pub(crate) fn settle(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.is_settling = false;
        if host.hands.settle() {
            let looks_again = std::mem::replace(&mut host.looks_again, true);
            self.plan_settle(number);
            self.plan_write(number);
            if !looks_again {
                self.plan_process(LOOK_AGAIN, number, Process::LookAgain);
            }
        }
        self.hear_storage(number);
    }

    pub(crate) fn quiet(&mut self, number: usize, writes: u64, again: bool) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        if host.writes != writes || host.is_writing {
            return;
        }
        host.hands.idle();
        if !again {
            let again = true;
            self.plan_process(QUIET_AGAIN, number, Process::Quiet { writes, again });
        }
        self.hear_storage(number);
    }

    pub(crate) fn look_again(&mut self, number: usize) {
        let Some(host) = &mut self.members[number].host else {
            return;
        };
        host.looks_again = false;
        if !host.is_settling {
            host.hands.look_again();
            self.plan_write(number);
        }
        self.hear_storage(number);
    }

    /// What storage has told in its last step; and whether the power went in the middle of it.
    pub(crate) fn hear_storage(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(host) = &mut member.host else {
            return;
        };
        let heard = host.heard();
        if member.disk.has_ended() {
            self.lose_power(number);
            return;
        }
        for told in heard {
            match told {
                Told::Persisted { upto } => {
                    self.trace.note(self.now, 9, (number as u64) << 32 | upto);
                    self.input(number, Input::Persisted { upto });
                }
                Told::Damaged {
                    group,
                    missing,
                    what,
                } => {
                    if !self.members[number].is_harmed {
                        self.find(|| {
                            format!("n{} reads damage that nobody did: {what}", number + 1)
                        });
                    }
                    let damaged = Input::Damaged {
                        group,
                        missing,
                        what,
                    };
                    self.input(number, damaged);
                }
                Told::Mending {
                    group,
                    missing,
                    refused,
                } => {
                    let mending = Input::Mending {
                        group,
                        missing,
                        refused,
                    };
                    self.input(number, mending);
                }
                Told::Mended(group) => {
                    let boot = group.into_boot(self.members[number].me);
                    self.input(number, Input::Mended(Box::new(boot)));
                }
                Told::Removed { group } => self.input(number, Input::Removed { group }),
                Told::Failed(error) => {
                    self.failed(number, &error);
                    return;
                }
            }
        }
    }
}
