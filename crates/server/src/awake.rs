//! Whether the driver stays awake for what comes next. A processor with nothing to do falls asleep, and to wake it
//! takes tens of microseconds on a virtual machine: for an append that waits for no other that is a third of its
//! time, some at each member that it comes by. So where one thing soon follows another the driver looks for the
//! next for a while before it sleeps, and gives way to whoever else has use for the processor meanwhile.

use std::time::Duration;

use crate::limits::AWAKE_MICROS_HIGHEST;

/// Turns after one with several writes on their way during which nobody stays awake. Then appends wait for each other
/// more than for processors, which have other work; and whoever gives way too often comes last when it has some.
const BUSY_TURNS: u32 = 16;
/// Short waits that must have come before staying awake is worth a try. A wave of beats has fewer.
const SHORT_MIN: u32 = 8;
/// Short waits that count.
const SHORT_MAX: u32 = 16;
/// Short waits that a long one outweighs: what it costs to stay awake in vain is many times what it saves.
const LONG_WEIGHS: u32 = 4;

/// What the last waits were like.
pub(crate) struct Awake {
    time: Duration,
    /// Short waits of late, less what the long ones weigh.
    short: u32,
    /// Turns until there is room for it again.
    busy: u32,
}

impl Awake {
    /// Stays awake for so many microseconds at most; never, if that is zero.
    pub(crate) fn new(micros: u64) -> Self {
        Self {
            time: Duration::from_micros(micros.min(AWAKE_MICROS_HIGHEST)),
            short: 0,
            busy: 0,
        }
    }

    /// For how long to look before sleeping, with so many writes on their way to the disk.
    pub(crate) fn before_sleeping(&mut self, writes: u64) -> Duration {
        self.busy = match writes {
            0 | 1 => self.busy.saturating_sub(1),
            _ => BUSY_TURNS,
        };
        match self.short >= SHORT_MIN && self.busy == 0 {
            true => self.time,
            false => Duration::ZERO,
        }
    }

    /// Something came after so long.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.short = match time < self.time {
            true => SHORT_MAX.min(self.short + 1),
            false => self.short.saturating_sub(LONG_WEIGHS),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: u64 = 300;
    const TIME: Duration = Duration::from_micros(MICROS);
    const SHORT: Duration = Duration::from_micros(MICROS - 1);

    fn after(waits: &[Duration]) -> Awake {
        let mut awake = Awake::new(MICROS);
        waits.iter().for_each(|wait| awake.waited(*wait));
        awake
    }

    #[test]
    fn stays_awake_once_one_thing_soon_follows_another_and_bears_with_one_that_does_not() {
        let few = [SHORT; SHORT_MIN as usize - 1];
        assert_eq!(after(&few).before_sleeping(0), Duration::ZERO);
        let mut awake = after(&[SHORT; 100]);
        assert_eq!(awake.before_sleeping(1), TIME);
        awake.waited(TIME);
        assert_eq!(awake.before_sleeping(1), TIME);
    }

    #[test]
    fn sleeps_where_one_wait_in_two_is_long_as_where_producers_take_their_time() {
        let mut awake = Awake::new(MICROS);
        for _ in 0..100 {
            awake.waited(SHORT);
            assert_eq!(awake.before_sleeping(1), Duration::ZERO);
            awake.waited(10 * TIME);
            assert_eq!(awake.before_sleeping(1), Duration::ZERO);
        }
    }

    #[test]
    fn sleeps_soon_when_nothing_comes_any_more() {
        let mut awake = after(&[SHORT; 100]);
        for _ in 0..=(SHORT_MAX - SHORT_MIN) / LONG_WEIGHS {
            assert_eq!(awake.before_sleeping(0), TIME);
            awake.waited(100 * TIME);
        }
        assert_eq!(awake.before_sleeping(0), Duration::ZERO);
    }

    #[test]
    fn sleeps_while_writes_wait_for_each_other_and_some_turns_after() {
        let mut awake = after(&[SHORT; 100]);
        assert_eq!(awake.before_sleeping(2), Duration::ZERO);
        for _ in 1..BUSY_TURNS {
            assert_eq!(awake.before_sleeping(1), Duration::ZERO);
        }
        assert_eq!(awake.before_sleeping(1), TIME);
    }

    #[test]
    fn never_stays_awake_if_it_is_told_so_and_never_for_long() {
        let mut never = Awake::new(0);
        (0..100).for_each(|_| never.waited(Duration::ZERO));
        assert_eq!(never.before_sleeping(0), Duration::ZERO);
        let mut long = Awake::new(u64::MAX);
        (0..100).for_each(|_| long.waited(Duration::ZERO));
        let highest = Duration::from_micros(AWAKE_MICROS_HIGHEST);
        assert_eq!(long.before_sleeping(0), highest);
    }
}
