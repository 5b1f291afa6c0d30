//! `kontiki member` and `kontiki node`: who is a member, who leaves, and what keeps them from it.

use std::time::{Duration, Instant};

use kontiki_client::{Client, ClusterStatus, Context, MemberInfo, Standing, TopicHealth};
use kontiki_transport::Role;
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave, parse_duration},
    output::{Cell, Counted, Output, Paint, Table},
    signals::Signals,
    verbs::token,
};

/// How long a change is watched unless told otherwise.
const WATCH_DEFAULT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is told of what goes on as before, but for the numbers.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How often `status --watch` draws.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// What can be done with members.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the members; `kontiki join` makes a new one
    List,
    /// Make a token for a machine that is to become a member, and say what to run there
    Add {
        /// Its name
        name: String,

        /// For how long the token may be used; 30 days at most
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
        ttl: Duration,
    },
    /// Have a member leave for good, alive or dead: what it keeps is moved to others first
    Remove {
        /// Its name
        name: String,

        /// Go on though the members that are left could not agree on anything until some of them come back
        #[arg(long)]
        force: bool,

        /// Do not wait until it is gone
        #[arg(long)]
        no_wait: bool,
    },
    /// Have another member, which has joined, take the place of one that leaves for good
    Replace {
        /// The name of the one that leaves
        name: String,

        /// The name of the one that takes its place
        #[arg(long, value_name = "NAME")]
        with: String,

        /// As for remove
        #[arg(long)]
        force: bool,
    },
    /// Take a member's vote, and its topics: it stays a member that has the cluster's own log
    Demote {
        /// Its name
        name: String,

        /// Go on though the members that vote then could not agree on anything until some of them come back, or
        /// nobody could take its topics
        #[arg(long)]
        force: bool,

        /// Do not wait until it keeps no topic and votes nowhere
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a demoted member vote and keep topics again
    Promote {
        /// Its name
        name: String,

        /// Do not wait until it votes
        #[arg(long)]
        no_wait: bool,
    },
    /// Show what each member keeps, what moves, and what it waits for
    Status {
        /// Show it anew every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
}

/// What can be done with the topics of a member that stays one.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeVerb {
    /// Have the topics of a member moved to others, before its machine is worked on
    Drain {
        /// Its name
        name: String,

        /// Go on though nobody could take its topics yet
        #[arg(long)]
        force: bool,

        /// Do not wait until it keeps none
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a member keep topics again
    Undrain {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Listed {
    members: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    id: u64,
    incarnation: String,
    address: String,
    peer_address: String,
    standing: &'static str,
    signs: bool,
}

/// How a change of a member ended.
#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    id: u64,
    standing: &'a str,
    done: bool,
}

impl From<MemberInfo> for Shown {
    fn from(member: MemberInfo) -> Self {
        Self {
            name: member.name,
            id: member.id,
            incarnation: format!("{:016x}", member.incarnation),
            address: member.address,
            peer_address: member.peer_address,
            standing: member.standing.as_str(),
            signs: member.signs,
        }
    }
}

/// Does what was asked of members.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    match verb {
        Verb::List => list(&client, invocation).await,
        Verb::Remove {
            name,
            force,
            no_wait,
        } => remove(&client, &name, force, !no_wait, invocation).await,
        Verb::Replace { name, with, force } => {
            check_replacement(&client, &name, &with).await?;
            remove(&client, &name, force, true, invocation).await
        }
        Verb::Add { name, ttl } => add(&client, &name, ttl, invocation).await,
        Verb::Demote {
            name,
            force,
            no_wait,
        } => demote(&client, &name, force, !no_wait, invocation).await,
        Verb::Promote { name, no_wait } => promote(&client, &name, !no_wait, invocation).await,
        Verb::Status { watch: false } => status(&client, invocation).await,
        Verb::Status { watch: true } => watch(&client, invocation).await,
    }?;
    leave(&client).await;
    Ok(Exit::Done)
}

