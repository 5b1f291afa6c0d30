//! `kontiki cert rotate-ca`: the authorities are replaced while the cluster serves, one step after the other.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kontiki_client::{
    Client, Context, Handover, MemberInfo, Papers, Rotate, Rotation, RotationStage, Trust,
};
use kontiki_server::succession;
use kontiki_transport::{Signs, believe};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    output::{Cell, Output, Paint, Table},
    renewal,
    verbs::cert::{hexadecimal, short},
};

/// How long members may take to follow a step unless told otherwise.
const FOLLOWED_DEFAULT: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The steps, in their order
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Step {
    /// Make new authorities, where the keys of those lie that sign, and have all members believe them
    Begin {
        /// The folder with the authorities and their keys, where no member has them
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
    },
    /// Have the new authorities sign from now on: members renew at once, contexts with their next command
    Sign {
        /// The folder in which `begin --ca` has made them
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
    },
    /// Have the old authorities be believed no more: who has not renewed is let in no more
    Finish {
        /// Do so though members show certificates of the old ones still: these are shut out
        #[arg(long)]
        force: bool,

        /// Do so though clients are connected that show certificates of the old ones: they are cut off
        #[arg(long)]
        cut_off: bool,
    },
    /// Give up what was begun, as long as no member shows what the new authorities have signed
    Abandon {
        /// The folder in which `begin --ca` has made them
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
    },
    /// Show how far it is, what is waited for, and what is next
    Status,
}

/// Does it.
pub(crate) async fn run(step: Step, invocation: &Invocation) -> Result<Exit, Failure> {
    let context = Context::load(invocation.context_file()?)?;
    let client = invocation.connect().await?;
    let stage = match step {
        Step::Begin { ca } => Some(begin(&client, &context, ca.as_deref()).await?),
        Step::Sign { ca } => sign(&client, &context, ca.as_deref(), invocation).await?,
        Step::Finish { force, cut_off } => Some(finish(&client, &context, (force, cut_off)).await?),
        Step::Abandon { ca } => Some(abandon(&client, ca.as_deref()).await?),
        Step::Status => None,
    };
    let shown = match stage {
        Some(stage) => followed(&client, stage, invocation).await?,
        None => look(&client).await?,
    };
    if shown.stage == Stage::Finished
        && let Some(turnover) = look_trust(&client).await?.turnover()
    {
        renewal::forget_replaced(&context, Some(turnover))?;
    }
    leave(&client).await;
    invocation
        .output
        .say(&shown, |output| shown.in_words(output))?;
    Ok(Exit::Done)
}

async fn begin(
    client: &Client,
    context: &Context,
    ca: Option<&Path>,
) -> Result<RotationStage, Failure> {
    let admin = client.admin();
    let successors = match ca {
        Some(folder) => succession::successors(folder, context.cluster_id)?,
        None => admin.make_successors().await.map_err(|error| {
            Failure::from(error).advise(
                "where no member has the keys of the authorities, name the folder that has them: \
                 `kontiki cert rotate-ca begin --ca DIR`",
            )
        })?,
    };
    // What nobody would believe is not agreed on.
    let roots = renewal::read(&context.ca)?;
    believe(&roots, &successors.nodes, context.cluster_id, Signs::Nodes).map_err(|error| {
        Failure::new(error.to_string())
            .advise("name the folder with the authorities that sign in this cluster now")
    })?;
    admin.rotate(Rotate::Begin(Box::new(successors))).await?;
    Ok(RotationStage::Trusting)
}

