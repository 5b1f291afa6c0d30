//! A member's own certificate, as it lies in its folder: read, judged, and put there anew.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use kontiki_transport::{Certificate, Credentials, Identity, JoinKey, PublicKey, Role, Terms};

use crate::{
    authorities::{self, Authorities},
    config::Config,
    error::StartError,
    limits::LEAF_VALID,
    member::{MemberFile, node_ref, write_durably},
};

/// Reads the certificates of the member in `dir` and checks that they are this member's.
pub(crate) fn credentials(dir: &Path, member: &MemberFile) -> Result<Credentials, StartError> {
    credentials_with(dir, member, None)
}

/// The same with another certificate, for the same key, than the one that lies there.
pub(crate) fn credentials_with(
    dir: &Path,
    member: &MemberFile,
    certificate: Option<&str>,
) -> Result<Credentials, StartError> {
    let chain = match certificate {
        Some(pem) => pem.to_owned(),
        None => read(dir, "node.pem")?,
    };
    credentials_of(dir, member, &chain, &roots(dir)?)
}

/// The same with other authorities that are believed than those that lie there.
pub(crate) fn credentials_believing(
    dir: &Path,
    member: &MemberFile,
    roots: &[String; 2],
) -> Result<Credentials, StartError> {
    credentials_of(dir, member, &read(dir, "node.pem")?, roots)
}

/// The authorities that are believed, as they lie there: the nodes', the clients'.
pub(crate) fn roots(dir: &Path) -> Result<[String; 2], StartError> {
    Ok([read(dir, NODE_ROOTS)?, read(dir, CLIENT_ROOTS)?])
}

/// Has these be believed, from the next start on at the latest.
pub(crate) fn keep_roots(dir: &Path, roots: &[String; 2]) -> io::Result<()> {
    let certs = dir.join("certs");
    let names = [NODE_ROOTS, CLIENT_ROOTS];
    let mut files = names.into_iter().zip(roots);
    files.try_for_each(|(name, text)| write_durably(&certs, name, text.as_bytes()))
}

const NODE_ROOTS: &str = "node-ca.pem";
const CLIENT_ROOTS: &str = "client-ca.pem";

fn read(dir: &Path, name: &str) -> Result<String, StartError> {
    let path = dir.join("certs").join(name);
    fs::read_to_string(&path).map_err(|source| StartError::Io {
        doing: "cannot read",
        path,
        source,
    })
}

fn credentials_of(
    dir: &Path,
    member: &MemberFile,
    chain: &str,
    [node_roots, client_roots]: &[String; 2],
) -> Result<Credentials, StartError> {
    let certs = dir.join("certs");
    let key = read(dir, "node.key")?;
    let credentials = Credentials::from_pem(chain, &key, node_roots, client_roots);
    let credentials = credentials.map_err(|error| StartError::Certificate {
        path: certs.clone(),
        what: error.to_string(),
    })?;
    let mine = identity_of(member);
    credentials
        .check_chain()
        .map_err(|error| StartError::Certificate {
            path: certs.join("node.pem"),
            what: error.to_string(),
        })?;
    if *credentials.identity() != mine {
        return Err(StartError::Certificate {
            path: certs.join("node.pem"),
            what: format!(
                "the certificate is {}'s; this member needs one for {mine}",
                credentials.identity()
            ),
        });
    }
    check_key(member, &credentials).map_err(|what| StartError::Certificate {
        path: certs.join("node.key"),
        what,
    })?;
    Ok(credentials)
}

/// Whether the others would hear who shows this: whoever has joined they know by the key that it was let in with,
/// and those whom the cluster was born with by incarnations that were drawn.
fn check_key(member: &MemberFile, credentials: &Credentials) -> Result<(), String> {
    let me = node_ref(member.me());
    let is_founder = member.members.iter().any(|one| node_ref(one) == me);
    if is_founder || me.incarnation.0 == credentials.certificate().mark() {
        return Ok(());
    }
    let name = &member.name;
    Err(format!(
        "it is another key than the one that {name} was let in with, and nobody would hear {name}: put that one \
         back, with a certificate for it, or let {name} join anew with an empty folder"
    ))
}

fn identity_of(member: &MemberFile) -> Identity {
    Identity {
        cluster: member.cluster,
        role: Role::Node,
        name: member.name.clone(),
    }
}