/// Does what was asked of a node.
pub(crate) async fn run_node(verb: NodeVerb, invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    match verb {
        NodeVerb::Drain {
            name,
            force,
            no_wait,
        } => {
            let standing = Standing::Draining;
            let member = client.admin().set_standing(&name, standing, force).await?;
            let done =
                !no_wait && until(&client, invocation, |status| is_empty(status, &name)).await?;
            say(&member, done, invocation, || match done {
                true => format!("{name} keeps no topic any more, and stays a member"),
                false => format!("the topics of {name} are moved to others"),
            })
        }
        NodeVerb::Undrain { name } => {
            let standing = Standing::Active;
            let member = client.admin().set_standing(&name, standing, false).await?;
            say(&member, true, invocation, || {
                format!("{name} keeps topics again, as the cluster places them")
            })
        }
    }?;
    leave(&client).await;
    Ok(Exit::Done)
}

fn say(
    member: &MemberInfo,
    done: bool,
    invocation: &Invocation,
    sentence: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let changed = Changed {
        name: &member.name,
        id: member.id,
        standing: member.standing.as_str(),
        done,
    };
    invocation.output.say(&changed, |_| sentence())
}

async fn list(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    refresh_context(client, invocation).await;
    let members = client.admin().members().await?;
    let listed = Listed {
        members: members.into_iter().map(Shown::from).collect(),
    };
    invocation.output.say(&listed, |output| {
        let mut table = Table::new(["MEMBER", "ID", "ADDRESS", "PEERS", "STANDING", "SIGNS"]);
        for member in &listed.members {
            table.row([
                member.name.as_str().into(),
                member.id.into(),
                member.address.as_str().into(),
                member.peer_address.as_str().into(),
                Cell::painted(member.standing, standing_paint(member.standing)),
                if member.signs { "yes" } else { "no" }.into(),
            ]);
        }
        table.render(output)
    })
}

async fn remove(
    client: &Client,
    name: &str,
    force: bool,
    wait: bool,
    invocation: &Invocation,
) -> Result<(), Failure> {
    if !force {
        check_signers(client, name).await?;
    }
    let leaver = client.admin().remove_member(name, force).await?;
    let gone = |status: &ClusterStatus| !status.members.iter().any(|one| one.id == leaver.id);
    let done = wait && until(client, invocation, gone).await?;
    if done {
        refresh_context(client, invocation).await;
    }
    say(&leaver, done, invocation, || match done {
        true if leaver.signs => format!(
            "{name} is a member no more; its folder can be removed, but keep `ca` and `operator`: whoever has \
             the one can sign, and the other is an operator's certificate"
        ),
        true => format!("{name} is a member no more; its folder can be removed"),
        false => format!("{name} leaves; `kontiki member status --watch` shows how far it is"),
    })
}

/// A token, and the words that use it.
async fn add(
    client: &Client,
    name: &str,
    ttl: Duration,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let members = client.admin().members().await?;
    if members.iter().any(|member| member.name == name) {
        return Err(Failure::new(format!("there is a member {name} already"))
            .advise("choose another name, or remove that one first"));
    }
    token::check(ttl, &[])?;
    let how = format!("kontiki join --data {name} --name {name} --listen HOST:PORT");
    token::create(client, Role::Node, ttl, Some(&how), invocation).await
}

async fn demote(
    client: &Client,
    name: &str,
    force: bool,
    wait: bool,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let standing = Standing::Demoted;
    let member = client.admin().set_standing(name, standing, force).await?;
    let is_done = |status: &ClusterStatus| is_empty(status, name) && !votes(status, name);
    let done = wait && until(client, invocation, is_done).await?;
    say(&member, done, invocation, || match done {
        true => format!(
            "{name} has no vote and keeps no topic any more; `kontiki member promote {name}` undoes it"
        ),
        false => format!("the topics of {name} are moved to others, and its vote is taken"),
    })
}