/// Refuses to have authorities sign whose keys nobody has any more: nobody would sign anything.
async fn are_at_hand(client: &Client, ca: Option<&Path>) -> Result<(), Failure> {
    let rotation = look_trust(client).await?.rotation;
    let Some(rotation) = rotation.filter(|one| one.stage == RotationStage::Trusting) else {
        return Ok(());
    };
    let found = match ca {
        Some(folder) => succession::has(folder, &rotation)?,
        None => {
            let made = client.admin().make_successors().await;
            made.is_ok_and(|made| made.nodes.new == rotation.to.nodes.new)
        }
    };
    match found {
        true => Ok(()),
        false => Err(Failure::new(
            "the keys of the new authorities are not found: if they sign, nobody is given a certificate any more",
        )
        .advise(
            "start the member that made them, or name their folder (`sign --ca DIR`); if they are lost, \
             `kontiki cert rotate-ca abandon` and begin again",
        )),
    }
}

/// The stage that is waited for, unless members are to be given their certificates by hand.
async fn sign(
    client: &Client,
    context: &Context,
    ca: Option<&Path>,
    invocation: &Invocation,
) -> Result<Option<RotationStage>, Failure> {
    are_at_hand(client, ca).await?;
    client.admin().rotate(Rotate::Sign).await?;
    match ca {
        Some(folder) => {
            follow(client, folder).await?;
            invocation.output.note(format_args!(
                "now renew what no member signs, contexts first: `kontiki cert renew --ca {0}`, and then \
                 `kontiki cert renew --data DIR --ca {0}` for every member",
                folder.display()
            ));
            Ok(None)
        }
        // The one in use is not the last to renew.
        None => {
            if let Err(failure) = renewal::renew(client, context).await {
                invocation.output.note(format_args!(
                    "the certificate of this context is not renewed yet ({failure}): `kontiki cert renew` tries again"
                ));
            }
            Ok(Some(RotationStage::Signing))
        }
    }
}

async fn finish(
    client: &Client,
    context: &Context,
    (force, cut_off): (bool, bool),
) -> Result<RotationStage, Failure> {
    let turnover = look_trust(client).await?.turnover();
    let turnover = turnover.filter(|turnover| !turnover.finished);
    if renewal::is_behind(context, turnover) {
        return Err(Failure::new(
            "this context shows what the old authority has signed, and would be shut out",
        )
        .advise("`kontiki cert renew`, or `kontiki cert renew --ca DIR` where no member signs"));
    }
    let late = client.admin().outdated_clients().await;
    if turnover.is_some() && !late.is_empty() && !cut_off {
        let late: Vec<String> = late.into_iter().collect();
        return Err(Failure::new(format!(
            "clients are connected that have not renewed: {}",
            late.join(", ")
        ))
        .advise(
            "`kontiki -c CONTEXT cert renew` renews a context; `--cut-off` ends their connections: whose context has \
             been renewed goes on with it, and the others log in anew",
        ));
    }
    client.admin().rotate(Rotate::Finish { force }).await?;
    Ok(RotationStage::Finished)
}

async fn abandon(client: &Client, ca: Option<&Path>) -> Result<RotationStage, Failure> {
    client.admin().rotate(Rotate::Abandon).await?;
    if let Some(folder) = ca {
        follow(client, folder).await?;
    }
    Ok(RotationStage::Abandoned)
}

/// Has the authorities in a folder here follow what was agreed on.
async fn follow(client: &Client, folder: &Path) -> Result<(), Failure> {
    let Some(rotation) = look_trust(client).await?.rotation else {
        return Ok(());
    };
    match succession::follow(folder, &rotation)? {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{} has not the authorities that sign now",
            folder.display()
        ))
        .advise("name the folder in which `kontiki cert rotate-ca begin --ca` has made them")),
    }
}

async fn look_trust(client: &Client) -> Result<Trust, Failure> {
    Ok(client.admin().trust().await?)
}

async fn look(client: &Client) -> Result<Shown, Failure> {
    let trust = look_trust(client).await?;
    let members = client.admin().members().await?;
    let mut shown = Shown::of(&trust, &members);
    if shown.stage == Stage::Signing {
        shown.outdated_clients = client.admin().outdated_clients().await;
    }
    Ok(shown)
}

