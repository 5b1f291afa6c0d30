//! The verbs of a story.
//!
//! | verb | does |
//! |---|---|
//! | `members 3 [voters=1,2] [outgoing=..] [learners=..] [seed=7] [bound=..]` | a new group, all started; bounds are those of `Settings` |
//! | `boot 2 log=1,1,2 [term=3] [vote=1] [commit=1]` | starts a member anew from a disk like this; an item may be a configuration: `2{1+2/2+3}` |
//! | `elect 1 2 3` | 1 campaigns, and nothing but the questions to 2 and 3 and their answers arrives |
//! | `campaign 1` `propose 1 a b` `read 1` `transfer 1 2` `retire 1` | asks a member for something |
//! | `change 1 voters=1,2,3 [learners=4] [expect=5] [force]` | asks a leader for another configuration, by default than the one it has |
//! | `compact 1 5` | a member's log is dropped up to there |
//! | `fetch 3 2 [last=4] [applied=2]` | a member has fetched what another has of the committed log, or so much of it, with a checkpoint as it was then |
//! | `fetched 3 5` | a member has fetched that far |
//! | `join 4` `join 2'` | a member that knows nothing starts with an empty disk; with a stroke, in the place of the one before, which is gone |
//! | `reachable 1 2 up` | tells a member that its link to another opened (`down`: closed) |
//! | `watched 1 2=400 3` | a member's host tells that it heard another at that many milliseconds, or now |
//! | `rouse 1` | it tells that it does not hear whom it watches |
//! | `deliver 1->2 [kind] [nth=2] [count=1] [drop] [dup]` | what is under way there arrives, is lost, or arrives and stays under way too |
//! | `persist 1 [2]` | all queued writes of a member, or so many, reach the disk |
//! | `stabilize` | everything arrives and every disk writes until nothing happens; time stands still |
//! | `advance 100` | so many milliseconds pass, and nothing happens: timers are late |
//! | `timer 1` | a member's timer fires |
//! | `run 100` | so many milliseconds pass: timers fire in time, and everything arrives at once; beats that tell nothing are left out |
//! | `crash 1 [keep=1]` `restart 1` | a member dies, and so many of its queued writes were on the disk already; it starts again |
//! | `forget 1 [keep=2]` | a member dies, and its disk loses everything but so many entries |
//! | `link 1->2 drop` | what is sent there is lost (`hold`: waits, `ok`: arrives); `1-2` both ways, `1` all of its links, `all` |
//! | `disk 1 hold` | its writes wait for `persist` (`ok`: no more; `fail`: one of them failed) |
//! | `status` `log 1` | what members know; what a disk and its queue hold |

use std::{collections::BTreeSet, str::FromStr};

use kontiki_raft::{
    Entry, Incarnation, Index, Kind, LogId, Membership, Micros, NodeId, NodeRef, Settings, Term,
};

use crate::disk::Disk;

/// One line of a story.
pub(crate) enum Command {
    Members {
        count: u64,
        config: Membership,
        seed: u64,
        settings: Box<Settings>,
    },
    Boot {
        member: u64,
        disk: Disk,
    },
    Elect(u64, Vec<u64>),
    Campaign(u64),
    Retire(u64),
    Propose(u64, Vec<String>),
    Read(u64),
    Transfer(u64, u64),
    Change {
        member: u64,
        target: Membership,
        expect: Option<u64>,
        force: bool,
    },
    Join(NodeRef),
    Compact(u64, u64),
    Fetch {
        member: u64,
        from: u64,
        last: Option<usize>,
        applied: Option<usize>,
    },
    Fetched(u64, u64),
    Reachable {
        member: u64,
        peer: u64,
        open: bool,
    },
    Watched(u64, Vec<(u64, Option<u64>)>),
    Rouse(u64),
    Deliver(Pick),
    Persist(u64, usize),
    Stabilize,
    Advance(Micros),
    Timer(u64),
    Run(Micros),
    Crash {
        member: u64,
        keep: usize,
    },
    Restart(u64),
    Forget {
        member: u64,
        keep: usize,
    },
    Link(Path, Gate),
    Disk(u64, Gate),
    Status,
    Log(u64),
}

