//! What can go wrong, and how it is drawn: each story suffers from some kinds of faults, each as often
//! as that story's own dice say.

use std::collections::BTreeMap;

use crate::chance::Chance;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// What members say to each other takes longer.
    SlowLinks,
    /// Some of it is lost.
    LostMessages,
    /// Some of it arrives twice.
    DoubledMessages,
    /// Some of it is overtaken.
    OvertakenMessages,
    /// One direction of one link is cut.
    OneWay,
    /// Two members do not hear each other; both hear the others.
    Bridge,
    /// One member is cut off from all others.
    Isolated,
    /// The members are cut into two parts.
    Split,
    /// Nothing arrives over some links for a while, then everything at once.
    Clog,
    /// The links of a member break and are dialled again.
    BrokenLinks,
    /// Clients do not reach a member, which goes on hearing the others.
    ClientsCut,
    /// A process stands still.
    Pause,
    /// A process dies; its system lives on.
    Kill,
    /// The power of one member goes, between any two calls of its disk.
    PowerOne,
    /// The power of a minority goes.
    PowerMinority,
    /// The power of a majority goes.
    PowerMajority,
    /// The power of all goes at once.
    PowerAll,
    /// A member is stopped as one should, and started again.
    Stop,
    /// All members are killed and started again at once.
    RestartAll,
    /// A disk takes its time.
    SlowDisk,
    /// A call of a disk fails.
    FailingDisk,
    /// A disk is full, and later is not.
    FullDisk,
    /// The small state of a member is lost while it is down.
    StateLost,
    /// A segment is damaged while its member is down: flipped bits, zeros, a cut, another's bytes, gone.
    SegmentDamaged,
    /// The same of a journal.
    JournalDamaged,
    /// A member loses its whole disk.
    Wiped,
    /// A wall clock is set by hours or years, forward or back.
    WallJump,
    /// A clock runs too fast or too slow.
    Drift,
    /// A topic is made.
    TopicMade,
    /// A topic is deleted.
    TopicDeleted,
    /// A leader is told to hand over.
    Transfer,
    /// Somebody with an empty disk joins.
    MemberJoined,
    /// A member is to leave.
    MemberRemoved,
    /// A member dies, is removed, and another comes by its name; later the dead one may be back.
    MemberReplaced,
    /// The topics of a member are moved to others, and later it may keep some again.
    MemberDrained,
    /// A member's vote and topics are taken, and later it has a vote again.
    MemberDemoted,
    /// Topics and leaderships are not spread evenly any more, and later are.
    BalanceOff,
    /// The topics of a member are moved to others, and one of those does not hear whoever leads one of these
    /// topics, or is not heard by it.
    Unheard,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::SlowLinks,
        Self::LostMessages,
        Self::DoubledMessages,
        Self::OvertakenMessages,
        Self::OneWay,
        Self::Bridge,
        Self::Isolated,
        Self::Split,
        Self::Clog,
        Self::BrokenLinks,
        Self::ClientsCut,
        Self::Pause,
        Self::Kill,
        Self::PowerOne,
        Self::PowerMinority,
        Self::PowerMajority,
        Self::PowerAll,
        Self::Stop,
        Self::RestartAll,
        Self::SlowDisk,
        Self::FailingDisk,
        Self::FullDisk,
        Self::StateLost,
        Self::SegmentDamaged,
        Self::JournalDamaged,
        Self::Wiped,
        Self::WallJump,
        Self::Drift,
        Self::TopicMade,
        Self::TopicDeleted,
        Self::Transfer,
        Self::MemberJoined,
        Self::MemberRemoved,
        Self::MemberReplaced,
        Self::MemberDrained,
        Self::MemberDemoted,
        Self::BalanceOff,
        Self::Unheard,
    ];

    /// A few words for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowLinks => "slow links",
            Self::LostMessages => "lost messages",
            Self::DoubledMessages => "doubled messages",
            Self::OvertakenMessages => "overtaken messages",
            Self::OneWay => "one way cut",
            Self::Bridge => "bridge",
            Self::Isolated => "isolated member",
            Self::Split => "split",
            Self::Clog => "clogged links",
            Self::BrokenLinks => "broken links",
            Self::ClientsCut => "clients cut off",
            Self::Pause => "pause",
            Self::Kill => "kill",
            Self::PowerOne => "power cut of one",
            Self::PowerMinority => "power cut of a minority",
            Self::PowerMajority => "power cut of a majority",
            Self::PowerAll => "power cut of all",
            Self::Stop => "clean stop",
            Self::RestartAll => "restart of all",
            Self::SlowDisk => "slow disk",
            Self::FailingDisk => "failing disk",
            Self::FullDisk => "full disk",
            Self::StateLost => "small state lost",
            Self::SegmentDamaged => "segment damaged",
            Self::JournalDamaged => "journal damaged",
            Self::Wiped => "disk lost",
            Self::WallJump => "wall clock set",
            Self::Drift => "clock drift",
            Self::TopicMade => "topic made",
            Self::TopicDeleted => "topic deleted",
            Self::Transfer => "leadership handed over",
            Self::MemberJoined => "member joined",
            Self::MemberRemoved => "member removed",
            Self::MemberReplaced => "member replaced",
            Self::MemberDrained => "member drained",
            Self::MemberDemoted => "member demoted",
            Self::BalanceOff => "balance off",
            Self::Unheard => "newcomer unheard",
        }
    }

    /// How long one lasts, about.
    fn lasts(self) -> u64 {
        match self {
            Self::SlowLinks
            | Self::LostMessages
            | Self::DoubledMessages
            | Self::OvertakenMessages
            | Self::Drift => 6_000_000,
            Self::OneWay | Self::Bridge | Self::Isolated | Self::Split | Self::ClientsCut => {
                2_500_000
            }
            Self::Clog | Self::Pause => 800_000,
            Self::SlowDisk | Self::FullDisk => 3_000_000,
            Self::PowerMajority | Self::PowerAll | Self::RestartAll => 700_000,
            Self::MemberReplaced => 20_000_000,
            // Longer than it takes to look for another.
            Self::Unheard => 45_000_000,
            Self::MemberDrained | Self::MemberDemoted | Self::BalanceOff => 10_000_000,
            _ => 1_500_000,
        }
    }
}

