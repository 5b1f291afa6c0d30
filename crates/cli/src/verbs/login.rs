//! `kontiki login`: a user, or a program, becomes a client of a cluster.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use kontiki_client::{
    Context, Contexts,
    joining::{Admitted, join},
};
use kontiki_transport::{Credentials, JoinKey, Role, Token};
use kontiki_wire::Seat;
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    verbs::{
        context::{Kept, keep_context},
        token,
    },
};

/// How long the cluster may take to answer unless told otherwise.
const ANSWER_DEFAULT: Duration = Duration::from_secs(30);

/// The client to become
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kontiki token create --role producer      # where an operator is
  kontiki login TOKEN --name shop           # where the producer is
  echo hello | kontiki -c shop append greetings")]
pub(crate) struct Args {
    /// What `kontiki token create` printed
    #[arg(value_name = "TOKEN", env = "KONTIKI_TOKEN", hide_env_values = true)]
    token: String,

    /// What to call the client, in its certificate, and its context; its role and a part of the token's
    /// number if not given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Serialize)]
struct LoggedIn {
    cluster_id: String,
    name: String,
    role: &'static str,
    context: PathBuf,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let token = token::read(&args.token)?;
    if token.role == Role::Node {
        return Err(Failure::usage("this token is for a member")
            .advise("`kontiki join --data DIR --name NAME --listen HOST:PORT TOKEN` uses it"));
    }
    let name = args
        .name
        .unwrap_or_else(|| format!("{}-{:08x}", token.role, token.id >> 32));
    let folder = Contexts::of_user()?.identity_folder(&name)?;
    if folder.join("client.pem").exists() {
        return Err(
            Failure::new(format!("there is a client {name} of yours already")).advise(format!(
                "use another --name, or remove {}",
                folder.display()
            )),
        );
    }
    let key = client_key(&folder).map_err(|error| {
        Failure::new(format!(
            "cannot keep a key in {}: {error}",
            folder.display()
        ))
    })?;
    let deadline = invocation.timeout.unwrap_or(ANSWER_DEFAULT);
    let admitted = join(&token, &key, &name, Seat::Client, deadline).await?;
    let context = keep(&folder, &name, &token, &key, &admitted)?;
    let file = folder.join("context.toml");
    context.save(&file)?;
    let kept = keep_context(&context)?;
    let logged_in = LoggedIn {
        cluster_id: token.cluster.to_string(),
        name,
        role: token.role.as_str(),
        context: file,
    };
    invocation.output.say(&logged_in, |_| {
        let LoggedIn { name, role, .. } = &logged_in;
        match kept {
            Kept::Default => {
                format!("{name} is a {role} of this cluster, and commands speak as it")
            }
            Kept::Named(_) => {
                format!("{name} is a {role} of this cluster; commands speak as it with -c {name}")
            }
            Kept::File => format!(
                "{name} is a {role} of this cluster; commands speak as it with -c {}",
                logged_in.context.display()
            ),
        }
    })?;
    Ok(Exit::Done)
}

/// The key of an earlier run that was interrupted, or a new one.
fn client_key(folder: &Path) -> Result<JoinKey, Failure> {
    let path = folder.join("client.key");
    let unwritten = |error: io::Error| Failure::new(error.to_string());
    match fs::read_to_string(&path) {
        Ok(pem) => return JoinKey::from_pem(&pem).map_err(|error| Failure::new(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritten(error)),
    }
    let key = JoinKey::generate().map_err(|error| Failure::new(error.to_string()))?;
    let fresh = folder.join("client.key.new");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .and_then(|()| {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(key.pem().as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(unwritten)?;
    Ok(key)
}

/// Writes what was answered beside the key, once it is known to fit.
fn keep(
    folder: &Path,
    name: &str,
    token: &Token,
    key: &JoinKey,
    admitted: &Admitted,
) -> Result<Context, Failure> {
    let certificate = &admitted.welcome.certificate;
    let roots = &admitted.node_roots_pem;
    Credentials::from_pem(certificate, &key.pem(), roots, "").map_err(|error| {
        Failure::new(format!("the cluster answers what cannot be used: {error}"))
    })?;
    let members = admitted.welcome.members.iter();
    let mut addresses: Vec<String> = members.map(|member| member.address.clone()).collect();
    if addresses.is_empty() {
        addresses.clone_from(&token.addresses);
    }
    let context = Context {
        name: name.to_owned(),
        cluster_id: token.cluster,
        addresses,
        certificate: folder.join("client.pem"),
        key: folder.join("client.key"),
        ca: folder.join("node-ca.pem"),
    };
    // The certificate last: a folder with it is whole.
    for (path, text) in [(&context.ca, roots), (&context.certificate, certificate)] {
        fs::write(path, text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(context)
}