/// Which messages under way are meant, and what becomes of them.
pub(crate) struct Pick {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) kind: Option<String>,
    pub(crate) skip: usize,
    pub(crate) count: usize,
    pub(crate) lost: bool,
    pub(crate) doubled: bool,
}

impl Pick {
    /// All of one kind on one link.
    pub(crate) fn all(from: u64, to: u64, kind: &str) -> Self {
        Self {
            from,
            to,
            kind: Some(kind.to_owned()),
            skip: 0,
            count: usize::MAX,
            lost: false,
            doubled: false,
        }
    }
}

/// Which links are meant.
pub(crate) enum Path {
    All,
    Of(u64),
    Between(u64, u64),
    From(u64, u64),
}

/// Whether something passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Held,
    Lost,
}

impl Path {
    /// Whether the link is one of these.
    pub(crate) fn covers(&self, from: u64, to: u64) -> bool {
        match *self {
            Self::All => true,
            Self::Of(member) => from == member || to == member,
            Self::Between(a, b) => (from, to) == (a, b) || (from, to) == (b, a),
            Self::From(a, b) => (from, to) == (a, b),
        }
    }
}

/// A member of a story; all have disks of their first birth.
pub(crate) fn node(member: u64) -> NodeRef {
    NodeRef {
        id: NodeId(member),
        incarnation: Incarnation(1),
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words::of(line);
        let verb = words.next("a verb")?;
        let command = match verb {
            "members" => words.members()?,
            "boot" => words.boot()?,
            "elect" => {
                let member = words.number("a member")?;
                let voters = words.rest();
                Self::Elect(
                    member,
                    voters.iter().map(|v| parse(v)).collect::<Result<_, _>>()?,
                )
            }
            "campaign" => Self::Campaign(words.number("a member")?),
            "retire" => Self::Retire(words.number("a member")?),
            "propose" => {
                let member = words.number("a member")?;
                Self::Propose(member, words.rest())
            }
            "read" => Self::Read(words.number("a member")?),
            "transfer" => Self::Transfer(words.number("a member")?, words.number("a target")?),
            "change" => Self::Change {
                member: words.number("a member")?,
                target: Membership {
                    voters: words.nodes("voters")?.unwrap_or_default(),
                    learners: words.nodes("learners")?.unwrap_or_default(),
                    ..Membership::default()
                },
                expect: words.named("expect")?,
                force: words.flag("force"),
            },
            "compact" => Self::Compact(words.number("a member")?, words.number("an index")?),
            "fetch" => Self::Fetch {
                member: words.number("a member")?,
                from: words.number("another")?,
                last: words.named("last")?,
                applied: words.named("applied")?,
            },
            "fetched" => Self::Fetched(words.number("a member")?, words.number("an index")?),
            "join" => Self::Join(named(words.next("a member")?)?),
            "reachable" => Self::Reachable {
                member: words.number("a member")?,
                peer: words.number("a peer")?,
                open: match words.next("up or down")? {
                    "up" => true,
                    "down" => false,
                    other => return Err(format!("{other:?} is neither up nor down")),
                },
            },
            "watched" => {
                let member = words.number("a member")?;
                let heard = words
                    .rest()
                    .into_iter()
                    .map(|word| match word.split_once('=') {
                        Some((peer, at)) => Ok((parse(peer)?, Some(parse(at)?))),
                        None => Ok((parse(&word)?, None)),
                    });
                Self::Watched(member, heard.collect::<Result<_, String>>()?)
            }
            "rouse" => Self::Rouse(words.number("a member")?),
            "deliver" => Self::Deliver(words.pick()?),
            "persist" => Self::Persist(words.number("a member")?, words.count()?),
            "stabilize" => Self::Stabilize,
            "advance" => Self::Advance(words.millis()?),
            "timer" => Self::Timer(words.number("a member")?),
            "run" => Self::Run(words.millis()?),
            "crash" => Self::Crash {
                member: words.number("a member")?,
                keep: words.named("keep")?.unwrap_or_default(),
            },
            "forget" => Self::Forget {
                member: words.number("a member")?,
                keep: words.named("keep")?.unwrap_or_default(),
            },
            "restart" => Self::Restart(words.number("a member")?),
            "link" => Self::Link(path(words.next("a link")?)?, words.gate()?),
            "disk" => Self::Disk(words.number("a member")?, words.gate()?),
            "status" => Self::Status,
            "log" => Self::Log(words.number("a member")?),
            other => return Err(format!("{other:?} is not a verb")),
        };
        match words.left.first() {
            Some(word) => Err(format!("{word:?} means nothing to {verb:?}")),
            None => Ok(command),
        }
    }
}

