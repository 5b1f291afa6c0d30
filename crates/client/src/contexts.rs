//! Where a user's contexts are kept by name, and which one is meant when none is named. The command
//! line and programs find the same cluster this way.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::context::{Context, ContextError, LIKENESS_MIN};

/// The contexts of a user.
///
/// ```text
/// $XDG_CONFIG_HOME/kontiki/contexts/NAME.toml   one for each cluster; ~/.config without the variable
/// $XDG_CONFIG_HOME/kontiki/identities/NAME/     what a client shows that got its certificate by a token
/// $XDG_CONFIG_HOME/kontiki/default              the name of the one that is meant unless one is named
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contexts {
    folder: PathBuf,
}

impl Context {
    /// The context that `kontiki`'s commands use: the one that the variable `KONTIKI_CONTEXT` names, as
    /// a file or by name, or else the user's default one, which `kontiki dev` sets.
    pub fn load_default() -> Result<Self, ContextError> {
        let given = env::var("KONTIKI_CONTEXT")
            .ok()
            .filter(|given| !given.is_empty());
        Self::load(Contexts::of_user()?.find(given.as_deref())?)
    }
}

impl Contexts {
    /// Those of the user whose process this is.
    pub fn of_user() -> Result<Self, ContextError> {
        Self::resolve(|name| env::var_os(name))
    }

    /// Those kept in this folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn resolve(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ContextError> {
        // The specification of these variables has relative paths ignored.
        let absolute = |name| lookup(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .ok_or_else(|| {
                let why = "neither XDG_CONFIG_HOME nor HOME names a folder for it: set one of them";
                ContextError::new(Path::new("the user's configuration"), why)
            })?;
        Ok(Self::at(&base.join("kontiki")))
    }

    /// The file of the context that is meant by `given`: the name of one kept here, a file, or a folder
    /// with a `context.toml`; the default one if nothing is given.
    pub fn find(&self, given: Option<&str>) -> Result<PathBuf, ContextError> {
        let Some(given) = given else {
            let name = self.default_name()?.ok_or_else(|| {
                let why = "there is no default context: start a cluster with `kontiki dev`, or name a \
                           context with --context or KONTIKI_CONTEXT";
                ContextError::new(&self.default_file(), why)
            })?;
            return self.named(&name);
        };
        let path = Path::new(given);
        if check_name(given).is_ok() && self.path(given).exists() {
            return Ok(self.path(given));
        }
        if path.is_dir() {
            return Ok(path.join("context.toml"));
        }
        if path.is_file() || given.contains('/') || given.ends_with(".toml") {
            return Ok(path.to_owned());
        }
        self.named(given)
    }

    /// The names there are, in order.
    pub fn names(&self) -> Result<Vec<String>, ContextError> {
        let folder = self.folder.join("contexts");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&folder, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(|error| unreadable(&folder, &error))?
                .file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".toml")) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The name of the default context, if one was chosen.
    pub fn default_name(&self) -> Result<Option<String>, ContextError> {
        let file = self.default_file();
        match fs::read_to_string(&file) {
            Ok(name) => Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&file, &error)),
        }
    }

    /// Makes the context of this name, which is kept here, the default; none if `None`.
    pub fn set_default(&self, name: Option<&str>) -> Result<(), ContextError> {
        let file = self.default_file();
        let Some(name) = name else {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(unwritable(&file, &error))
                }
                _ => Ok(()),
            };
        };
        self.named(name)?;
        let aside = self.folder.join("default.new");
        fs::write(&aside, format!("{name}\n"))
            .and_then(|()| fs::rename(&aside, &file))
            .map_err(|error| unwritable(&file, &error))
    }

    /// Keeps a context under its own name, in the place of one that had it. Its paths should be
    /// absolute: they will be read from here.
    pub fn save(&self, context: &Context) -> Result<(), ContextError> {
        check_name(&context.name)?;
        let folder = self.folder.join("contexts");
        fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
        context.save(self.path(&context.name))
    }

    /// Forgets the context of this name.
    pub fn remove(&self, name: &str) -> Result<(), ContextError> {
        let path = self.named(name)?;
        fs::remove_file(&path).map_err(|error| unwritable(&path, &error))
    }

    /// Where the certificate and the key of a client of this name are kept, beside the contexts; it need not
    /// exist.
    pub fn identity_folder(&self, name: &str) -> Result<PathBuf, ContextError> {
        check_name(name)?;
        Ok(self.folder.join("identities").join(name))
    }

    /// Whether this file is one of those kept here.
    #[must_use]
    pub fn keeps(&self, file: &Path) -> bool {
        file.parent() == Some(&self.folder.join("contexts"))
    }

    fn named(&self, name: &str) -> Result<PathBuf, ContextError> {
        check_name(name)?;
        let path = self.path(name);
        if path.exists() {
            return Ok(path);
        }
        let names = self.names()?;
        let nearest = names
            .iter()
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
        let hint = match nearest {
            Some((_, known)) => format!("did you mean {known:?}"),
            None if names.is_empty() => "there are none yet, `kontiki dev` makes one".to_owned(),
            None => format!("those there are: {}", names.join(", ")),
        };
        let why = format!("there is no context {name:?}, {hint}");
        Err(ContextError::new(&path, why))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("contexts").join(format!("{name}.toml"))
    }

    fn default_file(&self) -> PathBuf {
        self.folder.join("default")
    }
}

