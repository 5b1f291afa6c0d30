//! How authorities are replaced while the cluster serves, one stage after the other: nobody is to meet a certificate
//! whose signer it does not believe.

use kontiki_raft::NodeId;
use kontiki_wire::{
    Handover, Papers, Rotate, Rotation,
    RotationStage::{self, Abandoned, Finished, Signing, Trusting},
    Successors,
};

use crate::cluster::{Change, Cluster, unfit};

impl Cluster {
    /// Goes on with it, or says why not now. Asked twice it is done once.
    pub(crate) fn rotate(&mut self, rotate: Rotate) -> Change {
        let done = match rotate {
            Rotate::Begin(successors) => self.begin_rotation(*successors),
            Rotate::Sign => self.sign_anew(),
            Rotate::Finish { force } => self.finish_rotation(force),
            Rotate::Abandon => self.abandon_rotation(),
        };
        match done {
            Ok(()) => Change::Trusted,
            Err(why) => unfit(why),
        }
    }

    fn begin_rotation(&mut self, to: Successors) -> Result<(), String> {
        let malformed = |malformed: kontiki_wire::Malformed| malformed.to_string();
        to.check().map_err(malformed)?;
        if let Some(before) = &self.state.trust.rotation {
            let names = |to: &Successors| {
                [&to.nodes, &to.clients].map(|handover| (handover.old, handover.new))
            };
            // Their word is another each time that it is signed.
            if before.stage == Trusting && names(&before.to) == names(&to) {
                return Ok(());
            }
            if before.is_under_way() {
                return Err(UNDER_WAY.to_owned());
            }
            // Who believes an authority that was taken away, or given up, would go on to after the next one.
            let gone = |of: &Handover| match before.stage {
                Finished => of.old,
                Trusting | Signing | Abandoned => of.new,
            };
            let (nodes, clients) = (gone(&before.to.nodes), gone(&before.to.clients));
            let believe = |papers: &Papers| {
                papers.trusts.contains(&nodes) || papers.trusts.contains(&clients)
            };
            let late = self.of_whom(|papers| papers.is_some_and(believe));
            if !late.is_empty() {
                return Err(format!(
                    "{} still believe the authorities that were taken away the last time: wait until they have \
                     heard of it, or remove those that do not come back",
                    late.join(", ")
                ));
            }
        }
        let stage = Trusting;
        self.state.trust.rotation = Some(Rotation { stage, to });
        Ok(())
    }

    fn sign_anew(&mut self) -> Result<(), String> {
        let rotation = self.rotation()?;
        match rotation.stage {
            Trusting => {}
            Signing => return Ok(()),
            Finished | Abandoned => return Err(NONE.to_owned()),
        }
        let (nodes, clients) = (rotation.to.nodes.new, rotation.to.clients.new);
        let believe =
            |papers: &Papers| papers.trusts.contains(&nodes) && papers.trusts.contains(&clients);
        let waits = self.of_whom(|papers| !papers.is_some_and(believe));
        match waits.is_empty() {
            true => self.enter(Signing),
            false => Err(format!(
                "{} have not said yet that they believe the new authorities: wait for them, or remove those that \
                 do not come back",
                waits.join(", ")
            )),
        }
    }

    fn finish_rotation(&mut self, force: bool) -> Result<(), String> {
        let rotation = self.rotation()?;
        match rotation.stage {
            Signing => {}
            Finished => return Ok(()),
            Trusting => {
                return Err("the new authorities have signed nothing yet: \
                            `kontiki cert rotate-ca sign` is next"
                    .to_owned());
            }
            Abandoned => return Err(NONE.to_owned()),
        }
        let by = rotation.to.nodes.new;
        let waits = self.of_whom(|papers| papers.is_none_or(|papers| papers.signed_by != by));
        match waits.is_empty() || force {
            true => self.enter(Finished),
            false => Err(format!(
                "{} show no certificate of the new authority yet: wait until they have renewed, or remove those \
                 that do not come back; `--force` shuts them out, until each is given another certificate \
                 (`kontiki cert renew --data DIR --ca DIR`) and the new authorities by hand",
                waits.join(", ")
            )),
        }
    }

