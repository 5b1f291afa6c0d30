//! A cluster's birth: its id, its two authorities, and one directory for each member and the operator.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use kontiki_transport::{Authority, Identity, Issued, Role};
use kontiki_wire::{ClusterId, MemberInfo, limits::MEMBERS_MAX};

use crate::{
    error::BirthError,
    member::{MemberFile, sync},
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
    for path in member_dirs.iter().chain([&ca_dir, &operator_dir]) {
        // A dangling link counts as something in the way too.
        if path.symlink_metadata().is_ok() {
            return Err(BirthError::Exists(path.clone()));
        }
    }

    let cluster = ClusterId(u128::from_le_bytes(random()?));
    let authorities = Authorities {
        nodes: Authority::new(&format!("kontiki nodes of {cluster}"), AUTHORITY_VALID)?,
        clients: Authority::new(&format!("kontiki clients of {cluster}"), AUTHORITY_VALID)?,
    };
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
        let file = MemberFile {
            cluster,
            name: member.name.clone(),
            auto_create,
            started: false,
            members: infos.clone(),
        };
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

/// Who signs certificates of the cluster.
struct Authorities {
    nodes: Authority,
    clients: Authority,
}

impl Authorities {
    fn write(&self, dir: &Path) -> Result<(), BirthError> {
        make_dir(dir)?;
        for (name, authority) in [("node-ca", &self.nodes), ("client-ca", &self.clients)] {
            let certificate = authority.certificate_pem();
            write(&dir.join(format!("{name}.pem")), certificate, PUBLIC)?;
            write(
                &dir.join(format!("{name}.key")),
                authority.key_pem(),
                PRIVATE,
            )?;
        }
        Ok(())
    }

    fn write_member(&self, dir: &Path, file: &MemberFile) -> Result<(), BirthError> {
        let issued = self
            .nodes
            .issue(&identity(file.cluster, Role::Node, &file.name), LEAF_VALID)?;
        let certs = dir.join("certs");
        make_dir(dir)?;
        make_dir(&certs)?;
        write_issued(&certs, "node", &issued)?;
        write(
            &certs.join("node-ca.pem"),
            self.nodes.certificate_pem(),
            PUBLIC,
        )?;
        write(
            &certs.join("client-ca.pem"),
            self.clients.certificate_pem(),
            PUBLIC,
        )?;
        file.save(dir).map_err(|source| failed(dir, source))
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
            let port = address.rsplit_once(':').and_then(|(host, port)| {
                (!host.is_empty()).then_some(())?;
                port.parse::<u16>().ok()
            });
            if port.is_none_or(|port| port == 0) {
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

fn make_dir(path: &Path) -> Result<(), BirthError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(parent)
        .and_then(|()| DirBuilder::new().mode(0o700).create(path))
        .map_err(|source| failed(path, source))
}

fn write_issued(dir: &Path, name: &str, issued: &Issued) -> Result<(), BirthError> {
    write(
        &dir.join(format!("{name}.pem")),
        &issued.certificate_pem,
        PUBLIC,
    )?;
    write(&dir.join(format!("{name}.key")), &issued.key_pem, PRIVATE)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), BirthError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> BirthError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return BirthError::Exists(path.to_owned());
    }
    BirthError::Io {
        path: path.to_owned(),
        source,
    }
}

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;
const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const LEAF_VALID: Duration = Duration::from_secs(365 * 24 * 3600);
