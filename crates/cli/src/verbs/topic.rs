//! `kontiki topic`: makes, lists, describes and deletes topics.

use std::io::{self, BufRead, IsTerminal};

use kontiki_client::{AdminError, Client, TopicInfo, TopicName, TopicSettings};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    nearest::nearest,
    output::{Counted, Paint, Table, Thousands},
    verbs::member::moving,
};

/// What can be done with topics.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make a topic
    Create {
        /// Its name: 1 to 128 of a-z A-Z 0-9 . _ - /, starting with a letter or digit
        topic: TopicName,

        /// Members that are to keep it; fewer if the cluster has fewer
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        replicas: u8,

        /// Be content if there is one of that name already
        #[arg(long)]
        if_missing: bool,
    },
    /// List all topics
    List,
    /// Show where a topic begins and ends, who keeps it and who leads it
    Describe {
        /// Which
        topic: TopicName,
    },
    /// Ask a topic to be something else; the cluster works toward it
    Edit {
        /// Which
        topic: TopicName,

        /// Members that are to keep it; fewer if the cluster has fewer
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
        replicas: u8,
    },
    /// Delete a topic with all its records
    Delete {
        /// Which
        topic: TopicName,

        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Listed {
    topics: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    group: u64,
    leader: Option<String>,
    replicas: Vec<String>,
    first_offset: u64,
    next_offset: u64,
}

/// One topic, and what is under way about where it is kept.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    shown: Shown,
    moves: Option<String>,
}

#[derive(Serialize)]
struct Deleted<'a> {
    topic: &'a str,
    deleted: bool,
}

impl From<TopicInfo> for Shown {
    fn from(info: TopicInfo) -> Self {
        Self {
            name: info.name.to_string(),
            group: info.group.0,
            leader: info.leader,
            replicas: info.replicas,
            first_offset: info.first.0,
            next_offset: info.next.0,
        }
    }
}

impl Shown {
    fn leader(&self) -> &str {
        self.leader.as_deref().unwrap_or("-")
    }

    fn records(&self) -> u64 {
        self.next_offset.saturating_sub(self.first_offset)
    }
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let client = invocation.connect().await?;
    match verb {
        Verb::Create {
            topic,
            replicas,
            if_missing,
        } => create(&client, topic, replicas, if_missing, invocation).await,
        Verb::List => list(&client, invocation).await,
        Verb::Edit { topic, replicas } => edit(&client, &topic, replicas, invocation).await,
        Verb::Describe { topic } => describe(&client, &topic, invocation).await,
        Verb::Delete { topic, yes } => delete(&client, &topic, yes, invocation).await,
    }?;
    leave(&client).await;
    Ok(Exit::Done)
}

async fn create(
    client: &Client,
    topic: TopicName,
    replicas: u8,
    if_missing: bool,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let admin = client.admin();
    let settings = TopicSettings { replicas };
    let made = if if_missing {
        admin.ensure_topic(&topic, settings).await
    } else {
        admin.create_topic(&topic, settings).await
    };
    let made = match made {
        Err(AdminError::TopicExists { .. }) => {
            return Err(Failure::new(format!("there is a topic {topic} already"))
                .advise("append to it, or say --if-missing if that is fine"));
        }
        made => Shown::from(made?),
    };
    invocation.output.say(&made, |_| {
        format!("{topic} is there, kept by {}", made.replicas.join(", "))
    })
}

async fn edit(
    client: &Client,
    topic: &TopicName,
    replicas: u8,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let settings = TopicSettings { replicas };
    let edited = match client.admin().edit_topic(topic, settings).await {
        Err(AdminError::NoSuchTopic { .. }) => return Err(no_topic(client, topic).await),
        edited => Shown::from(edited?),
    };
    invocation.output.say(&edited, |_| {
        let kept = edited.replicas.join(", ");
        let replicas = Counted(replicas.into(), "member");
        format!("{topic} is to be kept by {replicas}, and is by {kept} now; `kontiki member status` shows what moves")
    })
}

