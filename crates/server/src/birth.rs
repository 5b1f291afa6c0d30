//! A cluster's birth: its id, its two authorities, and one directory for each member and the operator.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use kontiki_transport::{Credentials, Identity, Issued, JoinKey, Role};
use kontiki_wire::{
    ClusterId, MemberInfo, Welcome,
    limits::{ADDRESS_BYTES_MAX, MEMBERS_MAX},
};

use crate::{
    authorities::{self, Authorities},
    error::BirthError,
    limits::LEAF_VALID,
    member::{Joined, MEMBER_FILE, MemberFile, sync, write_durably},
    papers::{PRIVATE, PUBLIC, failed, make_dir, write, write_issued},
};

/// A member to be born.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSpec {
    /// Its name, unique: what an [`Identity`] may be named.
    pub name: String,
    /// Where clients reach it, `host:port`.
    pub address: String,
    /// Where peers reach it, `host:port`.
    pub peer_address: String,
}

/// A cluster that was born.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members.
    pub members: Vec<MemberInfo>,
    /// Each member's directory, in the order of `members`.
    pub member_dirs: Vec<PathBuf>,
    /// The operator's: `operator.pem`, `operator.key`, and `node-ca.pem`, the roots to trust.
    pub operator_dir: PathBuf,
}

/// Makes a cluster in `dir`: `ca/`, a directory for each member under its name, and `operator/`.
/// Refuses if any of them exists, before anything is written.
pub fn birth_cluster(
    dir: &Path,
    members: &[MemberSpec],
    auto_create: bool,
) -> Result<Birth, BirthError> {
    check(members)?;
    let ca_dir = dir.join("ca");
    let operator_dir = dir.join("operator");
    let member_dirs: Vec<_> = members
        .iter()
        .map(|member| dir.join(&member.name))
        .collect();
    refuse_existing(member_dirs.iter().chain([&ca_dir, &operator_dir]))?;

    let cluster = ClusterId(u128::from_le_bytes(random()?));
    let authorities = Authorities::new(cluster)?;
    let mut infos = Vec::new();
    for (member, id) in members.iter().zip(1..) {
        infos.push(MemberInfo {
            id,
            incarnation: u64::from_le_bytes(random()?),
            name: member.name.clone(),
            address: member.address.clone(),
            peer_address: member.peer_address.clone(),
            ..MemberInfo::default()
        });
    }
    authorities.write(&ca_dir)?;
    for (member, member_dir) in infos.iter().zip(&member_dirs) {
        let file = MemberFile::born(cluster, &member.name, infos.clone(), auto_create);
        authorities.write_member(member_dir, &file)?;
    }
    authorities.write_operator(&operator_dir, cluster)?;
    // There is one copy of these keys: it outlasts a power cut.
    let certs = member_dirs.iter().map(|dir| dir.join("certs"));
    for path in certs.chain([ca_dir, operator_dir.clone(), dir.to_owned()]) {
        sync(&path).map_err(|source| failed(&path, source))?;
    }
    Ok(Birth {
        cluster,
        members: infos,
        member_dirs,
        operator_dir,
    })
}

impl Authorities {
    fn write_member(&self, dir: &Path, file: &MemberFile) -> Result<(), BirthError> {
        make_dir(dir)?;
        self.write_certs_of(&dir.join("certs"), file)?;
        file.save(dir).map_err(|source| failed(dir, source))
    }

    fn write_certs_of(&self, certs: &Path, file: &MemberFile) -> Result<(), BirthError> {
        let identity = identity(file.cluster, Role::Node, &file.name);
        let issued = self.nodes.issue(&identity, LEAF_VALID)?;
        let roots = (self.nodes.certificate_pem(), self.clients.certificate_pem());
        write_certs(certs, &issued, roots)
    }

    fn write_operator(&self, dir: &Path, cluster: ClusterId) -> Result<(), BirthError> {
        let operator = identity(cluster, Role::Operator, "operator");
        let issued = self.clients.issue(&operator, LEAF_VALID)?;
        make_dir(dir)?;
        write_issued(dir, "operator", &issued)?;
        write(
            &dir.join("node-ca.pem"),
            self.nodes.certificate_pem(),
            PUBLIC,
        )
    }
}

/// Makes a cluster of one in `dir`, which is the member's own: with the authorities in `ca/`, so that it can
/// let others join, and the operator's in `operator/`. Refuses if `dir` holds any of it already.
pub fn birth_alone(
    dir: &Path,
    member: &MemberSpec,
    auto_create: bool,
) -> Result<Birth, BirthError> {
    check(std::slice::from_ref(member))?;
    let (ca, operator_dir) = (dir.join(authorities::FOLDER), dir.join("operator"));
    refuse_existing([
        &ca,
        &operator_dir,
        &dir.join("certs"),
        &dir.join(MEMBER_FILE),
    ])?;
    let cluster = ClusterId(u128::from_le_bytes(random()?));
    let authorities = Authorities::new(cluster)?;
    let info = MemberInfo {
        id: 1,
        incarnation: u64::from_le_bytes(random()?),
        name: member.name.clone(),
        address: member.address.clone(),
        peer_address: member.peer_address.clone(),
        signs: true,
        ..MemberInfo::default()
    };
    let file = MemberFile::born(cluster, &member.name, vec![info.clone()], auto_create);
    if !dir.is_dir() {
        make_dir(dir)?;
    }
    authorities.write(&ca)?;
    authorities.write_operator(&operator_dir, cluster)?;
    authorities.write_certs_of(&dir.join("certs"), &file)?;
    // The last: a folder with it is a whole member's.
    file.save(dir).map_err(|source| failed(dir, source))?;
    for path in [&ca, &operator_dir, &dir.join("certs"), dir] {
        sync(path).map_err(|source| failed(path, source))?;
    }
    Ok(Birth {
        cluster,
        members: vec![info],
        member_dirs: vec![dir.to_owned()],
        operator_dir,
    })
}