/// A context's name becomes a file's.
fn check_name(name: &str) -> Result<(), ContextError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits) {
        return Ok(());
    }
    let why = "a context's name is made of a-z A-Z 0-9 . _ - and starts with a letter or digit";
    Err(ContextError::new(Path::new(&format!("{name:?}")), why))
}

fn unreadable(path: &Path, error: &io::Error) -> ContextError {
    ContextError::new(path, format_args!("cannot be read: {error}"))
}

fn unwritable(path: &Path, error: &io::Error) -> ContextError {
    ContextError::new(path, format_args!("cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str) -> Context {
        Context {
            name: name.into(),
            cluster_id: kontiki_wire::ClusterId(1),
            addresses: vec!["127.0.0.1:7401".into()],
            certificate: "/x/operator.pem".into(),
            key: "/x/operator.key".into(),
            ca: "/x/node-ca.pem".into(),
        }
    }

    fn contexts() -> (tempfile::TempDir, Contexts) {
        let folder = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(&folder.path().join("kontiki"));
        (folder, contexts)
    }

    #[test]
    fn the_variable_goes_before_home_and_only_if_absolute() {
        let at = |set: &[(&str, &str)]| {
            let lookup = |name: &str| {
                set.iter()
                    .find(|(set, _)| *set == name)
                    .map(|(_, value)| value.into())
            };
            Contexts::resolve(lookup)
                .ok()
                .map(|contexts| contexts.folder)
        };
        let home = ("HOME", "/home/a");
        assert_eq!(at(&[home]), Some("/home/a/.config/kontiki".into()));
        assert_eq!(
            at(&[home, ("XDG_CONFIG_HOME", "/c")]),
            Some("/c/kontiki".into())
        );
        assert_eq!(
            at(&[home, ("XDG_CONFIG_HOME", "c")]),
            Some("/home/a/.config/kontiki".into())
        );
        assert_eq!(at(&[("HOME", "")]), None);
    }

    #[test]
    fn without_a_default_the_way_to_one_is_said() {
        let (_folder, contexts) = contexts();
        let refused = contexts.find(None).unwrap_err().to_string();
        assert!(refused.contains("kontiki dev"), "{refused}");
        assert_eq!(contexts.names().unwrap(), Vec::<String>::new());
        contexts.set_default(None).unwrap();
    }

    #[test]
    fn a_saved_context_is_found_by_name_and_as_default() {
        let (_folder, contexts) = contexts();
        contexts.save(&context("dev")).unwrap();
        contexts.save(&context("prod")).unwrap();
        contexts.set_default(Some("prod")).unwrap();
        assert_eq!(contexts.names().unwrap(), ["dev", "prod"]);
        assert_eq!(contexts.find(None).unwrap(), contexts.path("prod"));
        assert_eq!(
            Context::load(contexts.find(Some("dev")).unwrap()).unwrap(),
            context("dev")
        );
        assert!(contexts.keeps(&contexts.path("dev")));
        let refused = contexts.find(Some("deev")).unwrap_err().to_string();
        assert!(refused.contains("did you mean \"dev\""), "{refused}");
        contexts.remove("dev").unwrap();
        contexts.set_default(None).unwrap();
        assert_eq!(contexts.names().unwrap(), ["prod"]);
        assert_eq!(contexts.default_name().unwrap(), None);
    }

    #[test]
    fn files_and_folders_are_found_by_path() {
        let (folder, contexts) = contexts();
        let file = folder.path().join("mine.toml");
        let found = contexts.find(file.to_str()).unwrap();
        assert_eq!(found, file, "what is missing is said when it is read");
        assert!(!contexts.keeps(&found));
        let found = contexts.find(folder.path().to_str()).unwrap();
        assert_eq!(found, folder.path().join("context.toml"));
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let (_folder, contexts) = contexts();
        for name in ["..", "", ".hidden", "a b", "ä", "../x"] {
            contexts.set_default(Some(name)).unwrap_err();
            contexts.save(&context(name)).unwrap_err();
        }
    }
}