async fn list(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    let topics = client.admin().list_topics().await?;
    let listed = Listed {
        topics: topics.into_iter().map(Shown::from).collect(),
    };
    if listed.topics.is_empty() && !invocation.output.json() {
        invocation
            .output
            .note("there are no topics yet; `kontiki topic create NAME` makes one");
        return Ok(());
    }
    invocation.output.say(&listed, |output| {
        let mut table = Table::new(["TOPIC", "RECORDS", "FIRST", "NEXT", "LEADER", "REPLICAS"]);
        for topic in &listed.topics {
            table.row([
                topic.name.as_str().into(),
                topic.records().into(),
                topic.first_offset.into(),
                topic.next_offset.into(),
                topic.leader().into(),
                topic.replicas.join(",").into(),
            ]);
        }
        table.render(output)
    })
}

async fn describe(
    client: &Client,
    topic: &TopicName,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let shown = match client.admin().describe_topic(topic).await {
        Err(AdminError::NoSuchTopic { .. }) => return Err(unknown_topic(client, topic).await),
        described => Shown::from(described?),
    };
    // Who may see the topic need not be one who may see what members do.
    let status = client.admin().status().await.ok();
    let described = Described {
        moves: status.and_then(|status| moving(&status, topic)),
        shown,
    };
    invocation.output.say(&described, |output| {
        let shown = &described.shown;
        let mut lines = vec![
            output.paint(Paint::Bold, &shown.name),
            format!("  records   {}", Thousands(shown.records())),
            format!("  first     {}", shown.first_offset),
            format!("  next      {}", shown.next_offset),
            format!("  leader    {}", shown.leader()),
            format!("  replicas  {}", shown.replicas.join(", ")),
            format!("  group     {}", shown.group),
        ];
        lines.extend(
            described
                .moves
                .iter()
                .map(|why| format!("  moves     {why}")),
        );
        lines.join("\n")
    })
}

async fn delete(
    client: &Client,
    topic: &TopicName,
    yes: bool,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let admin = client.admin();
    if !yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
        confirm(client, topic, invocation).await?;
    }
    match admin.delete_topic(topic).await {
        Err(AdminError::NoSuchTopic { .. }) => return Err(no_topic(client, topic).await),
        done => done?,
    }
    let deleted = Deleted {
        topic: topic.as_str(),
        deleted: true,
    };
    invocation
        .output
        .say(&deleted, |_| format!("{topic} is deleted"))
}

async fn confirm(
    client: &Client,
    topic: &TopicName,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let shown = match client.admin().describe_topic(topic).await {
        Err(AdminError::NoSuchTopic { .. }) => return Err(no_topic(client, topic).await),
        described => Shown::from(described?),
    };
    invocation.output.note(format_args!(
        "this deletes {topic} with {} for good; type its name to go on:",
        Counted(shown.records(), "record")
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    if answer.trim() == topic.as_str() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{topic} was not deleted: its name was not typed"
        )))
    }
}

/// That there is no such topic, and which one was probably meant, or else how to make it.
pub(crate) async fn unknown_topic(client: &Client, topic: &TopicName) -> Failure {
    match meant(client, topic).await {
        Ok(failure) => failure,
        Err(failure) => failure.advise(format!("make it with `kontiki topic create {topic}`")),
    }
}

/// The same, where nobody wants it to be made.
pub(crate) async fn no_topic(client: &Client, topic: &TopicName) -> Failure {
    meant(client, topic).await.unwrap_or_else(|failure| failure)
}

/// With the name that was probably meant, or as an error without one.
async fn meant(client: &Client, topic: &TopicName) -> Result<Failure, Failure> {
    let failure = Failure::new(format!("there is no topic {topic}"));
    // The suggestion is a courtesy: without it the sentence still stands.
    let known = client.admin().list_topics().await.unwrap_or_default();
    let names: Vec<&str> = known.iter().map(|topic| topic.name.as_str()).collect();
    match nearest(topic.as_str(), &names) {
        Some(name) => Ok(failure.advise(format!("did you mean {name}?"))),
        None => Err(failure),
    }
}