/// The key with which a member in `dir` asks to be let in: the one that it asked with before, if it was
/// interrupted, or a new one. Refuses a folder that is a member's already.
pub fn key_to_join(dir: &Path) -> Result<JoinKey, BirthError> {
    refuse_existing([&dir.join(MEMBER_FILE)])?;
    let certs = dir.join("certs");
    let path = certs.join("node.key");
    match fs::read_to_string(&path) {
        Ok(pem) => {
            return JoinKey::from_pem(&pem).map_err(|error| {
                BirthError::Members(format!(
                    "{}: {error}; remove it to begin anew",
                    path.display()
                ))
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&path, error)),
    }
    for path in [dir, &certs] {
        if !path.is_dir() {
            make_dir(path)?;
        }
    }
    let key = JoinKey::generate()?;
    // A key that is there is whole.
    let fresh = certs.join("node.key.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&fresh, error)),
        _ => write(&fresh, &key.pem(), PRIVATE)?,
    }
    fs::rename(&fresh, &path).map_err(|source| failed(&path, source))?;
    for path in [&certs, dir] {
        sync(path).map_err(|source| failed(path, source))?;
    }
    Ok(key)
}

/// Makes the folder of a member that a cluster has let in: what it was told, beside the key of
/// [`key_to_join`]. The folder is a member's when this is done; done again
/// after an interruption, it is the same.
pub fn settle(dir: &Path, welcome: &Welcome, node_roots_pem: &str) -> Result<(), BirthError> {
    let Some(birth) = &welcome.birth else {
        return Err(BirthError::Members(
            "the cluster has let in a client, and no member".to_owned(),
        ));
    };
    let certs = dir.join("certs");
    let key = certs.join("node.key");
    let key = fs::read_to_string(&key).map_err(|source| failed(&key, source))?;
    let (leaf, client_roots) = (&welcome.certificate, &welcome.client_roots);
    Credentials::from_pem(leaf, &key, node_roots_pem, client_roots)?.check_chain()?;
    for (name, text) in [
        ("node.pem", &*welcome.certificate),
        ("node-ca.pem", node_roots_pem),
        ("client-ca.pem", &*welcome.client_roots),
    ] {
        write_durably(&certs, name, text.as_bytes()).map_err(|source| failed(&certs, source))?;
    }
    let me = birth.me.clone();
    let mut known = welcome.members.clone();
    known.retain(|member| member.id != me.id);
    known.push(me.clone());
    known.sort_by_key(|member| member.id);
    let file = MemberFile {
        cluster: welcome.cluster,
        name: me.name.clone(),
        auto_create: birth.auto_create,
        // One that was let in before may have lost what it promised since, and does not know.
        started: birth.again,
        epoch: birth.epoch,
        version: birth.version,
        members: birth.founders.clone(),
        joined: Some(Joined {
            me,
            known,
            again: birth.again,
        }),
    };
    file.save(dir).map_err(|source| failed(dir, source))
}

/// What a member shows, and the roots that it trusts: nodes', clients'.
fn write_certs(
    certs: &Path,
    issued: &Issued,
    (node_roots, client_roots): (&str, &str),
) -> Result<(), BirthError> {
    make_dir(certs)?;
    write_issued(certs, "node", issued)?;
    write(&certs.join("node-ca.pem"), node_roots, PUBLIC)?;
    write(&certs.join("client-ca.pem"), client_roots, PUBLIC)
}

fn refuse_existing<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), BirthError> {
    for path in paths {
        // A dangling link counts as something in the way too.
        if path.symlink_metadata().is_ok() {
            return Err(BirthError::Exists(path.clone()));
        }
    }
    Ok(())
}

fn check(members: &[MemberSpec]) -> Result<(), BirthError> {
    let refuse = |what: String| Err(BirthError::Members(what));
    if members.is_empty() || members.len() > MEMBERS_MAX {
        return refuse(format!(
            "a cluster has 1 to {MEMBERS_MAX} members, not {}",
            members.len()
        ));
    }
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for member in members {
        let name = &member.name;
        // It is to stand in a certificate, and is a directory's.
        if let Err(why) = Identity::new(ClusterId(0), Role::Node, name) {
            return refuse(format!("{name:?} cannot name a member: {why}"));
        }
        if matches!(name.as_str(), "ca" | "operator") {
            return refuse(format!(
                "{name:?} cannot name a member: it names another directory"
            ));
        }
        if !names.insert(name) {
            return refuse(format!("two members are named {name:?}"));
        }
        for address in [&member.address, &member.peer_address] {
            if !is_address(address) {
                return refuse(format!(
                    "{name}: an address is a host and a port, such as 10.0.0.1:7400, not {address:?}"
                ));
            }
            if !addresses.insert(address) {
                return refuse(format!("{name}: {address} is used twice"));
            }
        }
    }
    Ok(())
}

/// Whether others can dial it: a host and a port.
pub(crate) fn is_address(address: &str) -> bool {
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        (!host.is_empty()).then_some(())?;
        port.parse::<u16>().ok()
    });
    address.len() <= ADDRESS_BYTES_MAX && port.is_some_and(|port| port > 0)
}

fn identity(cluster: ClusterId, role: Role, name: &str) -> Identity {
    Identity {
        cluster,
        role,
        name: name.to_owned(),
    }
}

fn random<const N: usize>() -> Result<[u8; N], BirthError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(BirthError::Randomness)?;
    Ok(bytes)
}
