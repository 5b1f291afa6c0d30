//! Files of certificates and keys: made once and not written over in passing, and watched for what others put there.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::SystemTime,
};

use kontiki_transport::Issued;

use crate::error::BirthError;

/// The mode of what anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// The mode of a key.
pub(crate) const PRIVATE: u32 = 0o600;

/// Makes a folder for its owner alone, and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), BirthError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(parent)
        .and_then(|()| DirBuilder::new().mode(0o700).create(path))
        .map_err(|source| failed(path, source))
}

/// Writes a certificate and its key beside each other.
pub(crate) fn write_issued(dir: &Path, name: &str, issued: &Issued) -> Result<(), BirthError> {
    write(
        &dir.join(format!("{name}.pem")),
        &issued.certificate_pem,
        PUBLIC,
    )?;
    write(&dir.join(format!("{name}.key")), &issued.key_pem, PRIVATE)
}

/// Writes a file that does not exist yet.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), BirthError> {
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

/// What is said of a file that could not be made.
pub(crate) fn failed(path: &Path, source: io::Error) -> BirthError {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return BirthError::Exists(path.to_owned());
    }
    BirthError::Io {
        path: path.to_owned(),
        source,
    }
}

/// By what it is seen that files of a member's certificates are others than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamp([Option<(SystemTime, u64, u64)>; 4]);

/// Of those in a member's folder.
pub(crate) fn stamp_of(dir: &Path) -> Stamp {
    let names = ["node.pem", "node.key", "node-ca.pem", "client-ca.pem"];
    Stamp(names.map(|name| {
        let file = std::fs::metadata(dir.join("certs").join(name)).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    }))
}