    /// Those clients that were given a certificate of the new ones have the old ones' word behind it.
    fn abandon_rotation(&mut self) -> Result<(), String> {
        let rotation = self.rotation()?;
        let by = rotation.to.nodes.new;
        match rotation.stage {
            Trusting => self.enter(Abandoned),
            Abandoned => Ok(()),
            Signing => {
                let shown = self.of_whom(|papers| papers.is_some_and(|one| one.signed_by == by));
                match shown.is_empty() {
                    true => self.enter(Abandoned),
                    false => Err(format!(
                        "{} show what the new authorities have signed already: finish it, and begin again if they \
                         are not to be believed",
                        shown.join(", ")
                    )),
                }
            }
            Finished => Err(NONE.to_owned()),
        }
    }

    fn rotation(&self) -> Result<&Rotation, String> {
        let rotation = self.state.trust.rotation.as_ref();
        rotation.ok_or_else(|| NONE.to_owned())
    }

    fn enter(&mut self, stage: RotationStage) -> Result<(), String> {
        let rotation = self.state.trust.rotation.as_mut();
        rotation.ok_or_else(|| NONE.to_owned())?.stage = stage;
        Ok(())
    }

    /// The names of the members of whose papers this holds.
    fn of_whom(&self, holds: impl Fn(Option<&Papers>) -> bool) -> Vec<String> {
        let members = self.state.members.iter();
        let some = members.filter(|member| holds(self.state.trust.papers_of(member.id)));
        some.map(|member| self.name(NodeId(member.id))).collect()
    }
}

const NONE: &str = "no authorities are being replaced: `kontiki cert rotate-ca begin` begins";
const UNDER_WAY: &str = "authorities are being replaced already: finish that, or give it up \
                         (`kontiki cert rotate-ca status` says how far it is)";

#[cfg(test)]
mod tests {
    use kontiki_wire::{ClusterState, Member};

    use super::*;

    fn cluster() -> Cluster {
        let member = |id| Member {
            id,
            incarnation: id * 100,
            name: format!("n{id}"),
            ..Member::default()
        };
        let birth = ClusterState {
            members: (1..=3).map(member).collect(),
            ..ClusterState::default()
        };
        Cluster::restore(birth, None).unwrap()
    }

    fn successors(old: u8) -> Successors {
        let handover = |old| Handover {
            old: [old; 32],
            new: [old + 2; 32],
            authority: vec![1],
            voucher: vec![2],
        };
        Successors {
            nodes: handover(old),
            clients: handover(old + 1),
        }
    }

    /// A member believes these and shows what this one has signed.
    fn shows(cluster: &mut Cluster, member: u64, signed_by: u8, trusts: &[u8]) {
        let papers = Papers {
            member,
            serial: "ab".to_owned(),
            mark: member * 1000,
            signed_by: [signed_by; 32],
            trusts: trusts.iter().map(|one| [*one; 32]).collect(),
            ..Papers::default()
        };
        assert_eq!(cluster.certify(papers), Change::Trusted);
    }

    fn done(cluster: &mut Cluster, rotate: Rotate, stage: RotationStage) {
        assert_eq!(cluster.rotate(rotate), Change::Trusted);
        assert_eq!(cluster.rotation().unwrap().stage, stage);
    }

    fn refused(cluster: &mut Cluster, rotate: Rotate, told: &str) {
        let before = cluster.state().clone();
        match cluster.rotate(rotate) {
            Change::Void(refusal) => {
                assert!(refusal.to_string().contains(told), "{told}: {refusal}");
            }
            other => panic!("{told}: {other:?}"),
        }
        assert_eq!(*cluster.state(), before, "{told}");
    }

    fn begin(old: u8) -> Rotate {
        Rotate::Begin(Box::new(successors(old)))
    }

    const FINISH: Rotate = Rotate::Finish { force: false };

