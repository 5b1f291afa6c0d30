//! `kontiki dev`: a whole cluster on this machine, a process for each member, until Ctrl-C.

mod folder;
mod narrate;
mod ports;
mod supervise;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kontiki_client::{Client, ClusterStatus, Context, Contexts};
use kontiki_server::{MemberFile, birth::MemberSpec};
use tokio::time::{sleep, timeout};

use self::{
    folder::Folder,
    narrate::{Leaders, Narrator},
    ports::{DEV_MEMBERS_MAX, find_places},
    supervise::{Event, Member, Patience, Program, Supervisor},
};
use crate::{
    birth::birth,
    exit::{Exit, Failure},
    home::state_dir,
    invocation::Invocation,
    signals::Signals,
    verbs::context::keep,
};

/// What the context is called; with other ports than the default ones, the first follows behind `-`.
const CONTEXT: &str = "dev";
const MEMBERS_DEFAULT: u16 = 3;
const PORT_DEFAULT: u16 = 7401;
/// How long a member that died stays dead: long enough to see the others go on without it.
const RESTART_AFTER: Duration = Duration::from_secs(3);
/// How long members may take to end whose data is kept.
const ENDING_KEPT: Duration = Duration::from_secs(3);
/// How long members may take to end whose data goes with them.
const ENDING_PASSING: Duration = Duration::from_millis(300);
/// How long the cluster may take to elect and answer.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long all of it may take to be well before a part is enough.
const HEALTHY_MAX: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How long one asking may take: members that start have nothing to say yet.
const ASK_MAX: Duration = Duration::from_millis(500);
/// How often the leaders are looked at once all is well.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The cluster to start
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The cluster's context becomes the default, so that other commands find it without -c. A topic \
is made by the first append to it. A member that dies is started again 3 seconds later."
)]
pub(crate) struct Args {
    /// How many members, 3 unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(DEV_MEMBERS_MAX)))]
    members: Option<u16>,

    /// Keep the cluster in this folder; the one that is there already is started again
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Keep the fresh folder that is used without --dir; otherwise it is removed at the end
    #[arg(long)]
    keep: bool,

    /// The first of the members' ports; if any is taken, the next free ones above are used
    #[arg(long, value_name = "PORT", default_value_t = PORT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let folder = match &args.dir {
        Some(dir) => Folder::named(dir)?,
        None => Folder::fresh(&state_dir()?, args.keep)?,
    };
    let cluster = Cluster::find(&folder)?;
    let cluster = match cluster {
        Some(cluster) => cluster.checked(&args)?,
        None => Cluster::bear(&folder, &args, invocation)?,
    };
    let contexts = Contexts::of_user()?;
    let default_before = contexts
        .default_name()?
        .filter(|name| *name != cluster.context.name);
    if cluster.is_own() {
        // The name is reused by every `dev` on the same ports.
        contexts.save(&cluster.context)?;
    } else {
        keep(&contexts, &cluster.context)?;
    }
    contexts.set_default(Some(&cluster.context.name))?;

    let program = Program {
        file: own_file()?,
        log_level: invocation.log.clone(),
    };
    let patience = Patience {
        restart_after: RESTART_AFTER,
        ending_max: if folder.is_passing() {
            ENDING_PASSING
        } else {
            ENDING_KEPT
        },
    };
    let mut supervisor = Supervisor::start(&program, &cluster.members, patience);
    let ran = tokio::select! {
        ran = watch(&cluster, &folder, began, &mut supervisor, invocation) => ran,
        () = signals.next() => Ok(()),
    };
    tokio::select! {
        () = supervisor.stop() => {}
        // Dropped, it ends its members at once.
        () = signals.next() => {}
    }
    if folder.is_passing() {
        forget(&contexts, &cluster.context, default_before.as_deref())?;
    } else {
        invocation.output.note(format_args!(
            "the cluster is kept; `kontiki dev --dir {}` starts it again",
            folder.path().display()
        ));
    }
    folder.leave()?;
    ran.map(|()| Exit::Done)
}

/// Forgets a context if it is still the one of this cluster; as default it is followed by the one
/// before it, if that is still there.
fn forget(contexts: &Contexts, context: &Context, before: Option<&str>) -> Result<(), Failure> {
    let saved = contexts.find(Some(&context.name)).and_then(Context::load);
    if saved.is_ok_and(|saved| saved.cluster_id == context.cluster_id) {
        contexts.remove(&context.name)?;
        if contexts.default_name()?.as_ref() == Some(&context.name) {
            let names = contexts.names()?;
            contexts
                .set_default(before.filter(|before| names.iter().any(|name| name == before)))?;
        }
    }
    Ok(())
}

