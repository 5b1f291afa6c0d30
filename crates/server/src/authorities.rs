//! Who signs certificates of the cluster: its two authorities, as they lie in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kontiki_transport::{Authority, Credentials};
use kontiki_wire::ClusterId;

use crate::{
    error::{BirthError, StartError},
    limits::AUTHORITY_VALID,
    papers::{PRIVATE, PUBLIC, make_dir, write},
};

/// The folder in a member's directory where it finds them, if it has them and nothing else is said.
pub(crate) const FOLDER: &str = "ca";

/// The two, with their keys. Whoever has them can make members and operators.
pub(crate) struct Authorities {
    pub(crate) nodes: Authority,
    pub(crate) clients: Authority,
}

impl Authorities {
    /// Those of a new cluster.
    pub(crate) fn new(cluster: ClusterId) -> Result<Self, BirthError> {
        Ok(Self {
            nodes: Authority::new(&format!("kontiki nodes of {cluster}"), AUTHORITY_VALID)?,
            clients: Authority::new(&format!("kontiki clients of {cluster}"), AUTHORITY_VALID)?,
        })
    }

    /// Those that a member signs with: in the folder that its configuration names, or in its own `ca`, if
    /// there are keys in that. `None` if it signs nothing.
    pub(crate) fn of_member(
        dir: &Path,
        configured: Option<&Path>,
        credentials: &Credentials,
    ) -> Result<Option<Self>, StartError> {
        let Some(folder) = Self::folder(dir, configured) else {
            return Ok(None);
        };
        let folder = folder.as_path();
        let authorities = Self::load(folder)?;
        if !credentials.trusts(&authorities.nodes, &authorities.clients) {
            return Err(StartError::Certificate {
                path: folder.to_owned(),
                what: format!(
                    "these authorities are not among those that {} names, so nobody would take what \
                     they sign",
                    dir.join("certs").display()
                ),
            });
        }
        Ok(Some(authorities))
    }

    /// The folder with those that a member signs with: the one that its configuration names, or its own, if
    /// there are keys in that.
    pub(crate) fn folder(dir: &Path, configured: Option<&Path>) -> Option<PathBuf> {
        let own = dir.join(FOLDER);
        match configured {
            Some(folder) => Some(folder.to_owned()),
            // The certificates may stay where the keys were moved away.
            None => own.join("node-ca.key").exists().then_some(own),
        }
    }

    /// Those in a folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, StartError> {
        Ok(Self {
            nodes: load(folder, "node-ca")?,
            clients: load(folder, "client-ca")?,
        })
    }

    /// Writes them into a folder that does not exist yet.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), BirthError> {
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
}

fn load(folder: &Path, name: &str) -> Result<Authority, StartError> {
    let read = |kind: &str| {
        let path = folder.join(format!("{name}.{kind}"));
        fs::read_to_string(&path).map_err(|source| unreadable(path, source))
    };
    Authority::from_pem(&read("pem")?, &read("key")?).map_err(|error| StartError::Certificate {
        path: folder.join(format!("{name}.pem")),
        what: error.to_string(),
    })
}

fn unreadable(path: PathBuf, source: io::Error) -> StartError {
    StartError::Io {
        doing: "cannot read",
        path,
        source,
    }
}