/// Signs another certificate for the key of the member in `dir`, where the authorities are at hand: in `ca`, or
/// in the member's own folder. Says until when it is good. A member that runs shows it at once.
pub fn renew(dir: &Path, ca: Option<&Path>) -> Result<SystemTime, StartError> {
    let member = MemberFile::load(dir)?;
    let config = Config::load(dir)?;
    let folder = Authorities::folder(dir, ca.or(config.ca.as_deref()));
    let folder = folder.ok_or_else(|| StartError::Certificate {
        path: dir.join(authorities::FOLDER),
        what: format!(
            "there are no authorities with their keys, and this member's certificate is signed by others: {}",
            how_to_mend(dir)
        ),
    })?;
    renew_with(dir, &member, &folder, config.certificates_valid)
}

pub(crate) fn renew_with(
    dir: &Path,
    member: &MemberFile,
    folder: &Path,
    valid_for: Duration,
) -> Result<SystemTime, StartError> {
    let authorities = Authorities::load(folder)?;
    let key = key_of(dir)?;
    let identity = identity_of(member);
    let unsigned = |error: kontiki_transport::Error| StartError::Certificate {
        path: folder.to_owned(),
        what: error.to_string(),
    };
    let leaf = authorities
        .nodes
        .sign(&PublicKey::from(&key), &identity, valid_for);
    keep_renewed(dir, &leaf.map_err(unsigned)?)
}

/// A client's certificate that was signed where the authorities are.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RenewedClient {
    /// It, as PEM.
    pub certificate_pem: String,
    /// Who signs members' certificates there, as PEM.
    pub node_root_pem: String,
}

/// Signs another certificate for the key, the name and the topics of a client's, with the authorities in a
/// folder. It is good from a second later on, at most: what was taken back of the name until now does not take it
/// back as well.
pub fn renew_client(ca: &Path, certificate_pem: &str) -> Result<RenewedClient, StartError> {
    let unsigned = |error: kontiki_transport::Error| StartError::Certificate {
        path: ca.to_owned(),
        what: error.to_string(),
    };
    let authorities = Authorities::load(ca)?;
    let shown = Certificate::from_pem(certificate_pem).map_err(unsigned)?;
    let key = PublicKey::of(&shown).map_err(unsigned)?;
    let terms = Terms {
        topics: shown.topics,
        after: Some(SystemTime::now()),
        ..Terms::of(LEAF_VALID)
    };
    let signed = authorities.clients.sign_on(&key, &shown.identity, &terms);
    Ok(RenewedClient {
        certificate_pem: signed.map_err(unsigned)?,
        node_root_pem: authorities.nodes.certificate_pem().to_owned(),
    })
}

/// The key of the member in `dir`, for which another certificate is asked.
pub fn key_of(dir: &Path) -> Result<JoinKey, StartError> {
    let path = dir.join("certs/node.key");
    let pem = fs::read_to_string(&path).map_err(|source| StartError::Io {
        doing: "cannot read",
        path: path.clone(),
        source,
    })?;
    JoinKey::from_pem(&pem).map_err(|error| StartError::Certificate {
        path,
        what: error.to_string(),
    })
}

/// Keeps another certificate of the member in `dir`, if it is one for its key and its name. Says until when it
/// is good.
pub fn keep_renewed(dir: &Path, certificate_pem: &str) -> Result<SystemTime, StartError> {
    let member = MemberFile::load(dir)?;
    let credentials = credentials_with(dir, &member, Some(certificate_pem))?;
    let certs = dir.join("certs");
    let written = write_durably(&certs, "node.pem", certificate_pem.as_bytes());
    written.map_err(|source| StartError::Io {
        doing: "cannot write in",
        path: certs,
        source,
    })?;
    Ok(credentials.certificate().not_after)
}

/// What to do where a certificate cannot be renewed while the member runs.
pub(crate) fn how_to_mend(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "`kontiki cert renew --data {dir} TOKEN` here, with what `kontiki token create --role node` prints where \
         an operator is; or `kontiki cert renew --data {dir} --ca DIR` with the folder of the authorities"
    )
}

pub(crate) fn life(certificate: &Certificate) -> Duration {
    let life = certificate.not_after.duration_since(certificate.not_before);
    life.unwrap_or_default()
}

/// When it is time for another: when two thirds of its life are over, or a little sooner.
pub(crate) fn due(certificate: &Certificate, jitter: f64) -> SystemTime {
    let sooner = life(certificate).mul_f64(jitter / 24.0);
    certificate.not_after - life(certificate) / 3 - sooner
}

#[cfg(test)]
mod tests {
    use kontiki_transport::{Authority, Issued, Revoked};
    use kontiki_wire::{ClusterId, Epoch, MemberInfo, Revocation, Whom};
    use tempfile::TempDir;

