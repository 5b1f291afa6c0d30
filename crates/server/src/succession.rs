//! Authorities that take the place of others: made where the keys of those lie, and used when the cluster has agreed
//! on it. No key leaves the folder.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use kontiki_transport::{Credentials, Signs};
use kontiki_wire::{ClusterId, Rotation, RotationStage, Successors};
use tracing::warn;

use crate::{
    authorities::{Authorities, drop_next},
    error::{BirthError, StartError},
};

/// Makes the authorities that are to take the place of those in a folder, beside them; or says which were made
/// before. They sign nothing yet.
pub fn successors(ca: &Path, cluster: ClusterId) -> Result<Successors, StartError> {
    Vault::open(ca)?.successors(cluster)
}

/// Has the authorities in a folder follow what the cluster has agreed on: those that it has made sign from now on,
/// or are given up. Says whether those that sign now are in it.
pub fn follow(ca: &Path, rotation: &Rotation) -> Result<bool, StartError> {
    let vault = Vault::open(ca)?;
    vault.follow(rotation)?;
    Ok(vault.signing(Some(rotation)).is_some())
}

/// Whether those that take the place of others are in a folder.
pub fn has(ca: &Path, rotation: &Rotation) -> Result<bool, StartError> {
    Ok(Vault::open(ca)?.has(rotation))
}

/// The authorities in one folder: those that sign, and those that are to.
pub(crate) struct Vault {
    folder: PathBuf,
    held: RwLock<Held>,
    /// Held by the one that writes to the disk, for as long as that takes.
    writing: Mutex<()>,
}

#[derive(Clone)]
struct Held {
    current: Arc<Authorities>,
    next: Option<Arc<Authorities>>,
}

impl Vault {
    pub(crate) fn open(folder: &Path) -> Result<Self, StartError> {
        let held = Held {
            current: Arc::new(Authorities::load(folder)?),
            next: Authorities::load_next(folder)?.map(Arc::new),
        };
        Ok(Self {
            folder: folder.to_owned(),
            held: RwLock::new(held),
            writing: Mutex::default(),
        })
    }

    /// The one that a member signs with: in the folder that its configuration names, or in its own `ca`, if
    /// there are keys in that. `None` if it signs nothing.
    pub(crate) fn of_member(
        dir: &Path,
        configured: Option<&Path>,
        credentials: &Credentials,
    ) -> Result<Option<Self>, StartError> {
        let Some(folder) = Authorities::folder(dir, configured) else {
            return Ok(None);
        };
        let vault = Self::open(&folder)?;
        let Held { current, next } = vault.held();
        let is_believed = |one: &Authorities| credentials.trusts(&one.nodes, &one.clients);
        if !is_believed(&current) {
            // Whatever its files name, those that are believed sign.
            let shown = credentials.signed_by().into_iter();
            let each = shown.chain(credentials.trusted());
            let mut found = each.filter_map(|one| Authorities::find(&folder, &one));
            let Some(current) = found.find(is_believed).map(Arc::new) else {
                // Others may have been replaced by those that are in another member's folder alone.
                warn!(
                    folder = %folder.display(),
                    "the authorities there are not among those that this member believes, and sign nothing: copy \
                     the folder of a member that signs, and restart this one"
                );
                return Ok(None);
            };
            vault.hold(Held { current, next });
        }
        Ok(Some(vault))
    }

    /// Those that sign, as far as the cluster has agreed on it; `None` if they are not here.
    pub(crate) fn signing(&self, rotation: Option<&Rotation>) -> Option<Arc<Authorities>> {
        let Held { current, next } = self.held();
        let Some(rotation) = rotation else {
            return Some(current);
        };
        let both = [Some(&current), next.as_ref()];
        let wanted = wanted(rotation);
        let are_wanted = |one: &&Arc<Authorities>| one.nodes.fingerprint() == *wanted;
        let found = both.into_iter().flatten().find(are_wanted).cloned();
        // Others may have been put there by hand since.
        let to = &rotation.to.nodes;
        let others =
            !rotation.is_under_way() && ![to.old, to.new].contains(&current.nodes.fingerprint());
        found.or_else(|| others.then_some(current))
    }

    /// Whether those that take the place of others are here.
    pub(crate) fn has(&self, rotation: &Rotation) -> bool {
        let Held { current, next } = self.held();
        let mut held = [Some(current), next].into_iter().flatten();
        held.any(|one| is_to(&one, rotation))
            || Authorities::find(&self.folder, &rotation.to.nodes.new).is_some()
    }