/// The words of a line that were not understood yet.
struct Words<'a> {
    left: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        Self {
            left: line.split_whitespace().collect(),
        }
    }

    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        if self.left.is_empty() {
            return Err(format!("{what} is missing"));
        }
        Ok(self.left.remove(0))
    }

    fn number(&mut self, what: &str) -> Result<u64, String> {
        parse(self.next(what)?)
    }

    fn rest(&mut self) -> Vec<String> {
        self.left.drain(..).map(str::to_owned).collect()
    }

    fn count(&mut self) -> Result<usize, String> {
        match self.left.is_empty() {
            true => Ok(usize::MAX),
            false => parse(self.next("a count")?),
        }
    }

    fn millis(&mut self) -> Result<Micros, String> {
        Ok(Micros(self.number("milliseconds")? * 1_000))
    }

    fn gate(&mut self) -> Result<Gate, String> {
        match self.next("ok, hold or drop")? {
            "ok" => Ok(Gate::Open),
            "hold" => Ok(Gate::Held),
            "drop" | "fail" => Ok(Gate::Lost),
            other => Err(format!("{other:?} is neither ok, hold, drop nor fail")),
        }
    }

    /// The value of `name=value`.
    fn text(&mut self, name: &str) -> Option<&'a str> {
        let value = |word: &'a str| word.strip_prefix(name)?.strip_prefix('=');
        let at = self.left.iter().position(|word| value(word).is_some())?;
        value(self.left.remove(at))
    }

    fn named<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.text(name).map(parse).transpose()
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.left.iter().position(|word| *word == name);
        at.map(|at| self.left.remove(at)).is_some()
    }

    fn nodes(&mut self, name: &str) -> Result<Option<BTreeSet<NodeRef>>, String> {
        self.text(name).map(|list| nodes(list, ',')).transpose()
    }

    fn members(&mut self) -> Result<Command, String> {
        let count = self.number("a count")?;
        let learners = self.nodes("learners")?.unwrap_or_default();
        let everyone = (1..=count).map(node);
        let others = everyone.filter(|node| !learners.contains(node)).collect();
        let config = Membership {
            voters: self.nodes("voters")?.unwrap_or(others),
            outgoing: self.nodes("outgoing")?.unwrap_or_default(),
            next_learners: BTreeSet::new(),
            learners,
        };
        let seed = self.named("seed")?.unwrap_or(1);
        let mut bounds = Settings {
            // Most stories stand still: nothing is worth waiting for.
            notice_delay: Micros(self.named("notice_delay")?.unwrap_or(0)),
            rest: Micros(self.named("rest")?.unwrap_or(0)),
            ..Settings::default()
        };
        let set = |bound: &mut u64, value: Option<u64>| *bound = value.unwrap_or(*bound);
        set(
            &mut bounds.append_bytes_max,
            self.named("append_bytes_max")?,
        );
        set(
            &mut bounds.window_bytes_max,
            self.named("window_bytes_max")?,
        );
        let uncommitted = self.named("uncommitted_bytes_max")?;
        set(&mut bounds.uncommitted_bytes_max, uncommitted);
        set(&mut bounds.tail_bytes_max, self.named("tail_bytes_max")?);
        let set = |bound: &mut usize, value: Option<usize>| *bound = value.unwrap_or(*bound);
        let window = self.named("window_messages_max")?;
        set(&mut bounds.window_messages_max, window);
        let uncommitted = self.named("uncommitted_entries_max")?;
        set(&mut bounds.uncommitted_entries_max, uncommitted);
        set(&mut bounds.reads_max, self.named("reads_max")?);
        Ok(Command::Members {
            count,
            config,
            seed,
            settings: Box::new(bounds),
        })
    }

    fn boot(&mut self) -> Result<Command, String> {
        let member = self.number("a member")?;
        let mut log = Vec::new();
        let items = self.text("log").unwrap_or_default();
        for item in items.split(',').filter(|item| !item.is_empty()) {
            log.push(entry(log.len() as u64 + 1, item)?);
        }
        let last: Term = log.last().map_or(Term(0), |entry: &Entry| entry.id.term);
        let mut disk = Disk {
            log,
            ..Disk::default()
        };
        disk.hard.term = self.named("term")?.map_or(last, Term);
        disk.hard.vote = self.named("vote")?.map(node);
        disk.commit = self.named("commit")?.map_or(Index(0), Index);
        Ok(Command::Boot { member, disk })
    }

    fn pick(&mut self) -> Result<Pick, String> {
        let Path::From(from, to) = path(self.next("a link")?)? else {
            return Err("messages are delivered on one link, as in 1->2".into());
        };
        let nth: usize = self.named("nth")?.unwrap_or(1);
        Ok(Pick {
            from,
            to,
            skip: nth.saturating_sub(1),
            count: self.named("count")?.unwrap_or(usize::MAX),
            lost: self.flag("drop"),
            doubled: self.flag("dup"),
            kind: match self.left.is_empty() {
                true => None,
                false => Some(self.next("a kind")?.to_owned()),
            },
        })
    }
}

