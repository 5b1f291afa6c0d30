//! `kontiki member` and `kontiki node`: who is a member, who leaves, and what keeps them from it.

mod progress;

pub(crate) use progress::moving;

use std::time::Duration;

use kontiki_client::{Client, ClusterStatus, MemberInfo, Standing, TopicHealth};
use kontiki_transport::Role;
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave, parse_duration, refresh_context},
    output::{Cell, Output, Paint, Table},
    signals::Signals,
    verbs::{
        cluster::state_paint,
        member::progress::{sentences, until},
        token,
    },
};

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

        /// Go on though the members that are left could not agree on anything until some of them come back, or
        /// its topics would have fewer copies (those of one that has been silent for half a minute do not count), or
        /// nobody could take them, or nobody is known to sign any more
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

        /// As for remove; the copies of the one that takes the place make up for those that go
        #[arg(long)]
        force: bool,
    },
    /// Take a member's vote, and its topics: it stays a member that has the cluster's own log
    Demote {
        /// Its name
        name: String,

        /// Go on though the members that vote then could not agree on anything until some of them come back, or
        /// its topics would have fewer copies, or nobody could take them
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

        /// Go on though its topics would have fewer copies, or nobody could take them yet
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
        } => {
            remove(
                &Order::of(&client, invocation, &name, !no_wait),
                None,
                force,
            )
            .await
        }
        Verb::Replace { name, with, force } => {
            check_replacement(&client, &name, &with).await?;
            remove(
                &Order::of(&client, invocation, &name, true),
                Some(&with),
                force,
            )
            .await
        }
        Verb::Add { name, ttl } => add(&client, &name, ttl, invocation).await,
        Verb::Demote {
            name,
            force,
            no_wait,
        } => demote(&Order::of(&client, invocation, &name, !no_wait), force).await,
        Verb::Promote { name, no_wait } => {
            promote(&Order::of(&client, invocation, &name, !no_wait)).await
        }
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
            let order = Order::of(&client, invocation, &name, !no_wait);
            let words = [
                format!("{name} keeps no topic any more, and stays a member"),
                format!("the topics of {name} are moved to others"),
            ];
            let is_so = |status: &ClusterStatus| is_empty(status, &name);
            order.stand(Standing::Draining, force, is_so, words).await
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

/// What one member is to do from now on, and whether it is waited for that.
struct Order<'a> {
    client: &'a Client,
    invocation: &'a Invocation,
    name: &'a str,
    waits: bool,
}

impl<'a> Order<'a> {
    const fn of(
        client: &'a Client,
        invocation: &'a Invocation,
        name: &'a str,
        waits: bool,
    ) -> Self {
        Self {
            client,
            invocation,
            name,
            waits,
        }
    }

    /// Waits until it is so, if that is to be waited for.
    async fn is_done(&self, is_so: impl Fn(&ClusterStatus) -> bool) -> Result<bool, Failure> {
        Ok(self.waits && until(self.client, self.invocation, is_so).await?)
    }

    /// Gives a member another standing. The first of the words are said when it is so, the others if that is not
    /// waited for.
    async fn stand(
        &self,
        standing: Standing,
        force: bool,
        is_so: impl Fn(&ClusterStatus) -> bool,
        [done, begun]: [String; 2],
    ) -> Result<(), Failure> {
        let admin = self.client.admin();
        let member = admin.set_standing(self.name, standing, force).await?;
        let is_done = self.is_done(is_so).await?;
        say(&member, is_done, self.invocation, || match is_done {
            true => done,
            false => begun,
        })
    }
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

async fn remove(order: &Order<'_>, with: Option<&str>, force: bool) -> Result<(), Failure> {
    let Order {
        client,
        invocation,
        name,
        ..
    } = *order;
    if !force {
        check_signers(client, name).await?;
    }
    let admin = client.admin();
    let leaver = match with {
        None => admin.remove_member(name, force).await?,
        Some(with) => admin.replace_member(name, with, force).await?,
    };
    let gone = |status: &ClusterStatus| !status.members.iter().any(|one| one.id == leaver.id);
    let done = order.is_done(gone).await?;
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
    token::check(Role::Node, ttl, &[])?;
    let how = format!("kontiki join --data {name} --name {name} --listen HOST:PORT");
    token::create(
        client,
        (Role::Node, ttl, Vec::new()),
        Some(&how),
        invocation,
    )
    .await
}

async fn demote(order: &Order<'_>, force: bool) -> Result<(), Failure> {
    let name = order.name;
    let is_so = |status: &ClusterStatus| is_empty(status, name) && !votes(status, name);
    let words = [
        format!(
            "{name} has no vote and keeps no topic any more; `kontiki member promote {name}` undoes it"
        ),
        format!("the topics of {name} are moved to others, and its vote is taken"),
    ];
    order.stand(Standing::Demoted, force, is_so, words).await
}

async fn promote(order: &Order<'_>) -> Result<(), Failure> {
    let name = order.name;
    let members = order.client.admin().members().await?;
    let known = members.iter().find(|member| member.name == name);
    if let Some(standing @ (Standing::Draining | Standing::Leaving)) = known.map(|one| one.standing)
    {
        return Err(
            Failure::new(format!("{name} is {standing}, not demoted")).advise(format!(
                "`kontiki node undrain {name}` lets it keep topics again"
            )),
        );
    }
    // Of very many only some vote, and it may be one of the others.
    let has_turn = |status: &ClusterStatus| votes(status, name) || status.placing.is_empty();
    let words = [
        format!("{name} votes, and keeps topics as the cluster places them"),
        format!("{name} is to vote again"),
    ];
    order.stand(Standing::Active, false, has_turn, words).await
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
    let mut said = sentences(status);
    said.extend(status.warnings.iter().cloned());
    if !said.is_empty() {
        text.push('\n');
    }
    for sentence in said {
        text.push_str(&format!("{sentence}\n"));
    }
    text
}

fn standing_paint(standing: &str) -> Paint {
    match standing {
        "active" => Paint::Plain,
        _ => Paint::Warn,
    }
}
