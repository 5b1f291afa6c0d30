//! The file that says how to reach a cluster and who one is there: `context.toml`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use kontiki_wire::{ClusterId, ParseError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::options::{ConnectOptions, check_address};

/// Every key of the file.
const KEYS: [&str; 6] = [
    "name",
    "cluster_id",
    "addresses",
    "certificate",
    "key",
    "ca",
];
/// Bytes a context or a PEM file may have: far more than any real one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How alike a key must be to be suggested for an unknown one.
pub(crate) const LIKENESS_MIN: f64 = 0.8;

/// How to reach a cluster and who one is there. Read from a TOML file whose paths are relative to
/// the file itself:
///
/// ```toml
/// name = "dev"
/// cluster_id = "5f0e…"
/// addresses = ["127.0.0.1:7401", "127.0.0.1:7402"]
/// certificate = "client.crt"
/// key = "client.key"
/// ca = "ca.crt"
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// What people call it.
    pub name: String,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Members' addresses for clients, `host:port`; one that answers is enough.
    pub addresses: Vec<String>,
    /// The certificate chain's PEM file.
    pub certificate: PathBuf,
    /// The key's PEM file.
    pub key: PathBuf,
    /// The PEM file of the authorities that members' certificates chain to.
    pub ca: PathBuf,
}

/// What is wrong with a context file.
#[derive(Debug, Error)]
#[error("{}: {why}", path.display())]
pub struct ContextError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl ContextError {
    pub(crate) fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// The file's layout.
#[derive(Serialize, Deserialize)]
struct Layout {
    name: String,
    cluster_id: String,
    addresses: Vec<String>,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl Context {
    /// Reads a context file. Unknown keys are refused, naming the key that was probably meant.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ContextError> {
        let path = path.as_ref();
        let text = read(path)?;
        let fail = |why: String| ContextError::new(path, why);
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| fail(e.to_string().trim_end().to_owned()))?;
        for key in table.keys() {
            if !KEYS.contains(&key.as_str()) {
                return Err(fail(unknown_key(key)));
            }
        }
        let layout: Layout = table
            .try_into()
            .map_err(|e| fail(e.to_string().trim_end().to_owned()))?;
        if layout.addresses.is_empty() {
            return Err(fail(
                "addresses is empty, it must name at least one member as host:port".to_owned(),
            ));
        }
        for address in &layout.addresses {
            check_address(address).map_err(|e| fail(e.to_string()))?;
        }
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Ok(Self {
            name: layout.name,
            cluster_id: (layout.cluster_id.parse())
                .map_err(|wrong: ParseError| fail(wrong.into()))?,
            addresses: layout.addresses,
            certificate: folder.join(layout.certificate),
            key: folder.join(layout.key),
            ca: folder.join(layout.ca),
        })
    }

    /// Writes it, whole or not at all. Paths below the file's own folder are written relative to it,
    /// so that the folder can be moved.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ContextError> {
        let path = path.as_ref();
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let below = |file: &Path| file.strip_prefix(folder).unwrap_or(file).to_owned();
        let layout = Layout {
            name: self.name.clone(),
            cluster_id: self.cluster_id.to_string(),
            addresses: self.addresses.clone(),
            certificate: below(&self.certificate),
            key: below(&self.key),
            ca: below(&self.ca),
        };
        let text = toml::to_string(&layout).map_err(|e| ContextError::new(path, e))?;
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        fs::write(&aside, text).map_err(|e| ContextError::new(&aside, e))?;
        fs::rename(&aside, path).map_err(|e| ContextError::new(path, e))
    }

    /// Reads the certificate, the key and the authorities it names, for
    /// [`Client::connect`](crate::Client::connect) with more options set. What is put into these files later is taken
    /// up when a member is dialled next.
    pub fn options(&self) -> Result<ConnectOptions, ContextError> {
        let files = [&self.certificate, &self.key, &self.ca].map(Clone::clone);
        let options = ConnectOptions::new(self.addresses.clone())
            .cluster_id(self.cluster_id)
            .identity_pem(read(&self.certificate)?, read(&self.key)?)
            .ca_pem(read(&self.ca)?);
        Ok(ConnectOptions {
            files: Some(files),
            ..options
        })
    }
}

