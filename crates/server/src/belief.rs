//! Whom a member believes while authorities take the place of others: its files follow what the cluster has agreed
//! on, as far as those that it believes already vouch for it. Nobody's word but theirs adds one.

use std::path::Path;

use kontiki_transport::{Credentials, Error, Signs, authority_fingerprints, believe, disbelieve};
use kontiki_wire::{ClusterId, Handover, Rotation, RotationStage};

use crate::{
    member::MemberFile,
    own::{credentials_believing, keep_roots, roots},
};

/// What became of it.
pub(crate) struct Followed {
    /// What is shown and believed from now on, if it is something else.
    pub(crate) now: Option<Credentials>,
    /// Whether nothing is left to be done.
    pub(crate) done: bool,
}

/// Brings the member's files to what was agreed on. Who shows what an authority has signed goes on to believe that one
/// until it shows another.
pub(crate) fn follow(
    dir: &Path,
    member: &MemberFile,
    rotation: &Rotation,
) -> Result<Followed, String> {
    let before = roots(dir).map_err(|error| error.to_string())?;
    let whole = brought(&before, rotation.stage, rotation, member.cluster);
    let whole = whole.map_err(|error| error.to_string())?;
    if whole == before {
        let (now, done) = (None, true);
        return Ok(Followed { now, done });
    }
    let (after, now, done) = match credentials_believing(dir, member, &whole) {
        Ok(now) => (whole, now, true),
        Err(_) if rotation.stage == RotationStage::Finished => {
            let both = brought(&before, RotationStage::Signing, rotation, member.cluster);
            let both = both.map_err(|error| error.to_string())?;
            let now = credentials_believing(dir, member, &both);
            (both, now.map_err(|error| error.to_string())?, false)
        }
        Err(error) => return Err(error.to_string()),
    };
    if after == before {
        return Ok(Followed { now: None, done });
    }
    keep_roots(dir, &after).map_err(|error| format!("the authorities cannot be kept: {error}"))?;
    let now = Some(now);
    Ok(Followed { now, done })
}

fn brought(
    [nodes, clients]: &[String; 2],
    stage: RotationStage,
    rotation: &Rotation,
    cluster: ClusterId,
) -> Result<[String; 2], Error> {
    let to = &rotation.to;
    Ok([
        after(nodes, stage, &to.nodes, (cluster, Signs::Nodes))?,
        after(clients, stage, &to.clients, (cluster, Signs::Clients))?,
    ])
}

/// These authorities, at this stage.
fn after(
    roots: &str,
    stage: RotationStage,
    handover: &Handover,
    (cluster, signs): (ClusterId, Signs),
) -> Result<String, Error> {
    let believed = authority_fingerprints(roots)?;
    let [old, new] = [&handover.old, &handover.new].map(|one| believed.contains(one));
    match stage {
        RotationStage::Trusting | RotationStage::Signing => {
            believe(roots, handover, cluster, signs)
        }
        RotationStage::Finished if old => {
            let both = believe(roots, handover, cluster, signs)?;
            disbelieve(&both, &handover.old)
        }
        RotationStage::Abandoned if old && new => disbelieve(roots, &handover.new),
        // Somebody has put others there by hand since.
        RotationStage::Finished | RotationStage::Abandoned => Ok(roots.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use kontiki_transport::Authority;
    use kontiki_wire::Successors;

    use super::*;
    use crate::{
        birth::{MemberSpec, birth_alone},
        own::credentials,
        succession::successors,
    };

    /// The folder of a member, and the authorities that are to take the place of those of its cluster.
    fn member() -> (tempfile::TempDir, MemberFile, Successors) {
        let dir = tempfile::tempdir().unwrap();
        let spec = MemberSpec {
            name: "n1".to_owned(),
            address: "127.0.0.1:7400".to_owned(),
            peer_address: "127.0.0.1:7401".to_owned(),
        };
        let born = birth_alone(dir.path(), &spec, false).unwrap();
        let to = successors(&dir.path().join("ca"), born.cluster).unwrap();
        let file = MemberFile::load(dir.path()).unwrap();
        (dir, file, to)
    }

    fn at(stage: RotationStage, to: &Successors) -> Rotation {
        let to = to.clone();
        Rotation { stage, to }
    }

    fn trusted(dir: &Path, member: &MemberFile) -> Vec<[u8; 32]> {
        credentials(dir, member).unwrap().trusted()
    }

    #[test]
    fn files_follow_what_is_agreed_on_and_lose_nothing_that_the_own_certificate_needs() {
        let (dir, member, to) = member();
        let dir = dir.path();
        let follow = |stage| follow(dir, &member, &at(stage, &to)).unwrap();
        let both = [to.nodes.new, to.nodes.old, to.clients.new, to.clients.old];
        let followed = follow(RotationStage::Trusting);
        assert_eq!(followed.now.unwrap().trusted(), both);
        assert!(followed.done && trusted(dir, &member) == both);
        assert!(follow(RotationStage::Signing).now.is_none());
        // It shows what the old one has signed.
        let early = follow(RotationStage::Finished);
        assert!(early.now.is_none() && !early.done);
        assert_eq!(trusted(dir, &member), both);
        let given_up = follow(RotationStage::Abandoned);
        assert!(given_up.done && given_up.now.is_some());
        let old = [to.nodes.old, to.clients.old];
        assert_eq!(trusted(dir, &member), old);
        // One that was away from the beginning to the end.
        let late = follow(RotationStage::Finished);
        assert!(late.now.is_some() && !late.done);
        assert_eq!(trusted(dir, &member), both);
        let ca = dir.join("ca");
        crate::succession::follow(&ca, &at(RotationStage::Signing, &to)).unwrap();
        crate::own::renew(dir, Some(&ca)).unwrap();
        let finished = follow(RotationStage::Finished);
        let new = [to.nodes.new, to.clients.new];
        assert!(finished.done && finished.now.unwrap().trusted() == new);
        assert_eq!(trusted(dir, &member), new);
        assert!(follow(RotationStage::Finished).now.is_none());
    }

    #[test]
    fn what_was_agreed_on_adds_nobody_for_whom_the_one_that_is_believed_does_not_vouch() {
        let (dir, member, to) = member();
        let before = roots(dir.path()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let [theirs, foreign] =
            ["theirs", "foreign"].map(|name| Authority::new(name, day).unwrap());
        let forged = theirs.hand_over(&foreign, member.cluster, Signs::Nodes);
        let mut forged = forged.unwrap();
        forged.old = to.nodes.old;
        let clients = to.clients.clone();
        let forged = Successors {
            nodes: forged,
            clients,
        };
        for stage in [
            RotationStage::Trusting,
            RotationStage::Signing,
            RotationStage::Finished,
        ] {
            let refused = follow(dir.path(), &member, &at(stage, &forged))
                .err()
                .unwrap();
            assert!(refused.contains("vouched for by none"), "{refused}");
            assert_eq!(roots(dir.path()).unwrap(), before);
        }
        let certs = fs::read_dir(dir.path().join("certs")).unwrap();
        assert_eq!(certs.count(), 4, "nothing is left behind");
    }
}
