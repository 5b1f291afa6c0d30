//! How far an exploration goes.

use std::fmt;

use kontiki_raft::Planted;

/// What may happen at most. Within these, everything happens in every order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The highest term.
    pub(crate) terms: u64,
    /// How many of the three take part; messages to the others are lost.
    pub(crate) members: u8,
    /// How many of them ever campaign.
    pub(crate) candidates: u8,
    /// Campaigns in all.
    pub(crate) campaigns: u8,
    /// Proposals in all.
    pub(crate) proposals: u8,
    /// Crashes in all.
    pub(crate) crashes: u8,
    /// Who votes when it begins.
    pub(crate) voters: &'static [u64],
    /// Who is to vote instead, if a leader is asked for that; it may be asked once.
    pub(crate) target: &'static [u64],
    /// Which of them, at some time, may lose its disk; 0 if none.
    pub(crate) forgets: u8,
    /// Conversations begun anew, as after a link came back, in all.
    pub(crate) renewals: u8,
    /// Whether a leader may find at any time that no quorum answers.
    pub(crate) quorum_losses: bool,
    /// Bytes in one append, of which an empty entry has 64.
    pub(crate) append_bytes_max: u64,
    /// Whether it begins with 1 elected, by 2, and with what it said to 3 still under way.
    pub(crate) elected: bool,
    /// The terms of the logs that the members begin with.
    pub(crate) logs: [&'static [u64]; 3],
    /// Whether states that another covers are passed over.
    pub(crate) thrifty: bool,
    /// States, after which it gives up.
    pub(crate) states: usize,
    /// The safeguard taken away, if one is.
    pub(crate) planted: Option<Planted>,
}

impl Bounds {
    /// Reads `terms=2 crashes=1 ...`; what is not named stays.
    pub(crate) fn with(mut self, text: &str) -> Result<Self, String> {
        for word in text.split_whitespace() {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} has no ="))?;
            let value: usize = value
                .parse()
                .map_err(|_| format!("{word:?} has no number"))?;
            match name {
                "terms" => self.terms = value as u64,
                "members" => self.members = value as u8,
                "candidates" => self.candidates = value as u8,
                "campaigns" => self.campaigns = value as u8,
                "proposals" => self.proposals = value as u8,
                "crashes" => self.crashes = value as u8,
                "forgets" => self.forgets = value as u8,
                "renewals" => self.renewals = value as u8,
                "quorum_losses" => self.quorum_losses = value > 0,
                "append_bytes_max" => self.append_bytes_max = value as u64,
                "states" => self.states = value,
                _ => return Err(format!("{name:?} is not a bound")),
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            terms,
            members,
            candidates,
            campaigns,
            proposals,
            crashes,
            voters,
            target,
            forgets,
            renewals,
            quorum_losses,
            append_bytes_max,
            elected,
            logs,
            thrifty,
            states: _,
            planted,
        } = self;
        let quorum_losses = u8::from(*quorum_losses);
        write!(
            f,
            "terms={terms} members={members} candidates={candidates} campaigns={campaigns} proposals={proposals} \
             crashes={crashes} forgets={forgets} renewals={renewals} quorum_losses={quorum_losses} \
             append_bytes_max={append_bytes_max} from {logs:?}"
        )?;
        if !target.is_empty() {
            write!(f, ", from {voters:?} to {target:?}")?;
        }
        if *elected {
            f.write_str(", 1 elected")?;
        }
        if !thrifty {
            f.write_str(", plain")?;
        }
        match planted {
            Some(planted) => write!(f, ", with {planted:?}"),
            None => Ok(()),
        }
    }
}