fn parse<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("{word:?} is not a number"))
}

fn nodes(list: &str, between: char) -> Result<BTreeSet<NodeRef>, String> {
    let items = list.split(between).filter(|item| !item.is_empty());
    items.map(named).collect()
}

/// A member by its name: a stroke for each disk that it had before.
fn named(word: &str) -> Result<NodeRef, String> {
    let id = word.trim_end_matches('\'');
    let mut member = node(parse(id)?);
    member.incarnation.0 += (word.len() - id.len()) as u64;
    Ok(member)
}

fn path(word: &str) -> Result<Path, String> {
    if word == "all" {
        return Ok(Path::All);
    }
    if let Some((from, to)) = word.split_once("->") {
        return Ok(Path::From(parse(from)?, parse(to)?));
    }
    Ok(match word.split_once('-') {
        Some((a, b)) => Path::Between(parse(a)?, parse(b)?),
        None => Path::Of(parse(word)?),
    })
}

/// An entry of a booted log: its term, and a configuration in braces if it is one.
fn entry(index: u64, item: &str) -> Result<Entry, String> {
    let (term, config) = match item.split_once('{') {
        Some((term, config)) => (term, Some(config.trim_end_matches('}'))),
        None => (item, None),
    };
    let config = config.map(|halves| {
        let (incoming, outgoing) = halves.split_once('/').unwrap_or((halves, ""));
        Ok::<_, String>(Membership {
            voters: nodes(incoming, '+')?,
            outgoing: nodes(outgoing, '+')?,
            ..Membership::default()
        })
    });
    let config = config.transpose()?;
    Ok(Entry {
        id: LogId {
            term: Term(parse(term)?),
            index: Index(index),
        },
        kind: config.as_ref().map_or(Kind::Batch, |_| Kind::Config),
        time: Micros(0),
        checksum: 0,
        body: config.map(|config| config.encode()).unwrap_or_default(),
    })
}
