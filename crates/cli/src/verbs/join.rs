//! `kontiki join`: a machine becomes a member of a cluster that serves.

mod progress;

use std::{path::PathBuf, time::Duration};

use kontiki_client::joining::{JoinError, join};
use kontiki_server::{
    MemberFile,
    birth::{key_to_join, settle},
};
use kontiki_transport::{Role, Token};
use kontiki_wire::{Seat, Versions};
use serde::Serialize;

use crate::{
    address::{next_port, parse_address},
    exit::{Exit, Failure},
    invocation::Invocation,
    verbs::{serve, token},
};

/// How long the cluster may take to answer unless told otherwise.
const ANSWER_DEFAULT: Duration = Duration::from_secs(30);

/// The member to become
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kontiki token create --role node                                  # where an operator is
  kontiki join --data n2 --name n2 --listen 10.0.0.2:7400 TOKEN     # on the new machine

Interrupted, it goes on where it was when it is run again; so does `kontiki serve --data n2`, once it \
has joined.")]
pub(crate) struct Args {
    /// What `kontiki token create --role node` printed
    #[arg(value_name = "TOKEN", env = "KONTIKI_TOKEN", hide_env_values = true)]
    token: String,

    /// The member's folder, which is made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// The member's name, which no other has
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Where clients will reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    listen: String,

    /// Where peers will reach it; the next port if not given
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    listen_peers: Option<String>,

    /// Only join: `kontiki serve --data DIR` runs it
    #[arg(long)]
    no_serve: bool,
}

impl Args {
    /// Whether the member runs afterwards.
    pub(crate) const fn serves(&self) -> bool {
        !self.no_serve
    }
}

#[derive(Serialize)]
struct Member {
    cluster_id: String,
    name: String,
    id: u64,
    data: PathBuf,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let token = token::read(&args.token)?;
    if token.role != Role::Node {
        return Err(
            Failure::usage(format!("this token is for a client, as {}", token.role))
                .advise("`kontiki login TOKEN` uses it"),
        );
    }
    let file = match MemberFile::load(&args.data) {
        Ok(file) => as_before(file, &token, &args)?,
        Err(_) => enter(&token, &args, invocation).await?,
    };
    let me = file.me();
    invocation.output.note(format_args!(
        "{} is member {} of cluster {}",
        me.name, me.id, file.cluster
    ));
    if args.no_serve {
        let member = Member {
            cluster_id: file.cluster.to_string(),
            name: me.name.clone(),
            id: me.id,
            data: args.data.clone(),
        };
        invocation.output.say(&member, |_| {
            format!("Start it: kontiki serve --data {}", args.data.display())
        })?;
        return Ok(Exit::Done);
    }
    let output = invocation.output;
    let name = args.name;
    serve::run_with(serve::Args::of(args.data), invocation, async |server| {
        progress::follow(server, &name, output).await;
    })
    .await
}

/// A folder that is a member's already, if it is that of an earlier run of this.
fn as_before(file: MemberFile, token: &Token, args: &Args) -> Result<MemberFile, Failure> {
    if file.cluster == token.cluster && file.name == args.name {
        return Ok(file);
    }
    Err(Failure::new(format!(
        "{} is the folder of {} in cluster {}",
        args.data.display(),
        file.name,
        file.cluster
    ))
    .advise("name another folder with --data"))
}

async fn enter(token: &Token, args: &Args, invocation: &Invocation) -> Result<MemberFile, Failure> {
    let peer_address = match &args.listen_peers {
        Some(peers) => peers.clone(),
        None => next_port(&args.listen).map_err(Failure::usage)?,
    };
    let seat = Seat::Member {
        address: args.listen.clone(),
        peer_address,
        versions: Versions::MINE,
    };
    let key = key_to_join(&args.data)?;
    let deadline = invocation.timeout.unwrap_or(ANSWER_DEFAULT);
    let admitted = join(token, &key, &args.name, seat, deadline).await?;
    settle(&args.data, &admitted.welcome, &admitted.node_roots_pem)?;
    Ok(MemberFile::load(&args.data)?)
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            JoinError::Unavailable { .. } => failure.exiting(Exit::NoQuorum),
            _ => failure,
        }
    }
}
