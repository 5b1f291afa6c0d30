//! The promises of Raft (figure 3 of the paper), and durability, checked from outside over what every
//! member holds. Shares no code with the core: it is written from the paper.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{Entry, Membership, NodeId, NodeRef, Term};

/// What can be seen of one member.
pub(crate) struct View<'a> {
    pub(crate) me: NodeRef,
    pub(crate) term: Term,
    pub(crate) leads: bool,
    /// Who counts, as far as it knows.
    pub(crate) config: &'a Membership,
    /// What it takes for its log, from index 1 on.
    pub(crate) log: &'a [Entry],
    /// How much of that it takes for committed.
    pub(crate) commit: usize,
    /// What a crash would leave.
    pub(crate) disk: &'a [Entry],
    /// Whether it may have had more, and forgotten it.
    pub(crate) forgot: bool,
}

/// What has happened so far, as far as promises hang on it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct History {
    leaders: BTreeMap<Term, NodeId>,
    agreed: Vec<Agreed>,
}

/// A committed entry, and under what it was first known to be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Agreed {
    entry: Entry,
    term: Term,
    config: Membership,
}

impl History {
    /// Whether whatever breaks a promise after `other` breaks it after this, too: all leaders and all
    /// commits that were seen there were seen here, and no later.
    #[allow(dead_code, reason = "for the explorer; a story has one history")]
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let led = |(term, leader)| self.leaders.get(term) == Some(leader);
        let agreed = |(ours, theirs): (&Agreed, &Agreed)| {
            ours.entry == theirs.entry && ours.config == theirs.config && ours.term <= theirs.term
        };
        other.leaders.iter().all(led)
            && other.agreed.len() <= self.agreed.len()
            && self.agreed.iter().zip(&other.agreed).all(agreed)
    }

    /// Takes note of what is seen; the broken promise, if one is.
    pub(crate) fn observe(&mut self, views: &[View<'_>]) -> Result<(), String> {
        for view in views {
            self.note_leader(view)?;
            self.note_commits(view)?;
        }
        for view in views.iter().filter(|view| view.leads) {
            self.leader_is_complete(view)?;
        }
        self.agreed_is_durable(views)?;
        for (at, one) in views.iter().enumerate() {
            for other in &views[at..] {
                for (ours, theirs) in [
                    (one.log, other.log),
                    (one.log, other.disk),
                    (one.disk, other.log),
                    (one.disk, other.disk),
                ] {
                    logs_match(ours, theirs).map_err(|id| {
                        format!("log matching: {id} of {} and {} differ", one.me, other.me)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Election safety (§5.2): at most one leader in a term.
    fn note_leader(&mut self, view: &View<'_>) -> Result<(), String> {
        if !view.leads {
            return Ok(());
        }
        let (me, term) = (view.me.id, view.term);
        match *self.leaders.entry(term).or_insert(me) {
            first if first == me => Ok(()),
            first => Err(format!("election safety: {first} and {me} led term {term}")),
        }
    }

    /// State machine safety (§5.4.3): at one index, all commit the same.
    fn note_commits(&mut self, view: &View<'_>) -> Result<(), String> {
        for (at, entry) in view.log[..view.commit].iter().enumerate() {
            match self.agreed.get(at) {
                None => self.agreed.push(Agreed {
                    entry: entry.clone(),
                    term: view.term,
                    config: view.config.clone(),
                }),
                Some(agreed) if agreed.entry == *entry => {}
                Some(agreed) => {
                    let (me, was) = (view.me, agreed.entry.id);
                    let id = entry.id;
                    return Err(format!(
                        "state machine safety: {me} committed {id}, but {was} was committed there"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Leader completeness (§5.4): what was committed in a term is in the log of every later leader.
    fn leader_is_complete(&self, view: &View<'_>) -> Result<(), String> {
        let earlier = |agreed: &&Agreed| agreed.term < view.term;
        for agreed in self.agreed.iter().filter(earlier) {
            let at = agreed.entry.id.index.0 as usize - 1;
            if view.log.get(at) != Some(&agreed.entry) {
                let (me, id) = (view.me, agreed.entry.id);
                let term = agreed.term;
                return Err(format!(
                    "leader completeness: {me} leads term {} without {id}, committed in term {term}",
                    view.term
                ));
            }
        }
        Ok(())
    }

    /// Whatever is committed survives the crash of all members at once; where some have forgotten, the
    /// others and these must still be a quorum, so that it takes one that remembers to elect anybody.
    fn agreed_is_durable(&self, views: &[View<'_>]) -> Result<(), String> {
        for agreed in &self.agreed {
            let at = agreed.entry.id.index.0 as usize - 1;
            let holders = views
                .iter()
                .filter(|v| v.forgot || v.disk.get(at) == Some(&agreed.entry));
            let holders: BTreeSet<NodeRef> = holders.map(|view| view.me).collect();
            for half in [&agreed.config.voters, &agreed.config.outgoing] {
                let count = half.intersection(&holders).count();
                if !half.is_empty() && count * 2 <= half.len() {
                    let id = agreed.entry.id;
                    return Err(format!(
                        "durability: {id} is committed and on the disks of {count} voters of {}",
                        half.len()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Log matching (§5.3): logs that hold an entry of the same index and term are equal up to it. The
/// entry where they are not.
fn logs_match(ours: &[Entry], theirs: &[Entry]) -> Result<(), kontiki_raft::LogId> {
    let pairs = || ours.iter().zip(theirs);
    let Some(common) = pairs().rposition(|(our, their)| our.id == their.id) else {
        return Ok(());
    };
    match pairs().take(common + 1).find(|(our, their)| our != their) {
        Some((our, _)) => Err(our.id),
        None => Ok(()),
    }
}
