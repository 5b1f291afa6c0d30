//! `kontiki token`: leave to join, or to log in, once.

use std::time::Duration;

use kontiki_client::{Client, Context, TokenId, TokenInfo, TokenSpec};
use kontiki_transport::{Role, Token};
use kontiki_wire::{
    TopicPattern,
    limits::{TOKEN_LIFE_SECONDS_MAX, TOKEN_TOPICS_MAX},
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave, parse_duration, refresh_context},
    moment::format_micros,
    output::{Cell, Paint, Table},
};

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Make a token and print it: whoever has it may join or log in, once
    #[command(after_help = "Examples:
  kontiki token create --role node
  kontiki join --data n2 --name n2 --listen 10.0.0.2:7400 TOKEN     # on another machine

  kontiki token create --role producer --ttl 10m --topics 'logs-*'
  kontiki login TOKEN                                               # wherever that producer is")]
    Create {
        /// What its bearer becomes: node, producer, consumer or operator
        #[arg(long)]
        role: Role,

        /// For how long it may be used; 30 days at most
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
        ttl: Duration,

        /// Confine its bearer to topics whose names match: `*` stands for any characters, `?` for one; may be
        /// given several times
        #[arg(long, value_name = "PATTERN")]
        topics: Vec<TopicPattern>,
    },
    /// List the tokens that have not expired, without their secrets
    List,
    /// Forget a token: it admits nobody any more
    Revoke {
        /// Its number, as `list` shows it
        id: TokenId,
    },
}

#[derive(Serialize)]
struct Created {
    token: String,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Serialize)]
struct Listed {
    tokens: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    role: &'static str,
    topics: Vec<String>,
    issued_at: String,
    expires_at: String,
    spent_by: Option<String>,
}

#[derive(Serialize)]
struct Revoked {
    id: String,
    revoked: bool,
}

impl From<TokenInfo> for Shown {
    fn from(info: TokenInfo) -> Self {
        Self {
            id: info.id.to_string(),
            role: info.role.as_str(),
            topics: info.topics,
            issued_at: format_micros(info.issued_at),
            expires_at: format_micros(info.expires_at),
            spent_by: info.spent,
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    if let Verb::Create { role, ttl, topics } = &verb {
        check(*role, *ttl, topics)?;
    }
    let client = invocation.connect().await?;
    match verb {
        Verb::Create { role, ttl, topics } => {
            create(&client, (role, ttl, topics), None, invocation).await
        }
        Verb::List => list(&client, invocation).await,
        Verb::Revoke { id } => revoke(&client, id, invocation).await,
    }?;
    leave(&client).await;
    Ok(Exit::Done)
}

pub(crate) fn check(role: Role, ttl: Duration, topics: &[TopicPattern]) -> Result<(), Failure> {
    if role == Role::Node && !topics.is_empty() {
        return Err(Failure::usage(
            "a member keeps what the cluster places on it: no token confines it to topics",
        ));
    }
    if topics.len() > TOKEN_TOPICS_MAX {
        return Err(Failure::usage(format!(
            "a token has at most {TOKEN_TOPICS_MAX} patterns of topics"
        )));
    }
    if !(1..=TOKEN_LIFE_SECONDS_MAX).contains(&ttl.as_secs()) {
        return Err(Failure::usage(
            "a token may be used for 1 second to 30 days, written like 10m, 1h or 7d",
        ));
    }
    Ok(())
}

/// Makes a token and prints it; `how` are the words that use it, before the token itself.
pub(crate) async fn create(
    client: &Client,
    (role, ttl, topics): (Role, Duration, Vec<TopicPattern>),
    how: Option<&str>,
    invocation: &Invocation,
) -> Result<(), Failure> {
    refresh_context(client, invocation).await;
    let context = Context::load(invocation.context_file()?)?;
    let unmade = |error: kontiki_transport::Error| Failure::new(error.to_string());
    let at = client.reception().await?;
    let token = Token::new(context.cluster_id, at.authority, role, at.addresses);
    let token = token.map_err(unmade)?;
    let spec = TokenSpec {
        id: TokenId(token.id),
        hash: token.hash(),
        role,
        topics: topics.iter().map(ToString::to_string).collect(),
        life_seconds: ttl.as_secs(),
    };
    let info = client.admin().create_token(spec).await?;
    let created = Created {
        token: token.to_string(),
        shown: info.into(),
    };
    invocation.output.say(&created, |_| created.token.clone())?;
    let how = how.unwrap_or(match role {
        Role::Node => "kontiki join --data DIR --name NAME --listen HOST:PORT",
        _ => "kontiki login",
    });
    if !invocation.output.json() {
        invocation.output.note(format_args!(
            "good once, until {}: {how} TOKEN",
            created.shown.expires_at
        ));
    }
    Ok(())
}

async fn list(client: &Client, invocation: &Invocation) -> Result<(), Failure> {
    let tokens = client.admin().tokens().await?;
    let listed = Listed {
        tokens: tokens.into_iter().map(Shown::from).collect(),
    };
    if listed.tokens.is_empty() && !invocation.output.json() {
        invocation
            .output
            .note("there are no tokens; `kontiki token create` makes one");
        return Ok(());
    }
    invocation.output.say(&listed, |output| {
        let mut table = Table::new(["TOKEN", "ROLE", "TOPICS", "EXPIRES", "SPENT BY"]);
        for token in &listed.tokens {
            let spent = match &token.spent_by {
                Some(name) => Cell::painted(name.as_str(), Paint::Plain),
                None => Cell::from("-"),
            };
            table.row([
                token.id.as_str().into(),
                token.role.into(),
                topics(&token.topics).into(),
                token.expires_at.as_str().into(),
                spent,
            ]);
        }
        table.render(output)
    })
}

/// To which topics a token confines its bearer.
fn topics(patterns: &[String]) -> String {
    match patterns.is_empty() {
        true => "all".to_owned(),
        false => patterns.join(", "),
    }
}

async fn revoke(client: &Client, id: TokenId, invocation: &Invocation) -> Result<(), Failure> {
    client.admin().revoke_token(id).await?;
    let revoked = Revoked {
        id: id.to_string(),
        revoked: true,
    };
    invocation
        .output
        .say(&revoked, |_| format!("token {id} admits nobody any more"))
}

/// A token from the command line. What is wrong is said without showing it.
pub(crate) fn read(text: &str) -> Result<Token, Failure> {
    text.parse::<Token>().map_err(Failure::usage)
}
