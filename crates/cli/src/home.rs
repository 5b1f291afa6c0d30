//! Where clusters of `kontiki dev` live: `$XDG_STATE_HOME/kontiki`, or `~/.local/state/kontiki`.

use std::{env, ffi::OsString, path::PathBuf};

use crate::exit::Failure;

/// The folder.
pub(crate) fn state_dir() -> Result<PathBuf, Failure> {
    resolve(|name| env::var_os(name))
}

fn resolve(lookup: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    // The specification of these variables has relative paths ignored.
    let absolute = |name| {
        lookup(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("kontiki"))
        .ok_or_else(|| {
            Failure::new("neither XDG_STATE_HOME nor HOME names a folder for the cluster")
                .advise("set one of them, or name a folder with --dir")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_before_home_and_only_if_absolute() {
        let at = |set: &[(&str, &str)]| {
            let lookup = |name: &str| {
                set.iter()
                    .find(|(set, _)| *set == name)
                    .map(|(_, value)| value.into())
            };
            resolve(lookup).ok()
        };
        let home = ("HOME", "/home/a");
        assert_eq!(at(&[home]), Some("/home/a/.local/state/kontiki".into()));
        assert_eq!(
            at(&[home, ("XDG_STATE_HOME", "/s")]),
            Some("/s/kontiki".into())
        );
        assert_eq!(
            at(&[home, ("XDG_STATE_HOME", "s")]),
            Some("/home/a/.local/state/kontiki".into())
        );
        assert_eq!(at(&[]), None);
    }
}
