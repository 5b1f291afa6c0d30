//! Who signs certificates of the cluster: its two authorities, as they lie in a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kontiki_transport::{Authority, Error};
use kontiki_wire::ClusterId;

use crate::{
    error::{BirthError, StartError},
    limits::AUTHORITY_VALID,
    member::{sync, write_durably},
    papers::{PRIVATE, PUBLIC, failed, make_dir, write},
};

/// The folder in a member's directory where it finds them, if it has them and nothing else is said.
pub(crate) const FOLDER: &str = "ca";

/// The files in it that name the folders beside them with those that sign, if not those in it do, and with those
/// that are to take their place.
const CURRENT: &str = "current";
const NEXT: &str = "next";
/// Digits of such a folder's name.
const NAME_DIGITS: usize = 16;

/// The two, with their keys. Whoever has them can make members and operators.
pub(crate) struct Authorities {
    pub(crate) nodes: Authority,
    pub(crate) clients: Authority,
}

impl Authorities {
    /// Those of a new cluster.
    pub(crate) fn new(cluster: ClusterId) -> Result<Self, BirthError> {
        Ok(Self::named(&cluster.to_string())?)
    }

    /// Those that take the place of others: two authorities are told apart by their names, too.
    pub(crate) fn another(cluster: ClusterId, mark: u32) -> Result<Self, Error> {
        Self::named(&format!("{cluster} ({mark:08x})"))
    }

    fn named(of: &str) -> Result<Self, Error> {
        Ok(Self {
            nodes: Authority::new(&format!("kontiki nodes of {of}"), AUTHORITY_VALID)?,
            clients: Authority::new(&format!("kontiki clients of {of}"), AUTHORITY_VALID)?,
        })
    }

    /// The folder with those that a member signs with: the one that its configuration names, or its own, if
    /// there are keys in that.
    pub(crate) fn folder(dir: &Path, configured: Option<&Path>) -> Option<PathBuf> {
        let own = dir.join(FOLDER);
        match configured {
            Some(folder) => Some(folder.to_owned()),
            // The certificates may stay where the keys were moved away.
            None => {
                let keys = [own.join("node-ca.key"), own.join(CURRENT)];
                keys.iter().any(|file| file.exists()).then_some(own)
            }
        }
    }

    /// Those in a folder that sign.
    pub(crate) fn load(folder: &Path) -> Result<Self, StartError> {
        let current = named_by(folder, CURRENT)?;
        Self::read(&current.unwrap_or_else(|| folder.to_owned()))
    }

    /// Those in a folder that are to take the place of those that sign, if any were made.
    pub(crate) fn load_next(folder: &Path) -> Result<Option<Self>, StartError> {
        let next = named_by(folder, NEXT)?;
        next.map(|next| Self::read(&next)).transpose()
    }

    /// The ones whose nodes' authority has this fingerprint, if they lie in the folder or beside others in it.
    pub(crate) fn find(folder: &Path, fingerprint: &[u8; 32]) -> Option<Self> {
        let places = [folder.join(name_of(fingerprint)), folder.to_owned()];
        let found = places.iter().filter_map(|place| Self::read(place).ok());
        let mut found = found.filter(|one| one.nodes.fingerprint() == *fingerprint);
        found.next()
    }

    fn read(folder: &Path) -> Result<Self, StartError> {
        Ok(Self {
            nodes: load(folder, "node-ca")?,
            clients: load(folder, "client-ca")?,
        })
    }

    /// Puts these beside those that sign, as those that are to take their place.
    pub(crate) fn put_beside(&self, folder: &Path) -> Result<(), BirthError> {
        let name = name_of(&self.nodes.fingerprint());
        self.write(&folder.join(&name))?;
        for path in [&folder.join(&name), folder] {
            sync(path).map_err(|source| failed(path, source))?;
        }
        write_durably(folder, NEXT, name.as_bytes()).map_err(|source| failed(folder, source))
    }

    /// Has these sign from now on, which lie in the folder.
    pub(crate) fn promote(&self, folder: &Path) -> Result<(), BirthError> {
        let name = name_of(&self.nodes.fingerprint());
        match folder.join(&name).is_dir() {
            true => write_durably(folder, CURRENT, name.as_bytes())
                .map_err(|source| failed(folder, source)),
            // They are the first that there were.
            false => drop_file(folder, CURRENT),
        }
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

/// Forgets who was to take the place of those that sign.
pub(crate) fn drop_next(folder: &Path) -> Result<(), BirthError> {
    drop_file(folder, NEXT)
}

/// The folder in which authorities lie beside others.
fn name_of(fingerprint: &[u8; 32]) -> String {
    let first = fingerprint.iter().take(NAME_DIGITS / 2);
    first.map(|byte| format!("{byte:02x}")).collect()
}

fn drop_file(folder: &Path, name: &str) -> Result<(), BirthError> {
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
        _ => sync(folder).map_err(|source| failed(folder, source)),
    }
}

/// The folder that a file in this one names.
fn named_by(folder: &Path, file: &str) -> Result<Option<PathBuf>, StartError> {
    let path = folder.join(file);
    let name = match fs::read_to_string(&path) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(path, source)),
    };
    let name = name.trim_end();
    match name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(folder.join(name))),
        false => Err(StartError::Certificate {
            path,
            what: "it names no folder of authorities beside it".to_owned(),
        }),
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
