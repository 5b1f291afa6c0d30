//! `kontiki serve`: one member, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf};

use kontiki_server::{Config, MemberFile, Server, StartError};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    logging::{self, LogFormat},
    signals::Signals,
};

/// The member to run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The member's folder, made by `kontiki init`; its kontiki.toml says the rest
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Listen for clients here instead of where the member's address says
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,

    /// Listen for peers here instead of where the member's address says
    #[arg(long, value_name = "IP:PORT")]
    listen_peers: Option<SocketAddr>,

    /// Log this: a level (error, warn, info, debug, trace) or a filter; info if nothing is said
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,

    /// Write the log as text or as JSON, an object a line
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,

    /// End when this process, the parent, does
    #[arg(long, value_name = "PID", hide = true)]
    with_parent: Option<u32>,
}

impl Args {
    /// As if only the folder had been given.
    pub(crate) fn of(data: PathBuf) -> Self {
        Self {
            data,
            listen: None,
            listen_peers: None,
            log_level: None,
            log_format: None,
            with_parent: None,
        }
    }
}

/// Does it: the first SIGTERM or SIGINT ends it in order, the second at once.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    run_with(args, invocation, async |_| {}).await
}

/// The same, with something to be done while it runs.
pub(crate) async fn run_with(
    args: Args,
    invocation: &Invocation,
    meanwhile: impl AsyncFnOnce(&Server),
) -> Result<Exit, Failure> {
    if let Some(parent) = args.with_parent {
        end_with_parent(parent)?;
    }
    let mut signals = Signals::new()?;
    let (config, format) = configure(&args, invocation)?;
    let name = MemberFile::load(&args.data)?.name;
    let server = Server::start(config).await?;
    // A log of JSON says it in its own line.
    if format == LogFormat::Text {
        invocation.output.note(format_args!(
            "{name} is ready: clients at {}, peers at {}",
            server.address(),
            server.peer_address()
        ));
    }
    let meanwhile = async {
        meanwhile(&server).await;
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = server.wait() => Some(ended),
        () = signals.next() => None,
        () = meanwhile => None,
    };
    match ended {
        Some(ended) => ended.map_err(|error| Failure::new(error.to_string()))?,
        None => tokio::select! {
            () = server.shutdown() => {}
            () = signals.next() => {}
        },
    }
    Ok(Exit::Done)
}

/// The member's file, overridden by flags.
fn configure(args: &Args, invocation: &Invocation) -> Result<(Config, LogFormat), Failure> {
    let mut config = Config::load(&args.data)?;
    config.listen = args.listen.or(config.listen);
    config.listen_peers = args.listen_peers.or(config.listen_peers);
    let said = args.log_level.as_deref().or(invocation.log.as_deref());
    let configured = match config.log.format {
        kontiki_server::LogFormat::Text => LogFormat::Text,
        kontiki_server::LogFormat::Json => LogFormat::Json,
    };
    let format = args.log_format.unwrap_or(configured);
    let started = logging::start(said.unwrap_or(&config.log.level), format);
    if said.is_none() {
        let file = args.data.join("kontiki.toml");
        let where_from = |what: &str| format!("{}: `log.level`: {what}", file.display());
        started.map_err(|failure| failure.exiting(Exit::Failed).within(where_from))?;
    } else {
        started?;
    }
    Ok((config, format))
}

/// Asks the kernel to end this process when its parent does, which `parent` must still be.
fn end_with_parent(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::new(format!("cannot follow the parent process: {error}")))?;
    // If it ended before it could be followed, nobody will tell.
    if getppid().map(Pid::as_raw_nonzero)
        == i32::try_from(parent)
            .ok()
            .and_then(|pid| pid.try_into().ok())
    {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "process {parent}, which this one is to end with, is not its parent"
        )))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.to_string())
    }
}
