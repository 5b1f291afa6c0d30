//! What the cluster has agreed on about certificates, as this member has applied it, ready to be looked up.

use std::sync::Arc;

use kontiki_transport::Revoked;
use kontiki_wire::Trust;

/// It.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) trust: Trust,
    pub(crate) revoked: Arc<Revoked>,
}

impl Agreed {
    pub(crate) fn new(trust: Trust) -> Self {
        let revoked = Arc::new(Revoked::new(&trust.revoked));
        Self { trust, revoked }
    }

    /// What follows it. Members say what they show far more often than anything is revoked, and thousands of
    /// connections are held against what was: the same list stays the same one.
    pub(crate) fn followed_by(&self, trust: Trust) -> Self {
        match trust.revoked == self.trust.revoked {
            true => Self {
                revoked: Arc::clone(&self.revoked),
                trust,
            },
            false => Self::new(trust),
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_wire::{Papers, Revocation, Whom};

    use super::*;

    #[test]
    fn what_was_revoked_is_the_same_list_until_it_is_another() {
        let revocation = Revocation {
            whom: Whom::Key(1),
            at: 1,
            until: 2,
        };
        let before = Agreed::new(Trust {
            revoked: vec![revocation],
            ..Trust::default()
        });
        let mut trust = before.trust.clone();
        trust.papers.push(Papers::default());
        let shown = before.followed_by(trust.clone());
        assert_eq!(shown.trust, trust);
        assert!(Arc::ptr_eq(&shown.revoked, &before.revoked));
        trust.revoked.clear();
        let fewer = shown.followed_by(trust);
        assert_eq!(*fewer.revoked, Revoked::default());
    }
}
