//! How commands change the list of members: who is admitted, what is to be done with it, and when its
//! number is gone for ever.

use kontiki_raft::Micros;
use kontiki_wire::{
    Admission, Member, Refusal, Role, Spent, Standing,
    limits::{ADDRESS_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX},
};

use crate::cluster::{Change, Cluster, unfit};

impl Cluster {
    /// Spends a token for a member and admits it, both or neither. Who was admitted with this disk is
    /// answered as it was.
    pub(crate) fn admit(&mut self, admission: Admission, now: Micros) -> Change {
        let Admission {
            token,
            name,
            incarnation,
            address,
            peer_address,
            versions,
        } = admission;
        // Whoever has the key that a member shows is that member, also one whose incarnation was drawn.
        if let Some(member) = self.marked(incarnation) {
            if member.name == name {
                return Change::Member(member.clone());
            }
            return unfit(format!(
                "this data directory is that of {}, a member already",
                member.name
            ));
        }
        // Who was admitted with it and is a member no more does not come back by it.
        let spent = self.token(token).and_then(|token| token.spent.as_ref());
        if let Some(by) = spent {
            return unfit(format!(
                "token {token} was spent by {}, and admits nobody else: ask for a new one",
                by.name
            ));
        }
        if self.is_taken_back(incarnation, now) {
            return unfit(
                "this is the key of a member that was removed, and nobody would hear who shows it: join with an \
                 empty folder; the token is good still"
                    .to_owned(),
            );
        }
        let can_do = versions.check(self.state.version);
        if let Err(why) = can_do.and_then(|()| self.admissible(&name, &address, &peer_address)) {
            return unfit(why);
        }
        let spent = Spent {
            name: name.clone(),
            mark: incarnation,
        };
        if let Err(refused) = self.spend(token, Role::Node, spent, now) {
            return Change::Void(refused);
        }
        let member = Member {
            id: self.state.next_member,
            incarnation,
            name,
            address,
            peer_address,
            signs: false,
            standing: Standing::Active,
            versions,
        };
        self.state.next_member += 1;
        self.state.members.push(member.clone());
        Change::Admitted(member)
    }

    /// Why nobody can be admitted under this name and these addresses, if so.
    fn admissible(&self, name: &str, address: &str, peer_address: &str) -> Result<(), String> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(format!("a member's name has 1 to {NAME_BYTES_MAX} bytes"));
        }
        for address in [address, peer_address] {
            if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
                return Err(format!(
                    "a member's address has 1 to {ADDRESS_BYTES_MAX} bytes"
                ));
            }
        }
        if self.state.members.len() >= MEMBERS_MAX {
            return Err(format!("a cluster has at most {MEMBERS_MAX} members"));
        }
        for member in &self.state.members {
            if member.name == name {
                return Err(format!(
                    "there is a member {name} already: choose another name, or remove that one first"
                ));
            }
            let known = [&member.address, &member.peer_address];
            if let Some(taken) = known
                .into_iter()
                .find(|known| *known == address || *known == peer_address)
            {
                return Err(format!(
                    "{taken} is the address of {}: give one of this member's own",
                    member.name
                ));
            }
        }
        Ok(())
    }

    /// Says what is to be done with a member.
    pub(crate) fn set_standing(&mut self, id: u64, standing: Standing) -> Change {
        let Some(at) = self.member_at(id) else {
            return Change::Void(self.no_such_member(&id.to_string()));
        };
        if !standing.votes()
            && let Err(why) = self.spares(id)
        {
            return unfit(why);
        }
        let member = &mut self.state.members[at];
        member.standing = standing;
        Change::Member(member.clone())
    }

    /// Whether there would be a member left that stays and votes without this one; if not, why it is not spared.
    pub(crate) fn spares(&self, id: u64) -> Result<(), String> {
        let mut others = self.state.members.iter().filter(|one| one.id != id);
        if others.any(|other| other.standing.votes()) {
            return Ok(());
        }
        let name = self.member(id).map_or("it", |member| &member.name);
        Err(format!(
            "{name} is the last member that stays and votes, and without it there would be no cluster: let \
             another join first, or promote one"
        ))
    }

    /// A member that leaves is a member no more, and what it was let in with is good no more.
    pub(crate) fn drop_member(&mut self, id: u64, now: Micros) -> Change {
        let Some(at) = self.member_at(id) else {
            return Change::Void(self.no_such_member(&id.to_string()));
        };
        let (name, standing) = (
            &self.state.members[at].name,
            self.state.members[at].standing,
        );
        if standing != Standing::Leaving {
            return unfit(format!(
                "{name} is {standing}, and only who leaves is dropped"
            ));
        }
        let kept = self.kept_by(id);
        if kept > 0 {
            return unfit(format!("{name} keeps {kept} topics still"));
        }
        if self.names(id) {
            return unfit(format!("the cluster's own group is made of {name} too"));
        }
        let member = self.state.members.remove(at);
        self.disown(&member, now);
        for topic in &mut self.state.topics {
            topic.parted.retain(|parted| *parted != id);
        }
        Change::Dropped(member)
    }

    fn member_at(&self, id: u64) -> Option<usize> {
        let members = &self.state.members;
        members.binary_search_by_key(&id, |member| member.id).ok()
    }

    /// With the names that there are.
    pub(crate) fn no_such_member(&self, name: &str) -> Refusal {
        let known = self.state.members.iter().map(|member| member.name.clone());
        Refusal::NoSuchMember {
            name: name.to_owned(),
            known: known.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