impl TryFrom<Context> for ConnectOptions {
    type Error = ContextError;
    fn try_from(context: Context) -> Result<Self, ContextError> {
        context.options()
    }
}

impl TryFrom<&Context> for ConnectOptions {
    type Error = ContextError;
    fn try_from(context: &Context) -> Result<Self, ContextError> {
        context.options()
    }
}

fn read(path: &Path) -> Result<String, ContextError> {
    let size = fs::metadata(path)
        .map_err(|e| ContextError::new(path, format_args!("cannot be read: {e}")))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(ContextError::new(
            path,
            format_args!("has {size} bytes, the limit is {FILE_BYTES_MAX}"),
        ));
    }
    fs::read_to_string(path)
        .map_err(|e| ContextError::new(path, format_args!("cannot be read: {e}")))
}

fn unknown_key(key: &str) -> String {
    let nearest = KEYS
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    match nearest {
        Some((_, known)) => format!("there is no key {key:?}, did you mean {known:?}"),
        None => format!("there is no key {key:?}, the keys are {}", KEYS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "dev"
cluster_id = "000000000000000000000000000000ab"
addresses = ["127.0.0.1:7401", "localhost:7402"]
certificate = "client.crt"
key = "/keys/client.key"
ca = "sub/ca.crt"
"#;

    fn load(text: &str) -> Result<Context, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.toml");
        fs::write(&path, text).unwrap();
        let prefix = format!("{}: ", path.display());
        Context::load(&path)
            .map_err(|error| error.to_string().strip_prefix(&prefix).unwrap().to_owned())
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.toml");
        fs::write(&path, TEXT).unwrap();
        let context = Context::load(&path).unwrap();
        assert_eq!(context.certificate, folder.path().join("client.crt"));
        assert_eq!(context.key, Path::new("/keys/client.key"));
        assert_eq!(context.ca, folder.path().join("sub/ca.crt"));
        assert_eq!(context.cluster_id, ClusterId(0xab));
        assert_eq!(context.addresses, ["127.0.0.1:7401", "localhost:7402"]);
    }

    #[test]
    fn saved_context_means_the_same_when_its_folder_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("here");
        fs::create_dir(&here).unwrap();
        fs::write(here.join("context.toml"), TEXT).unwrap();
        let context = Context::load(here.join("context.toml")).unwrap();
        context.save(here.join("context.toml")).unwrap();
        let there = folder.path().join("there");
        fs::rename(&here, &there).unwrap();
        let moved = Context::load(there.join("context.toml")).unwrap();
        assert_eq!(moved.certificate, there.join("client.crt"));
        assert_eq!(moved.key, context.key);
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1, "nothing aside");
    }

    #[test]
    fn unknown_key_is_refused_with_the_one_that_was_meant() {
        let error = load(&TEXT.replace("addresses", "adresses")).unwrap_err();
        assert_eq!(
            error,
            r#"there is no key "adresses", did you mean "addresses""#
        );
        let error = load(&format!("{TEXT}\nfrobnicate = 1")).unwrap_err();
        assert!(error.starts_with(r#"there is no key "frobnicate", the keys are name,"#));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (wrong, right, words) in [
            (r#"name = "dev""#, "", "missing field `name`"),
            ("0000000000000000000000000000", "", "32 hexadecimal digits"),
            ("127.0.0.1:7401", "127.0.0.1", "host:port"),
            ("localhost:7402", "localhost:0", "host:port"),
            (
                r#"["127.0.0.1:7401", "localhost:7402"]"#,
                "[]",
                "at least one member",
            ),
            (r#""client.crt""#, "7", "string"),
            ("ca = ", "ca ", "TOML"),
        ] {
            let error = load(&TEXT.replace(wrong, right)).unwrap_err();
            assert!(error.contains(words), "{wrong} -> {right:?}: {error}");
        }
    }

    #[test]
    fn missing_file_is_named() {
        let error = Context::load("/nowhere/context.toml").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nowhere/context.toml: cannot be read")
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.toml");
        fs::write(&path, TEXT).unwrap();
        let error = Context::load(&path).unwrap().options().unwrap_err();
        assert!(error.path.ends_with("client.crt"));
    }
}
