//! The birth of a cluster, with the contexts that reach it.

use std::path::{Path, PathBuf};

use kontiki_client::{ClusterId, Context};
use kontiki_server::{
    BirthError,
    birth::{Birth, MemberSpec, birth_alone, birth_cluster},
};

use crate::exit::Failure;

/// A cluster on disk that was just born, or was born before.
#[derive(Debug)]
pub(crate) struct Born {
    /// Which.
    pub(crate) cluster: ClusterId,
    /// Each member's name and directory.
    pub(crate) members: Vec<(String, PathBuf)>,
    /// The operator's context, with absolute paths.
    pub(crate) context: Context,
    /// Where that context is kept.
    pub(crate) context_file: PathBuf,
}

/// Makes a cluster in `dir`: a directory for each member, the operator's, and a context called
/// `name` beside them; one in the operator's directory too, so that it can be copied elsewhere.
pub(crate) fn birth(
    dir: &Path,
    name: &str,
    members: &[MemberSpec],
    auto_create: bool,
) -> Result<Born, Failure> {
    let dir = std::path::absolute(dir)
        .map_err(|error| Failure::new(format!("cannot find {}: {error}", dir.display())))?;
    let born = birth_cluster(&dir, members, auto_create)?;
    let context_file = dir.join("context.toml");
    write_contexts(born, name, context_file)
}

/// Makes a cluster of one in `dir`, which is the member's own folder; the context is called like it.
pub(crate) fn birth_of_one(
    dir: &Path,
    member: &MemberSpec,
    auto_create: bool,
) -> Result<Born, Failure> {
    let dir = std::path::absolute(dir)
        .map_err(|error| Failure::new(format!("cannot find {}: {error}", dir.display())))?;
    let born = birth_alone(&dir, member, auto_create)?;
    let context_file = dir.join("context.toml");
    write_contexts(born, &member.name, context_file)
}

fn write_contexts(born: Birth, name: &str, context_file: PathBuf) -> Result<Born, Failure> {
    let operator = &born.operator_dir;
    let context = Context {
        name: name.to_owned(),
        cluster_id: born.cluster,
        addresses: born
            .members
            .iter()
            .map(|member| member.address.clone())
            .collect(),
        certificate: operator.join("operator.pem"),
        key: operator.join("operator.key"),
        ca: operator.join("node-ca.pem"),
    };
    context.save(&context_file)?;
    context.save(operator.join("context.toml"))?;
    let names = born.members.iter().map(|member| member.name.clone());
    Ok(Born {
        cluster: born.cluster,
        members: names.zip(born.member_dirs).collect(),
        context,
        context_file,
    })
}

impl From<BirthError> for Failure {
    fn from(error: BirthError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            BirthError::Members(_) => failure.exiting(crate::exit::Exit::Usage),
            _ => failure,
        }
    }
}
