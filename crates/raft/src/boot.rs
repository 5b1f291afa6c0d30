//! Whether what a disk held can be started from.

use std::collections::BTreeMap;

use crate::{
    entry::Kind,
    ids::{Hard, Index, LogId, NUMBER_MAX, NodeRef, Term},
    input::{Boot, Membership, Settings, Stretch},
    membership::ConfigHistory,
    terms::TermIndex,
};

/// What a boot holds, verified.
pub(crate) struct Held {
    pub(crate) terms: TermIndex,
    pub(crate) configs: ConfigHistory,
}

/// Checks a stretch from end to end, as a disk that holds nothing else; the reason if it does not fit
/// together.
pub(crate) fn verify_stretch(stretch: &Stretch) -> Result<Held, String> {
    let Stretch {
        base,
        base_config,
        terms,
        configs,
        last,
        applied,
        tail,
        ..
    } = stretch.clone();
    let boot = Boot {
        me: NodeRef::default(),
        fresh: false,
        forgot: true,
        hard: Hard::default(),
        base,
        base_config,
        terms,
        configs,
        last,
        commit: last,
        applied,
        tail,
    };
    let terms = self::terms(&boot)?;
    check_tail(&boot, &terms)?;
    Ok(Held {
        configs: self::configs(&boot)?,
        terms,
    })
}

/// Checks a boot from end to end; the reason if it does not fit together.
pub(crate) fn verify(settings: &Settings, boot: &Boot) -> Result<Held, String> {
    settings.check()?;
    let terms = terms(boot)?;
    check_tail(boot, &terms)?;
    Ok(Held {
        configs: configs(boot)?,
        terms,
    })
}

impl Settings {
    fn check(&self) -> Result<(), String> {
        let (election, beat) = (self.election_timeout, self.beat_interval);
        if beat.0 == 0 || election.0 > NUMBER_MAX || beat.0 > election.0 / 3 {
            return Err(format!(
                "a beat interval of {beat} µs is not within a third of the election timeout of \
                 {election} µs"
            ));
        }
        if election.0 / beat.0 > BEATS_MAX {
            return Err(format!(
                "a beat interval of {beat} µs is not within {BEATS_MAX} to an election timeout of \
                 {election} µs"
            ));
        }
        if self.rest.0 > 0 && self.rest < election {
            let rest = self.rest;
            return Err(format!(
                "a rest of {rest} µs is not as long as the election timeout of {election} µs"
            ));
        }
        Ok(())
    }
}

impl Boot {
    /// A member of a group that is being born with this configuration: its disk holds nothing yet.
    #[must_use]
    pub fn born(me: NodeRef, config: Membership) -> Self {
        Self {
            me,
            fresh: true,
            forgot: false,
            hard: Hard::default(),
            base: LogId::ORIGIN,
            base_config: (Index(0), config),
            terms: Vec::new(),
            configs: BTreeMap::new(),
            last: Index(0),
            commit: Index(0),
            applied: Index(0),
            tail: Vec::new(),
        }
    }

    /// Whether this member may have forgotten promises.
    pub(crate) fn is_recovering(&self) -> bool {
        self.forgot || self.hard.recovering
    }

    /// What it starts with, which may be more than its disk has. It cannot have held an entry and not
    /// have been in its term.
    pub(crate) fn hard(&self, last: LogId) -> Hard {
        let recovering = self.is_recovering();
        let mut hard = Hard {
            recovering,
            ..self.hard
        };
        if recovering && last.term > hard.term {
            hard.term = last.term;
            hard.vote = None;
        }
        hard
    }
}

/// Beats within one election timeout: as many are remembered while no quorum answers.
const BEATS_MAX: u64 = 1_000;

fn terms(boot: &Boot) -> Result<TermIndex, String> {
    let Boot { base, last, .. } = *boot;
    if last.0 > NUMBER_MAX || last < base.index {
        return Err(format!("a log that ends at {last} after base {base}"));
    }
    let mut terms = TermIndex::new(base);
    let ends = boot
        .terms
        .iter()
        .skip(1)
        .map(|run| run.0)
        .chain([last.next()]);
    for ((first, term), end) in boot.terms.iter().copied().zip(ends) {
        let before = terms.last();
        let follows = first == before.index.next() && term >= before.term && term > Term(0);
        let rises = first == base.index.next() || term > before.term;
        if !follows || !rises || end <= first {
            return Err(format!(
                "a run of term {term} from {first} on, after {before}"
            ));
        }
        terms.extend(term, end.0 - first.0);
    }
    if terms.last().index != last {
        return Err(format!(
            "terms that end at {} in a log that ends at {last}",
            terms.last()
        ));
    }
    if !boot.is_recovering() && terms.last().term > boot.hard.term {
        return Err(format!(
            "{} in a log of term {}",
            terms.last(),
            boot.hard.term
        ));
    }
    Ok(terms)
}

fn check_tail(boot: &Boot, terms: &TermIndex) -> Result<(), String> {
    let Boot {
        base,
        last,
        commit,
        applied,
        ..
    } = *boot;
    let committed = applied <= commit && (commit <= last || boot.is_recovering());
    if applied < base.index || applied > last || !committed {
        return Err(format!(
            "base {base}, applied {applied}, commit {commit} and last {last} out of order"
        ));
    }
    let first = last
        .0
        .checked_sub(boot.tail.len() as u64)
        .map(|before| before + 1);
    if first.is_none_or(|first| first > applied.0 + 1 || first <= base.index.0) {
        return Err(format!(
            "a tail of {} entries up to {last} after base {base} and applied {applied}",
            boot.tail.len()
        ));
    }
    for (index, entry) in (first.unwrap_or_default()..).zip(&boot.tail) {
        if entry.id.index.0 != index || !terms.contains(entry.id) {
            return Err(format!("entry {} where {index} was to be", entry.id));
        }
    }
    Ok(())
}

fn configs(boot: &Boot) -> Result<ConfigHistory, String> {
    let (index, config) = &boot.base_config;
    let check = |config: &Membership| config.check().map_err(str::to_owned);
    let knows_nothing = boot.base == LogId::ORIGIN && *config == Membership::default();
    if !knows_nothing {
        check(config)?;
    }
    if *index > boot.base.index {
        return Err(format!("a configuration of {index} at base {}", boot.base));
    }
    let mut configs = ConfigHistory::new(*index, config.clone());
    let tail = boot.tail.iter().filter(|entry| entry.kind == Kind::Config);
    let tail_first = boot
        .tail
        .first()
        .map_or_else(|| boot.last.next(), |entry| entry.id.index);
    for (index, config) in &boot.configs {
        check(config)?;
        if *index <= boot.base.index || *index >= tail_first {
            return Err(format!(
                "a configuration at {index}, which is not before the tail"
            ));
        }
        configs.push(*index, config.clone());
    }
    for entry in tail {
        let config = Membership::decode(&entry.body);
        let config =
            config.ok_or_else(|| format!("an unreadable configuration at {}", entry.id))?;
        configs.push(entry.id.index, config);
    }
    Ok(configs)
}