/// Tells of all that happens, forever, once the cluster is ready.
async fn watch(
    cluster: &Cluster,
    folder: &Folder,
    began: Instant,
    supervisor: &mut Supervisor,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let client = Client::lazy(cluster.context.options()?.name("dev").deadline(ASK_MAX))?;
    let narrator = Narrator::new(invocation.output, RESTART_AFTER);
    let mut pids = BTreeMap::new();
    let status = tokio::select! {
        status = ready(&client) => status?,
        failure = first_death(supervisor, &mut pids) => return Err(failure),
    };
    // Events of members that started while the cluster answered already.
    while pids.len() < cluster.members.len() {
        match supervisor.next().await {
            Some(Event::Started { name, pid }) => {
                pids.insert(name, pid);
            }
            Some(event) => narrator.event(&event)?,
            None => return Ok(()),
        }
    }
    narrator.ready(&narrate::Ready {
        status: &status,
        pids: &pids,
        folder: folder.path(),
        passing: folder.is_passing(),
        context: &cluster.context.name,
        took: began.elapsed(),
    })?;
    let mut leaders = Leaders::of(&status);
    loop {
        tokio::select! {
            event = supervisor.next() => match event {
                Some(event) => narrator.event(&event)?,
                None => return Ok(()),
            },
            status = look(&client) => if let Some(status) = status {
                for change in leaders.update(&status) {
                    narrator.leads(&change)?;
                }
            },
        }
    }
}

/// The first status with which all is well, or, if that takes long, with which somebody leads: a member
/// whose disk is damaged keeps nobody from using the others.
async fn ready(client: &Client) -> Result<ClusterStatus, Failure> {
    let began = Instant::now();
    let until = began + READY_MAX;
    loop {
        let patient = began.elapsed() < HEALTHY_MAX;
        let last = match client.admin().status().await {
            Ok(status) if status.healthy => return Ok(status),
            Ok(status) if status.leader.is_some() && !patient => return Ok(status),
            Ok(status) => status.reasons.join("; "),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(Failure::new(format!(
                "the cluster was not ready after {} s: {last}",
                READY_MAX.as_secs()
            ))
            .exiting(Exit::NoQuorum));
        }
        sleep(ASK_EVERY).await;
    }
}

/// A status from time to time. A cluster that cannot answer has no leaders to tell of.
async fn look(client: &Client) -> Option<ClusterStatus> {
    sleep(LOOK_EVERY).await;
    timeout(READY_MAX, client.admin().status()).await.ok()?.ok()
}

/// Why a member died before the cluster was ready; fills in who runs meanwhile.
async fn first_death(supervisor: &mut Supervisor, pids: &mut BTreeMap<String, u32>) -> Failure {
    loop {
        match supervisor.next().await {
            Some(Event::Started { name, pid }) => {
                pids.insert(name, pid);
            }
            Some(Event::Died { name, how, .. }) => return Failure::new(format!("{name} {how}")),
            Some(Event::NotStarted { name, why }) => return Failure::new(format!("{name}: {why}")),
            None => return Failure::new("the members were ended"),
        }
    }
}

/// A cluster in a folder.
struct Cluster {
    members: Vec<Member>,
    context: Context,
}

impl Cluster {
    /// The one that is there, if one is.
    fn find(folder: &Folder) -> Result<Option<Self>, Failure> {
        let file = folder.path().join("context.toml");
        if !file.exists() {
            return Ok(None);
        }
        let context = Context::load(&file)?;
        let mut members = Vec::new();
        for entry in folder
            .path()
            .read_dir()
            .map_err(|error| unreadable(folder.path(), &error))?
        {
            let data = entry
                .map_err(|error| unreadable(folder.path(), &error))?
                .path();
            if data.join("member.toml").exists() {
                let file = MemberFile::load(&data)?;
                members.push(Member {
                    name: file.name,
                    data,
                });
            }
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        if members.is_empty() {
            return Err(Failure::new(format!(
                "{} has a context but no members",
                folder.path().display()
            ))
            .advise("name another folder, or remove this one"));
        }
        Ok(Some(Self { members, context }))
    }

    /// Whether its name says that `dev` made it.
    fn is_own(&self) -> bool {
        let name = &self.context.name;
        name == CONTEXT
            || name
                .strip_prefix(CONTEXT)
                .is_some_and(|rest| rest.starts_with('-'))
    }

    /// Itself, if it is what was asked for.
    fn checked(self, args: &Args) -> Result<Self, Failure> {
        let there = self.members.len();
        match args.members {
            Some(asked) if usize::from(asked) != there => Err(Failure::usage(format!(
                "the cluster in this folder has {there} members, not {asked}"
            ))
            .advise("leave --members out to start it as it is, or name another folder")),
            _ => Ok(self),
        }
    }

    /// A new one.
    fn bear(folder: &Folder, args: &Args, invocation: &Invocation) -> Result<Self, Failure> {
        let count = args.members.unwrap_or(MEMBERS_DEFAULT);
        let places = find_places(args.port, count)?;
        let port = places[0].clients.port();
        if port != args.port {
            invocation.output.note(format_args!(
                "ports from {} up are taken, so the members use {port} and those above it",
                args.port
            ));
        }
        let specs: Vec<MemberSpec> = (1..)
            .zip(&places)
            .map(|(number, place)| MemberSpec {
                name: format!("n{number}"),
                address: place.clients.to_string(),
                peer_address: place.peers.to_string(),
            })
            .collect();
        let name = if port == PORT_DEFAULT {
            CONTEXT.into()
        } else {
            format!("{CONTEXT}-{port}")
        };
        let born = birth(folder.path(), &name, &specs, true)?;
        let members = born
            .members
            .into_iter()
            .map(|(name, data)| Member { name, data })
            .collect();
        Ok(Self {
            members,
            context: born.context,
        })
    }
}

fn own_file() -> Result<PathBuf, Failure> {
    env::current_exe()
        .map_err(|error| Failure::new(format!("cannot find this program's file: {error}")))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}
