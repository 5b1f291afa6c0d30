//! How commands change what is agreed on about certificates: which are good no more, and what members show.

use std::collections::BTreeSet;

use kontiki_raft::Micros;
use kontiki_wire::{
    Member, Papers, Refusal, Revocation, Role, Whom,
    limits::{CERTIFICATE_SECONDS_MAX, MEMBERS_MAX, REVOKED_MAX, REVOKED_SECONDS},
};

use crate::cluster::{Change, Cluster, unfit};

impl Cluster {
    /// Takes certificates back from now on; those of a name that are made later are good.
    pub(crate) fn revoke(&mut self, whom: Whom, now: Micros) -> Change {
        if let Err(why) = self.revocable(&whom) {
            return unfit(why);
        }
        self.forget_revoked(now);
        let known = self.state.trust.revoked.iter();
        let others = known.filter(|one| one.whom != whom && !is_key(one)).count();
        if others >= SAID_MAX {
            return Change::Void(Refusal::TooLarge {
                what: "revocations that hold".to_owned(),
                limit: SAID_MAX as u64,
            });
        }
        self.take_back(whom, now, REVOKED_SECONDS);
        Change::Trusted
    }

    /// Why certificates cannot be taken back in this way, if so.
    fn revocable(&self, whom: &Whom) -> Result<(), String> {
        let advice =
            "remove the member instead (`kontiki member remove`), which takes its certificate back";
        match whom {
            _ if whom.check().is_err() => Err("that is no certificate's".to_owned()),
            Whom::Key(_) => Err(format!("keys are taken back with their members: {advice}")),
            Whom::Name {
                role: Some(Role::Node),
                name,
            } if self.member_named(name).is_some() => Err(format!(
                "{name} is a member, and would be cut off: {advice}"
            )),
            Whom::Serial(serial) => {
                let mut papers = self.state.trust.papers.iter();
                match papers.find(|one| one.serial == *serial) {
                    Some(one) => Err(format!(
                        "{serial} is what the member {} shows: {advice}, or have it renew it first",
                        self.name(kontiki_raft::NodeId(one.member))
                    )),
                    None => Ok(()),
                }
            }
            Whom::Name { .. } => Ok(()),
        }
    }

    /// Who is a member no more, and is not on the list, is let in nowhere with the key that it was admitted with
    /// or has shown. What another member has is that one's, whatever this one has said.
    pub(crate) fn disown(&mut self, member: &Member, now: Micros) {
        self.forget_revoked(now);
        let papers = self.state.trust.papers_of(member.id).cloned();
        self.state
            .trust
            .papers
            .retain(|one| one.member != member.id);
        let ends = papers.as_ref().map_or(0, |papers| papers.not_after);
        let left = ends.saturating_sub(now.0 / 1_000_000);
        let seconds = left.max(CERTIFICATE_SECONDS_MAX);
        let shown = papers.map(|papers| papers.mark);
        let marks = shown.into_iter().chain([member.incarnation]);
        for mark in marks.collect::<BTreeSet<_>>() {
            if self.marked(mark).is_none() {
                self.take_back(Whom::Key(mark), now, seconds);
            }
        }
    }

    /// The member that was admitted with a key of this mark or shows one.
    pub(crate) fn marked(&self, mark: u64) -> Option<&Member> {
        let shows = |one: &Member| {
            let papers = self.state.trust.papers_of(one.id);
            papers.is_some_and(|papers| papers.mark == mark)
        };
        let mut members = self.state.members.iter();
        members.find(|one| one.incarnation == mark || shows(one))
    }

    /// Whether a key of this mark went with its member.
    pub(crate) fn is_taken_back(&self, mark: u64, now: Micros) -> bool {
        let mut revoked = self.state.trust.revoked.iter();
        revoked.any(|one| one.whom == Whom::Key(mark) && one.until > now.0)
    }

    fn take_back(&mut self, whom: Whom, now: Micros, seconds: u64) {
        let revoked = &mut self.state.trust.revoked;
        revoked.retain(|one| one.whom != whom);
        revoked.push(Revocation {
            whom,
            at: now.0,
            until: now.0.saturating_add(seconds.saturating_mul(1_000_000)),
        });
        // A member that goes waits for nobody: of the keys of those who went before, whose numbers are known to
        // be gone, the one whose certificate ends next gives way. What an operator has said never does.
        while revoked.len() > REVOKED_MAX {
            let keys = revoked.iter().enumerate().filter(|(_, one)| is_key(one));
            let next = keys.min_by_key(|(_, one)| one.until);
            revoked.remove(next.expect("all others together are fewer").0);
        }
    }

    /// Forgets what has expired anyway.
    fn forget_revoked(&mut self, now: Micros) {
        self.state.trust.revoked.retain(|one| one.until > now.0);
    }

    /// A member says what it shows.
    pub(crate) fn certify(&mut self, papers: Papers) -> Change {
        if self.member(papers.member).is_none() {
            return Change::Void(self.no_such_member(&papers.member.to_string()));
        }
        if papers.check().is_err() {
            return unfit("that is not what a certificate says".to_owned());
        }
        if let Some(other) = self.marked(papers.mark)
            && other.id != papers.member
        {
            return unfit(format!("that key is the one of {}", other.name));
        }
        let all = &mut self.state.trust.papers;
        match all.binary_search_by_key(&papers.member, |one| one.member) {
            Ok(at) => all[at] = papers,
            Err(at) => all.insert(at, papers),
        }
        Change::Trusted
    }
}

fn is_key(revocation: &Revocation) -> bool {
    matches!(revocation.whom, Whom::Key(_))
}

/// How many revocations operators may say: room is left for what as many members as there can be have shown, and
/// were admitted with.
const SAID_MAX: usize = REVOKED_MAX - 2 * MEMBERS_MAX;

#[cfg(test)]
mod tests;