    use super::*;
    use crate::member::Joined;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A member's folder that shows this.
    fn folder(nodes: &Authority, shown: &Issued) -> TempDir {
        let folder = TempDir::new().unwrap();
        let certs = folder.path().join("certs");
        fs::create_dir(&certs).unwrap();
        for (name, text) in [
            ("node.pem", shown.certificate_pem.as_str()),
            ("node.key", &shown.key_pem),
            ("node-ca.pem", nodes.certificate_pem()),
            ("client-ca.pem", nodes.certificate_pem()),
        ] {
            fs::write(certs.join(name), text).unwrap();
        }
        folder
    }

    /// n2, which is one of those whom the cluster was born with, or has joined with a key of this mark.
    fn member(joined_with: Option<u64>) -> MemberFile {
        let info = |id, incarnation| MemberInfo {
            id,
            incarnation,
            name: "n2".to_owned(),
            ..MemberInfo::default()
        };
        let founder = info(2, 7);
        MemberFile {
            cluster: ClusterId(7),
            name: "n2".to_owned(),
            auto_create: false,
            started: false,
            epoch: Epoch::FIRST,
            version: 1,
            members: vec![founder],
            joined: joined_with.map(|mark| Joined {
                me: info(3, mark),
                known: vec![info(3, mark)],
                again: false,
            }),
        }
    }

    #[test]
    fn who_has_joined_shows_the_key_that_it_was_let_in_with_and_no_other() {
        let nodes = Authority::new("nodes", DAY).unwrap();
        let n2 = Identity::new(ClusterId(7), Role::Node, "n2").unwrap();
        let issued = || nodes.issue(&n2, DAY).unwrap();
        let (own, other) = (issued(), issued());
        let mark = |issued: &Issued| {
            let shown = Certificate::from_pem(&issued.certificate_pem).unwrap();
            shown.mark()
        };
        let joined = member(Some(mark(&own)));
        let shown = |issued: &Issued, by: &MemberFile| {
            credentials(folder(&nodes, issued).path(), by).map_err(|error| error.to_string())
        };
        assert!(shown(&own, &joined).is_ok());
        let why = shown(&other, &joined).err().unwrap();
        assert!(
            why.contains("than the one that n2 was let in with"),
            "{why}"
        );
        // Who was there from the first is known otherwise, also when it has come back by its key.
        let founder = member(None);
        let mut returned = member(Some(7));
        let me = founder.members[0].clone();
        returned.joined = Some(Joined {
            known: vec![me.clone()],
            me,
            again: true,
        });
        for member in [founder, returned] {
            assert!(shown(&other, &member).is_ok());
        }
    }

    #[test]
    fn a_client_s_certificate_that_is_signed_after_its_name_was_taken_back_is_good() {
        let folder = TempDir::new().unwrap();
        let ca = folder.path().join("ca");
        let authorities = Authorities::new(ClusterId(7)).unwrap();
        authorities.write(&ca).unwrap();
        let shop = Identity::new(ClusterId(7), Role::Producer, "shop").unwrap();
        let before = authorities.clients.issue(&shop, DAY).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at = u64::try_from(now.unwrap().as_micros()).unwrap();
        let revoked = Revoked::new(&[Revocation {
            whom: Whom::Name {
                role: None,
                name: "shop".to_owned(),
            },
            at,
            until: u64::MAX,
        }]);
        let renewed = renew_client(&ca, &before.certificate_pem).unwrap();
        let [before, renewed] = [&before.certificate_pem, &renewed.certificate_pem]
            .map(|pem| Certificate::from_pem(pem).unwrap());
        assert!(revoked.has(&before) && !revoked.has(&renewed));
        assert!(renewed.not_before <= SystemTime::now() + Duration::from_secs(1));
    }

    #[test]
    fn it_is_time_when_two_thirds_are_over_or_a_little_sooner() {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let authority = Authority::new("nodes", hours(1000)).unwrap();
        let name = Identity::new(ClusterId(7), Role::Node, "n1").unwrap();
        let leaf = authority.issue(&name, hours(24)).unwrap();
        let leaf = Certificate::from_pem(&leaf.certificate_pem).unwrap();
        let left = |jitter| leaf.not_after.duration_since(due(&leaf, jitter)).unwrap();
        assert!((hours(8)..hours(9)).contains(&left(0.0)), "{:?}", left(0.0));
        assert!(
            (hours(9)..hours(10)).contains(&left(1.0)),
            "{:?}",
            left(1.0)
        );
    }
}