async fn promote(
    client: &Client,
    name: &str,
    wait: bool,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let members = client.admin().members().await?;
    let known = members.iter().find(|member| member.name == name);
    if let Some(Standing::Draining | Standing::Leaving) = known.map(|member| member.standing) {
        let standing = known.map_or_else(String::new, |member| member.standing.to_string());
        return Err(
            Failure::new(format!("{name} is {standing}, not demoted")).advise(format!(
                "`kontiki node undrain {name}` lets it keep topics again"
            )),
        );
    }
    let member = client
        .admin()
        .set_standing(name, Standing::Active, false)
        .await?;
    // Of very many only some vote, and it may be one of the others.
    let has_turn = |status: &ClusterStatus| votes(status, name) || status.placing.is_empty();
    let done = wait && until(client, invocation, has_turn).await?;
    say(&member, done, invocation, || match done {
        true => format!("{name} votes, and keeps topics as the cluster places them"),
        false => format!("{name} is to vote again"),
    })
}

fn votes(status: &ClusterStatus, name: &str) -> bool {
    let mut members = status.members.iter();
    members.any(|member| member.name == name && member.voter)
}

/// Nobody joins a cluster in which nobody signs.
async fn check_signers(client: &Client, name: &str) -> Result<(), Failure> {
    let members = client.admin().members().await?;
    let mut others = members.iter().filter(|one| one.name != name);
    let signs = members.iter().any(|one| one.name == name && one.signs);
    if !signs || others.any(|other| other.signs) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{name} is the only member that is known to sign: without the authorities in its folder nobody can \
         join any more"
    ))
    .advise(
        "copy its `ca` folder to another member, say where with `ca.dir` in the kontiki.toml there, restart \
         that one, and say --force",
    ))
}

/// Lets the context in use reach the members there are now: it was made when there were others. A context that
/// cannot be written is as good as before.
pub(crate) async fn refresh_context(client: &Client, invocation: &Invocation) {
    let Ok(members) = client.admin().members().await else {
        return;
    };
    let addresses: Vec<String> = members.into_iter().map(|member| member.address).collect();
    let loaded = invocation
        .context_file()
        .map(|file| (Context::load(&file), file));
    if let Ok((Ok(mut context), file)) = loaded
        && !addresses.is_empty()
        && context.addresses != addresses
    {
        context.addresses = addresses;
        let _ = context.save(&file);
    }
}

/// Who is to take a place has one already.
async fn check_replacement(client: &Client, name: &str, with: &str) -> Result<(), Failure> {
    let members = client.admin().members().await?;
    if name == with {
        return Err(Failure::usage(format!("{name} cannot take its own place")));
    }
    match members.iter().find(|member| member.name == with) {
        Some(member) if member.standing == Standing::Active => Ok(()),
        Some(member) => Err(Failure::new(format!("{with} is {}", member.standing))
            .advise(format!("`kontiki node undrain {with}` lets it keep topics"))),
        None => Err(Failure::new(format!("there is no member {with} yet")).advise(
            "`kontiki token create --role node` and `kontiki join` make one; then say this again",
        )),
    }
}

fn is_empty(status: &ClusterStatus, name: &str) -> bool {
    let mut topics = status.topics.iter();
    topics.all(|topic| topic.wanted.is_empty() && !keeps(topic, name))
}

fn keeps(topic: &TopicHealth, name: &str) -> bool {
    topic.replicas.iter().any(|replica| replica.name == name)
}