/// One fault of a story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// When it sets in, in microseconds.
    pub at: u64,
    /// When what it does is over.
    pub until: u64,
    /// What it is.
    pub kind: Kind,
    /// All the chance in it: whom it hits, how hard.
    pub seed: u64,
}

/// How often each kind came about.
pub type Counts = BTreeMap<Kind, u64>;

/// Faults begin at this time: the first topics are there by then.
pub(crate) const FIRST_AT: u64 = 3_000_000;

/// Kinds that together bring out one weakness. A story about one of these has them often.
const THEMES: [&[Kind]; 6] = [
    // Elections that follow each other, among members whose logs differ.
    &[
        Kind::Isolated,
        Kind::Split,
        Kind::Kill,
        Kind::PowerOne,
        Kind::Transfer,
        Kind::SlowLinks,
        Kind::LostMessages,
    ],
    // Leaders that have not heard yet that they are none.
    &[
        Kind::Pause,
        Kind::OneWay,
        Kind::Bridge,
        Kind::Isolated,
        Kind::Clog,
        Kind::Drift,
    ],
    // Disks that lag behind what their members know to be committed, and then are cut short.
    &[
        Kind::SlowDisk,
        Kind::Kill,
        Kind::PowerOne,
        Kind::PowerMinority,
        Kind::FailingDisk,
    ],
    // Members that forget, while others are away.
    &[
        Kind::JournalDamaged,
        Kind::Wiped,
        Kind::SegmentDamaged,
        Kind::StateLost,
        Kind::Pause,
        Kind::Isolated,
        Kind::SlowDisk,
    ],
    // Topics that come and go, and clients that try again.
    &[
        Kind::TopicMade,
        Kind::TopicDeleted,
        Kind::Transfer,
        Kind::ClientsCut,
        Kind::BrokenLinks,
        Kind::Kill,
    ],
    // Everything off, again and again.
    &[
        Kind::PowerAll,
        Kind::PowerMajority,
        Kind::RestartAll,
        Kind::Stop,
        Kind::SlowDisk,
        Kind::TopicMade,
    ],
];

/// How much more often a story has what it is about.
const THEME_WEIGHT: u64 = 8;
/// A misfortune that does not come alone comes with the next one after this long, at most.
const BURST: u64 = 700_000;

/// How often each kind is to come about in a story, compared with the others.
fn weights(chance: &mut Chance) -> Vec<u64> {
    let theme = match chance.permille(500) {
        true => *chance.pick(&THEMES),
        false => &[],
    };
    let mut weigh = |kind: &Kind| {
        let plain = match chance.permille(550) {
            true => 0,
            false => 1 + chance.next() % 4,
        };
        plain + THEME_WEIGHT * u64::from(theme.contains(kind))
    };
    let others = Kind::ALL.iter().filter(|kind| !CHANGES.contains(kind));
    others.map(&mut weigh).collect()
}

/// What changes who is a member, or what members do: drawn beside all else.
const CHANGES: [Kind; 7] = [
    Kind::MemberJoined,
    Kind::MemberRemoved,
    Kind::MemberReplaced,
    Kind::MemberDrained,
    Kind::MemberDemoted,
    Kind::BalanceOff,
    Kind::Unheard,
];
/// Between two changes, at most.
const CHANGE_EVERY: u64 = 12_000_000;
/// Stories of a thousand in which newcomers are not heard.
const UNHEARD_OFTEN: u64 = 250;
/// Between two of them, at most.
const UNHEARD_EVERY: u64 = 30_000_000;