    /// Those that are to take the place of those that sign, which are made if there are none. It writes to the disk.
    pub(crate) fn successors(&self, cluster: ClusterId) -> Result<Successors, StartError> {
        let unmade = |what: String| StartError::Certificate {
            path: self.folder.clone(),
            what,
        };
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { current, next } = self.held();
        let next = match next {
            Some(next) => next,
            None => {
                let mark = getrandom::u32().map_err(StartError::Randomness)?;
                let next = Authorities::another(cluster, mark);
                let next = next.map_err(|error| unmade(error.to_string()))?;
                let kept = next.put_beside(&self.folder);
                kept.map_err(|error| unmade(error.to_string()))?;
                Arc::new(next)
            }
        };
        let of = |by: &kontiki_transport::Authority, to, signs| {
            let handover = by.hand_over(to, cluster, signs);
            handover.map_err(|error| unmade(error.to_string()))
        };
        let successors = Successors {
            nodes: of(&current.nodes, &next.nodes, Signs::Nodes)?,
            clients: of(&current.clients, &next.clients, Signs::Clients)?,
        };
        self.hold(Held {
            current,
            next: Some(next),
        });
        Ok(successors)
    }

    /// Has the folder follow what was agreed on. It writes to the disk.
    pub(crate) fn follow(&self, rotation: &Rotation) -> Result<(), StartError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { current, next } = self.held();
        let kept = |done: Result<(), BirthError>| {
            done.map_err(|error| StartError::Certificate {
                path: self.folder.clone(),
                what: error.to_string(),
            })
        };
        let (at, to) = (current.nodes.fingerprint(), &rotation.to.nodes);
        // A member that has just started may be behind what was agreed on: it takes no step but from the one before.
        let moves = match rotation.stage {
            RotationStage::Trusting => false,
            RotationStage::Signing | RotationStage::Finished => at == to.old,
            RotationStage::Abandoned => at == to.new,
        };
        let wanted = wanted(rotation);
        let held = next
            .clone()
            .filter(|next| next.nodes.fingerprint() == *wanted);
        let found = || Authorities::find(&self.folder, wanted).map(Arc::new);
        let current = match moves.then(|| held.or_else(found)).flatten() {
            Some(found) => {
                kept(found.promote(&self.folder))?;
                found
            }
            None => current,
        };
        // Those that sign now, or are given up, are to take nobody's place any more.
        let is_over =
            |next: &Authorities| rotation.stage != RotationStage::Trusting && is_to(next, rotation);
        let next = match next {
            Some(next) if is_over(&next) => {
                kept(drop_next(&self.folder))?;
                None
            }
            next => next,
        };
        self.hold(Held { current, next });
        Ok(())
    }

    fn hold(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn held(&self) -> Held {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }
}

/// Which authority of the members signs at this stage.
fn wanted(rotation: &Rotation) -> &[u8; 32] {
    match rotation.is_signing() {
        true => &rotation.to.nodes.new,
        false => &rotation.to.nodes.old,
    }
}