    #[test]
    fn nothing_is_signed_anew_before_all_members_believe_it_and_nothing_taken_away_before_all_show_it()
     {
        let mut cluster = cluster();
        refused(&mut cluster, Rotate::Sign, "rotate-ca begin");
        refused(&mut cluster, FINISH, "rotate-ca begin");
        done(&mut cluster, begin(1), Trusting);
        assert_eq!(cluster.state().trust.turnover(), None);
        shows(&mut cluster, 1, 1, &[3, 1, 4, 2]);
        // The one's authority is not enough.
        shows(&mut cluster, 2, 1, &[3, 1, 2]);
        refused(&mut cluster, Rotate::Sign, "n2, n3 have not said");
        refused(&mut cluster, FINISH, "rotate-ca sign");
        for id in [2, 3] {
            shows(&mut cluster, id, 1, &[3, 1, 4, 2]);
        }
        done(&mut cluster, Rotate::Sign, Signing);
        let turnover = cluster.state().trust.turnover().unwrap();
        assert_eq!((turnover.new, turnover.finished), ([3; 32], false));
        shows(&mut cluster, 1, 3, &[3, 1, 4, 2]);
        refused(&mut cluster, FINISH, "n2, n3 show no certificate");
        for id in [2, 3] {
            shows(&mut cluster, id, 3, &[3, 1, 4, 2]);
        }
        done(&mut cluster, FINISH, Finished);
        assert!(cluster.state().trust.turnover().unwrap().finished);
    }

    #[test]
    fn what_is_asked_twice_is_done_once_and_nothing_is_done_out_of_its_turn() {
        let mut cluster = cluster();
        done(&mut cluster, begin(1), Trusting);
        let mut again = successors(1);
        again.nodes.voucher = vec![3];
        done(&mut cluster, Rotate::Begin(Box::new(again)), Trusting);
        refused(&mut cluster, begin(5), "being replaced already");
        for id in 1..=3 {
            shows(&mut cluster, id, 1, &[3, 1, 4, 2]);
        }
        done(&mut cluster, Rotate::Sign, Signing);
        done(&mut cluster, Rotate::Sign, Signing);
        refused(&mut cluster, begin(1), "being replaced already");
        // As long as they have signed nothing that a member shows, their keys may be lost.
        let before = cluster.state().clone();
        done(&mut cluster, Rotate::Abandon, Abandoned);
        cluster.become_of(before).unwrap();
        shows(&mut cluster, 2, 3, &[3, 1, 4, 2]);
        refused(&mut cluster, Rotate::Abandon, "n2 show what the new");
        // The one who is left behind is known.
        done(&mut cluster, Rotate::Finish { force: true }, Finished);
        done(&mut cluster, FINISH, Finished);
        refused(&mut cluster, Rotate::Sign, "rotate-ca begin");
        refused(&mut cluster, Rotate::Abandon, "rotate-ca begin");
    }

    #[test]
    fn what_was_taken_away_or_given_up_is_believed_by_nobody_before_others_are_replaced() {
        let mut cluster = cluster();
        done(&mut cluster, begin(1), Trusting);
        shows(&mut cluster, 1, 1, &[3, 1, 4, 2]);
        done(&mut cluster, Rotate::Abandon, Abandoned);
        done(&mut cluster, Rotate::Abandon, Abandoned);
        refused(&mut cluster, Rotate::Sign, "rotate-ca begin");
        refused(&mut cluster, begin(1), "n1 still believe");
        shows(&mut cluster, 1, 1, &[1, 2]);
        done(&mut cluster, begin(1), Trusting);
        for id in 1..=3 {
            shows(&mut cluster, id, 3, &[3, 1, 4, 2]);
        }
        done(&mut cluster, Rotate::Sign, Signing);
        done(&mut cluster, FINISH, Finished);
        refused(&mut cluster, begin(3), "n1, n2, n3 still believe");
        for id in 1..=3 {
            shows(&mut cluster, id, 3, &[3, 4]);
        }
        done(&mut cluster, begin(3), Trusting);
    }

    #[test]
    fn what_no_authority_is_is_not_begun_with() {
        let mut cluster = cluster();
        let mut same = successors(1);
        same.clients.new = same.clients.old;
        refused(&mut cluster, Rotate::Begin(Box::new(same)), "its own place");
    }
}