/// Looks at the cluster until it is so, and says on the way what it waits for. It is an error if it is not so
/// in time: it goes on all the same.
async fn until(
    client: &Client,
    invocation: &Invocation,
    is_so: impl Fn(&ClusterStatus) -> bool,
) -> Result<bool, Failure> {
    let patience = invocation.timeout.unwrap_or(WATCH_DEFAULT);
    let late = Instant::now() + patience;
    let mut told = Vec::new();
    let mut told_at = Instant::now();
    let mut last = None;
    loop {
        match client.admin().status().await {
            Ok(status) if is_so(&status) => return Ok(true),
            Ok(status) => {
                let waits = reasons(&status);
                let news = plain(&waits) != plain(&told);
                if news || (waits != told && told_at.elapsed() >= TELL_EVERY) {
                    waits.iter().for_each(|why| invocation.output.note(why));
                    told_at = Instant::now();
                    told = waits;
                }
            }
            Err(error) => last = Some(error),
        }
        if Instant::now() >= late {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    if told.is_empty()
        && let Some(error) = last
    {
        return Err(error.into());
    }
    let why = match told.is_empty() {
        true => "the cluster does not say why".to_owned(),
        false => told.join("; "),
    };
    Err(Failure::new(format!(
        "after {} s it is not done: {why}",
        patience.as_secs()
    ))
    .advise("it goes on by itself; `kontiki member status --watch` shows how far it is"))
}

/// What is said, whatever the numbers: those change each time.
fn plain(sentences: &[String]) -> Vec<String> {
    let letters =
        |sentence: &String| sentence.replace(|c: char| c.is_ascii_digit() || c == ',', "");
    sentences.iter().map(letters).collect()
}

/// What is under way, and what it waits for.
fn reasons(status: &ClusterStatus) -> Vec<String> {
    let moving = status
        .topics
        .iter()
        .filter(|topic| !topic.wanted.is_empty());
    let moving = moving.map(|topic| {
        let mut sentence = format!(
            "topic {}: {} -> {}",
            topic.name,
            names(topic),
            topic.wanted.join(", ")
        );
        let behind = topic.replicas.iter().map(|replica| replica.lag).max();
        if let Some(behind) = behind.filter(|behind| *behind > 0) {
            sentence.push_str(&format!(", {} behind", Counted(behind, "record")));
        }
        if let Some(why) = &topic.waits {
            sentence.push_str(&format!(" ({why})"));
        }
        sentence
    });
    status.placing.iter().cloned().chain(moving).collect()
}

fn names(topic: &TopicHealth) -> String {
    let names: Vec<&str> = topic.replicas.iter().map(|one| one.name.as_str()).collect();
    names.join(", ")
}

async fn status(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    let status = client.admin().status().await?;
    invocation
        .output
        .say(&status, |output| render(&status, output))
}

async fn watch(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    loop {
        tokio::select! {
            shown = status(client, invocation) => shown?,
            () = signals.next() => return Ok(()),
        }
        tokio::select! {
            () = sleep(DRAW_EVERY) => {}
            () = signals.next() => return Ok(()),
        }
    }
}

fn render(status: &ClusterStatus, output: Output) -> String {
    let mut table = Table::new([
        "MEMBER", "ID", "STATE", "STANDING", "VOTER", "LEADS", "KEEPS",
    ]);
    for member in &status.members {
        let name = member.name.as_str();
        let topics = status.topics.iter();
        let leads = topics
            .clone()
            .filter(|one| one.leader.as_deref() == Some(name));
        let kept = topics.filter(|topic| keeps(topic, name));
        table.row([
            name.into(),
            member.id.into(),
            Cell::painted(member.state.as_str(), state_paint(&member.state)),
            Cell::painted(member.standing.as_str(), standing_paint(&member.standing)),
            if member.voter { "yes" } else { "no" }.into(),
            leads.count().into(),
            kept.count().into(),
        ]);
    }
    let mut text = table.render(output);
    let reasons = reasons(status);
    if !reasons.is_empty() {
        text.push('\n');
    }
    for reason in reasons {
        text.push_str(&format!("{reason}\n"));
    }
    text
}

fn state_paint(state: &str) -> Paint {
    match state {
        "up" => Paint::Good,
        "down" => Paint::Bad,
        _ => Paint::Warn,
    }
}

fn standing_paint(standing: &str) -> Paint {
    match standing {
        "active" => Paint::Plain,
        _ => Paint::Warn,
    }
}
