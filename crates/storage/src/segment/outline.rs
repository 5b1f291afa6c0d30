//! What a start needs to know of the entries of a segment without reading them.

use kontiki_raft::{Index, Kind, LogId, Term};

/// Where what matters is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outline {
    /// Where each term begins.
    pub(crate) terms: Vec<(Index, Term)>,
    /// Every configuration, and the byte where its frame begins.
    pub(crate) configs: Vec<(Index, u64)>,
}

impl Outline {
    /// Takes in what an entry adds, whose frame begins at `position`.
    pub(crate) fn push(&mut self, id: LogId, kind: Kind, position: u64) {
        if self.terms.last().is_none_or(|&(_, term)| term != id.term) {
            self.terms.push((id.index, id.term));
        }
        if kind == Kind::Config {
            self.configs.push((id.index, position));
        }
    }
}