/// Whether these are those that take the place of others.
fn is_to(authorities: &Authorities, rotation: &Rotation) -> bool {
    authorities.nodes.fingerprint() == rotation.to.nodes.new
        && authorities.clients.fingerprint() == rotation.to.clients.new
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use kontiki_transport::{Identity, Role};

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    /// A folder with the authorities of a new cluster.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        Authorities::new(CLUSTER).unwrap().write(&ca).unwrap();
        (dir, ca)
    }

    fn at(stage: RotationStage, to: &Successors) -> Rotation {
        let to = to.clone();
        Rotation { stage, to }
    }

    fn signs(vault: &Vault, rotation: Option<&Rotation>) -> Option<[u8; 32]> {
        let signing = vault.signing(rotation)?;
        Some(signing.nodes.fingerprint())
    }

    #[test]
    fn those_that_are_made_sign_when_it_is_agreed_on_and_after_every_start() {
        let (_dir, ca) = folder();
        let vault = Vault::open(&ca).unwrap();
        let to = vault.successors(CLUSTER).unwrap();
        assert_eq!(vault.successors(CLUSTER).unwrap().nodes.new, to.nodes.new);
        let (old, new) = (Some(to.nodes.old), Some(to.nodes.new));
        let trusting = at(RotationStage::Trusting, &to);
        vault.follow(&trusting).unwrap();
        assert_eq!(signs(&vault, Some(&trusting)), old);
        assert_eq!(
            Authorities::load(&ca).unwrap().nodes.fingerprint(),
            to.nodes.old
        );
        let signing = at(RotationStage::Signing, &to);
        // Agreed on, and not followed yet.
        assert_eq!(signs(&vault, Some(&signing)), new);
        assert_eq!(signs(&Vault::open(&ca).unwrap(), Some(&signing)), new);
        for _ in 0..2 {
            vault.follow(&signing).unwrap();
            assert_eq!(signs(&vault, Some(&signing)), new);
            let again = Vault::open(&ca).unwrap();
            assert_eq!(signs(&again, None), new);
            assert_eq!(
                Authorities::load(&ca).unwrap().nodes.fingerprint(),
                to.nodes.new
            );
        }
        // The next ones are vouched for by these.
        let next = vault.successors(CLUSTER).unwrap();
        assert_eq!(next.nodes.old, to.nodes.new);
        assert_ne!(next.nodes.new, to.nodes.new);
    }

    #[test]
    fn those_that_sign_are_found_whatever_the_files_name_and_given_up_again() {
        let (_dir, ca) = folder();
        let to = successors(&ca, CLUSTER).unwrap();
        // Somebody else has made others in the same folder since.
        fs::remove_file(ca.join("next")).unwrap();
        let others = successors(&ca, CLUSTER).unwrap();
        assert_ne!(others.nodes.new, to.nodes.new);
        let signing = at(RotationStage::Signing, &to);
        assert!(has(&ca, &signing).unwrap());
        assert!(follow(&ca, &signing).unwrap());
        let vault = Vault::open(&ca).unwrap();
        assert_eq!(signs(&vault, Some(&signing)), Some(to.nodes.new));
        let abandoned = at(RotationStage::Abandoned, &to);
        assert_eq!(signs(&vault, Some(&abandoned)), None, "not followed yet");
        vault.follow(&abandoned).unwrap();
        assert_eq!(signs(&vault, Some(&abandoned)), Some(to.nodes.old));
        assert_eq!(signs(&Vault::open(&ca).unwrap(), None), Some(to.nodes.old));
        // Keys that are gone are not found.
        let name: String = to
            .nodes
            .new
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::remove_dir_all(ca.join(name)).unwrap();
        assert!(!has(&ca, &signing).unwrap());
        assert!(!follow(&ca, &signing).unwrap());
    }

    #[test]
    fn who_has_just_started_goes_back_to_none_that_were_replaced() {
        let (dir, ca) = folder();
        let first = successors(&ca, CLUSTER).unwrap();
        follow(&ca, &at(RotationStage::Signing, &first)).unwrap();
        let second = successors(&ca, CLUSTER).unwrap();
        follow(&ca, &at(RotationStage::Finished, &second)).unwrap();
        let vault = Vault::open(&ca).unwrap();
        for (stage, to) in [
            (RotationStage::Trusting, &second),
            (RotationStage::Signing, &first),
            (RotationStage::Finished, &first),
            (RotationStage::Abandoned, &first),
        ] {
            vault.follow(&at(stage, to)).unwrap();
            for vault in [&vault, &Vault::open(&ca).unwrap()] {
                assert_eq!(signs(vault, None), Some(second.nodes.new), "{stage:?}");
            }
        }
        // Nor for good, if the file that names them is lost.
        fs::remove_file(ca.join("current")).unwrap();
        let authorities = Authorities::find(&ca, &second.nodes.new).unwrap();
        let name = Identity::new(CLUSTER, Role::Node, "n1").unwrap();
        let day = Duration::from_secs(24 * 3600);
        let issued = authorities.nodes.issue(&name, day).unwrap();
        let credentials = Credentials::from_pem(
            &issued.certificate_pem,
            &issued.key_pem,
            authorities.nodes.certificate_pem(),
            authorities.clients.certificate_pem(),
        );
        let vault = Vault::of_member(dir.path(), None, &credentials.unwrap());
        let vault = vault.unwrap().unwrap();
        assert_eq!(signs(&vault, None), Some(second.nodes.new));
    }

    #[test]
    fn who_has_only_the_old_ones_signs_no_more() {
        let (_dir, ca) = folder();
        let (_elsewhere, copy) = folder();
        for file in [
            "node-ca.pem",
            "node-ca.key",
            "client-ca.pem",
            "client-ca.key",
        ] {
            fs::copy(ca.join(file), copy.join(file)).unwrap();
        }
        let to = successors(&ca, CLUSTER).unwrap();
        let other = Vault::open(&copy).unwrap();
        assert!(signs(&other, Some(&at(RotationStage::Trusting, &to))).is_some());
        for stage in [RotationStage::Signing, RotationStage::Finished] {
            assert_eq!(signs(&other, Some(&at(stage, &to))), None);
            assert!(!follow(&copy, &at(stage, &to)).unwrap());
            assert!(follow(&ca, &at(stage, &to)).unwrap());
        }
    }

    #[test]
    fn those_that_were_given_up_are_not_offered_again() {
        let (_dir, ca) = folder();
        let to = successors(&ca, CLUSTER).unwrap();
        follow(&ca, &at(RotationStage::Abandoned, &to)).unwrap();
        let others = successors(&ca, CLUSTER).unwrap();
        assert_eq!(others.nodes.old, to.nodes.old);
        assert_ne!(others.nodes.new, to.nodes.new);
        // What is not this folder's is left alone.
        follow(&ca, &at(RotationStage::Abandoned, &to)).unwrap();
        assert_eq!(
            successors(&ca, CLUSTER).unwrap().nodes.new,
            others.nodes.new
        );
    }

    #[test]
    fn a_file_that_names_no_folder_is_named() {
        let (_dir, ca) = folder();
        for wrong in ["", "../x", "0123"] {
            fs::write(ca.join("current"), wrong).unwrap();
            let refused = Vault::open(&ca).err().unwrap().to_string();
            assert!(refused.contains("current: it names no folder"), "{refused}");
        }
    }
}