/// Waits until all members have followed, and says whom it waits for.
async fn followed(
    client: &Client,
    stage: RotationStage,
    invocation: &Invocation,
) -> Result<Shown, Failure> {
    let patience = invocation.timeout.unwrap_or(FOLLOWED_DEFAULT);
    let late = Instant::now() + patience;
    let mut told = Vec::new();
    loop {
        let shown = look(client).await?;
        if shown.waiting_for.is_empty() || shown.stage != Stage::of(stage) {
            return Ok(shown);
        }
        if Instant::now() >= late {
            return Err(Failure::new(format!(
                "it is agreed on, and after {} s {} have not followed",
                patience.as_secs(),
                shown.waiting_for.join(", ")
            ))
            .advise(
                "they will when they can; `kontiki cert rotate-ca status` says how far it is",
            ));
        }
        if shown.waiting_for != told && !invocation.output.json() {
            told.clone_from(&shown.waiting_for);
            let waits = told.join(", ");
            invocation.output.note(format_args!("waiting for {waits}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How far it is.
#[derive(Serialize)]
struct Shown {
    stage: Stage,
    nodes: Option<Replaced>,
    clients: Option<Replaced>,
    members: Vec<MemberShown>,
    /// The members that have not followed yet.
    waiting_for: Vec<String>,
    /// Clients that are connected and have not renewed, as `role/name`.
    outdated_clients: BTreeSet<String>,
    /// The command that is next, if nobody is waited for.
    next: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    None,
    Trusting,
    Signing,
    Finished,
    Abandoned,
}

/// SHA-256 of an authority and of the one that takes its place.
#[derive(Serialize)]
struct Replaced {
    old: String,
    new: String,
}

#[derive(Serialize)]
struct MemberShown {
    name: String,
    /// Whether it lets in whom the new authorities have signed, and whom the old ones have.
    believes_new: bool,
    believes_old: bool,
    /// Which of the two has signed what it shows: `old`, `new`, or `null` if neither has.
    shows: Option<&'static str>,
    trouble: Option<String>,
}

impl Stage {
    fn of(stage: RotationStage) -> Self {
        match stage {
            RotationStage::Trusting => Self::Trusting,
            RotationStage::Signing => Self::Signing,
            RotationStage::Finished => Self::Finished,
            RotationStage::Abandoned => Self::Abandoned,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::None => "no authorities were ever replaced",
            Self::Trusting => "the new authorities are believed beside the old ones, which sign",
            Self::Signing => "the new authorities sign, and the old ones are still believed",
            Self::Finished => "the old authorities are believed no more",
            Self::Abandoned => "it was given up: members believe the new authorities no more",
        }
    }

    fn next(self) -> Option<&'static str> {
        match self {
            Self::None => Some("kontiki cert rotate-ca begin"),
            Self::Trusting => Some("kontiki cert rotate-ca sign"),
            Self::Signing => Some("kontiki cert rotate-ca finish"),
            Self::Finished | Self::Abandoned => None,
        }
    }
}

impl Shown {
    fn of(trust: &Trust, members: &[MemberInfo]) -> Self {
        let Some(rotation) = &trust.rotation else {
            let stage = Stage::None;
            return Self {
                stage,
                nodes: None,
                clients: None,
                members: Vec::new(),
                waiting_for: Vec::new(),
                outdated_clients: BTreeSet::new(),
                next: stage.next(),
            };
        };
        let stage = Stage::of(rotation.stage);
        let shown = |member: &MemberInfo| {
            MemberShown::of(&member.name, trust.papers_of(member.id), rotation)
        };
        let members: Vec<MemberShown> = members.iter().map(shown).collect();
        let late = members.iter().filter(|member| !member.has_followed(stage));
        let waiting_for: Vec<String> = late.map(|member| member.name.clone()).collect();
        let next = stage.next().filter(|_| waiting_for.is_empty());
        Self {
            stage,
            nodes: Some(Replaced::of(&rotation.to.nodes)),
            clients: Some(Replaced::of(&rotation.to.clients)),
            members,
            waiting_for,
            outdated_clients: BTreeSet::new(),
            next,
        }
    }

    fn in_words(&self, output: Output) -> String {
        let mut lines = vec![self.stage.words().to_owned()];
        for (whose, replaced) in [("members", &self.nodes), ("clients", &self.clients)] {
            if let Some(Replaced { old, new }) = replaced {
                let (old, new) = (short(old), short(new));
                lines.push(format!("of {whose}: {new} takes the place of {old}"));
            }
        }
        if !self.members.is_empty() {
            let heads = ["MEMBER", "BELIEVES NEW", "BELIEVES OLD", "SHOWS", "TROUBLE"];
            let mut table = Table::new(heads);
            for member in &self.members {
                let yes = |is: bool| if is { "yes" } else { "no" };
                let name = match member.has_followed(self.stage) {
                    true => member.name.as_str().into(),
                    false => Cell::painted(member.name.as_str(), Paint::Warn),
                };
                table.row([
                    name,
                    yes(member.believes_new).into(),
                    yes(member.believes_old).into(),
                    member.shows.unwrap_or("-").into(),
                    member.trouble.as_deref().unwrap_or("-").into(),
                ]);
            }
            lines.push(table.render(output).trim_end().to_owned());
        }
        if !self.waiting_for.is_empty() {
            lines.push(format!("waiting for {}", self.waiting_for.join(", ")));
        }
        let out = self
            .members
            .iter()
            .filter(|one| one.is_shut_out(self.stage));
        let out: Vec<&str> = out.map(|one| one.name.as_str()).collect();
        if !out.is_empty() {
            lines.push(format!(
                "shut out, with what the old authority has signed: {}",
                out.join(", ")
            ));
        }
        if !self.outdated_clients.is_empty() {
            let clients: Vec<&str> = self.outdated_clients.iter().map(String::as_str).collect();
            lines.push(format!(
                "connected, and not renewed: {}",
                clients.join(", ")
            ));
        }
        if self.stage == Stage::Signing {
            lines.push(
                "clients renew with their next command; who has not when it is finished logs in anew"
                    .to_owned(),
            );
        }
        if let Some(next) = self.next {
            lines.push(format!("next: {}", output.paint(Paint::Bold, next)));
        }
        lines.join("\n")
    }
}

impl Replaced {
    fn of(handover: &Handover) -> Self {
        Self {
            old: hexadecimal(&handover.old),
            new: hexadecimal(&handover.new),
        }
    }
}

impl MemberShown {
    fn of(name: &str, papers: Option<&Papers>, rotation: &Rotation) -> Self {
        let (nodes, clients) = (&rotation.to.nodes, &rotation.to.clients);
        let believes = |one: &[u8; 32]| papers.is_some_and(|papers| papers.trusts.contains(one));
        let shows = |papers: &Papers| match papers.signed_by {
            by if by == nodes.new => Some("new"),
            by if by == nodes.old => Some("old"),
            _ => None,
        };
        Self {
            name: name.to_owned(),
            believes_new: believes(&nodes.new) && believes(&clients.new),
            believes_old: believes(&nodes.old) || believes(&clients.old),
            shows: papers.and_then(shows),
            trouble: papers.and_then(|papers| papers.trouble.clone()),
        }
    }

    fn is_shut_out(&self, stage: Stage) -> bool {
        stage == Stage::Finished && self.shows == Some("old")
    }

    fn has_followed(&self, stage: Stage) -> bool {
        match stage {
            Stage::None => true,
            Stage::Trusting => self.believes_new,
            Stage::Signing => self.shows == Some("new"),
            // Who shows what is believed no more is shut out, and not waited for.
            Stage::Finished => !self.believes_old || self.is_shut_out(stage),
            Stage::Abandoned => !self.believes_new,
        }
    }
}