/// Draws the changes of who is a member: in some stories many, in others few.
pub(crate) fn draw_changes(chance: &mut Chance, until: u64) -> Vec<Fault> {
    let pace = *chance.pick(&[CHANGE_EVERY, CHANGE_EVERY / 2, CHANGE_EVERY / 6]);
    let kinds = [
        Kind::MemberJoined,
        Kind::MemberJoined,
        Kind::MemberJoined,
        Kind::MemberRemoved,
        Kind::MemberRemoved,
        Kind::MemberReplaced,
    ];
    draw_of(chance, &kinds, pace, until)
}

/// Draws the changes of what members do: who keeps topics, who votes, who leads.
pub(crate) fn draw_standings(chance: &mut Chance, until: u64) -> Vec<Fault> {
    let pace = *chance.pick(&[2 * CHANGE_EVERY, CHANGE_EVERY, CHANGE_EVERY / 3]);
    let kinds = [
        Kind::MemberDrained,
        Kind::MemberDrained,
        Kind::MemberDemoted,
        Kind::BalanceOff,
        Kind::Transfer,
    ];
    draw_of(chance, &kinds, pace, until)
}

/// Draws newcomers that are not heard, in some stories.
pub(crate) fn draw_unheard(chance: &mut Chance, until: u64) -> Vec<Fault> {
    match chance.permille(UNHEARD_OFTEN) {
        true => draw_of(chance, &[Kind::Unheard], UNHEARD_EVERY, until),
        false => Vec::new(),
    }
}

fn draw_of(chance: &mut Chance, kinds: &[Kind], pace: u64, until: u64) -> Vec<Fault> {
    let mut changes = Vec::new();
    let mut at = FIRST_AT;
    loop {
        at += chance.between(pace / 8, pace);
        if at >= until {
            return changes;
        }
        let kind = *chance.pick(kinds);
        let lasts = chance.around(kind.lasts());
        changes.push(Fault {
            at,
            until: (at + lasts.max(1_000)).min(until),
            kind,
            seed: chance.next(),
        });
    }
}

/// Draws a story's faults: at least `PER_MINUTE_MIN` a minute, of a subset of all kinds.
pub(crate) fn draw(chance: &mut Chance, until: u64, members: usize) -> Vec<Fault> {
    let weights = weights(chance);
    let weight: u64 = weights.iter().sum();
    let in_bursts = *chance.pick(&[0, 0, 300, 600]);
    let gap = 60_000_000 / chance.between(PER_MINUTE_MIN + 2, PER_MINUTE_MAX);
    let scale = chance.between(300, 1_800);
    let mut faults = Vec::new();
    let mut at = FIRST_AT;
    loop {
        at += match chance.permille(in_bursts) {
            true => chance.between(5_000, BURST),
            false => chance.between(gap / 8, gap * 15 / 8),
        };
        if at >= until {
            return faults;
        }
        let kind = draw_kind(chance, &weights, weight);
        // One member alone has nobody to be cut off from.
        if members == 1 && is_between_members(kind) {
            continue;
        }
        let lasts = chance.around(kind.lasts()) * scale / 1_000;
        faults.push(Fault {
            at,
            until: (at + lasts.max(1_000)).min(until),
            kind,
            seed: chance.next(),
        });
    }
}

fn draw_kind(chance: &mut Chance, weights: &[u64], weight: u64) -> Kind {
    if weight == 0 {
        return Kind::PowerOne;
    }
    let mut ticket = chance.next() % weight;
    for (kind, weight) in Kind::ALL.into_iter().zip(weights) {
        if ticket < *weight {
            return kind;
        }
        ticket -= weight;
    }
    unreachable!("the ticket is below the sum of all weights")
}

fn is_between_members(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::SlowLinks
            | Kind::LostMessages
            | Kind::DoubledMessages
            | Kind::OvertakenMessages
            | Kind::OneWay
            | Kind::Bridge
            | Kind::Isolated
            | Kind::Split
            | Kind::Clog
            | Kind::BrokenLinks
            | Kind::Transfer
    )
}

/// No story has fewer faults in a simulated minute, about.
const PER_MINUTE_MIN: u64 = 10;
/// Nor more.
const PER_MINUTE_MAX: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_named_once_and_drawn_by_some_story() {
        let mut drawn = Counts::new();
        for seed in 0..60 {
            let mut chance = Chance::new(seed);
            let mut faults = draw(&mut chance, 65_000_000, 3);
            faults.extend(draw_changes(&mut chance, 65_000_000));
            faults.extend(draw_standings(&mut chance, 65_000_000));
            faults.extend(draw_unheard(&mut chance, 65_000_000));
            for fault in faults {
                *drawn.entry(fault.kind).or_default() += 1;
                assert!(fault.at < fault.until && fault.until <= 65_000_000);
            }
        }
        assert_eq!(drawn.len(), Kind::ALL.len());
        let names: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
