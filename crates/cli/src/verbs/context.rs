//! `kontiki context`: which clusters this user knows, and which one is meant by default.

use std::path::PathBuf;

use kontiki_client::{Context, Contexts};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Cell, Paint, Table},
};

/// What can be done with contexts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the contexts of this user; the default one is marked
    List,
    /// Make a context the default
    Use {
        /// Its name, or a context file, which is copied
        #[arg(value_name = "NAME|FILE")]
        context: String,
    },
    /// Show how a context reaches its cluster
    Show {
        /// Its name or file; the one in use if not given
        #[arg(value_name = "NAME|FILE")]
        context: Option<String>,
    },
}

#[derive(Serialize)]
struct Listed {
    contexts: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    default: bool,
    file: PathBuf,
    #[serde(flatten)]
    content: Content,
}

/// What the file says, or why it cannot be read.
#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Read {
        cluster_id: String,
        addresses: Vec<String>,
        certificate: PathBuf,
        key: PathBuf,
        ca: PathBuf,
    },
    Unreadable {
        error: String,
    },
}

/// Does it.
pub(crate) fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    let contexts = Contexts::of_user()?;
    match verb {
        Verb::List => list(&contexts, invocation),
        Verb::Use { context } => choose(&contexts, &context, invocation),
        Verb::Show { context } => {
            let given = context.as_deref().or(invocation.context.as_deref());
            show(&contexts, given, invocation)
        }
    }?;
    Ok(Exit::Done)
}

fn list(contexts: &Contexts, invocation: &Invocation) -> Result<(), Failure> {
    let default = contexts.default_name()?;
    let mut listed = Listed {
        contexts: Vec::new(),
    };
    for name in contexts.names()? {
        let file = contexts.find(Some(&name))?;
        let content = match Context::load(&file) {
            Ok(context) => Content::from(context),
            Err(error) => Content::Unreadable {
                error: error.to_string(),
            },
        };
        listed.contexts.push(Shown {
            default: default.as_ref() == Some(&name),
            name,
            file,
            content,
        });
    }
    if listed.contexts.is_empty() && !invocation.output.json() {
        invocation
            .output
            .note("there are no contexts yet; `kontiki dev` makes one");
        return Ok(());
    }
    invocation.output.say(&listed, |output| {
        let mut table = Table::new(["", "NAME", "ADDRESSES", "CLUSTER"]);
        for context in &listed.contexts {
            let mark = if context.default { "*" } else { "" };
            let (addresses, cluster) = match &context.content {
                Content::Read {
                    addresses,
                    cluster_id,
                    ..
                } => (addresses.join(", ").into(), cluster_id.into()),
                Content::Unreadable { error } => {
                    (Cell::painted(error.as_str(), Paint::Bad), Cell::from("-"))
                }
            };
            table.row([
                mark.into(),
                context.name.as_str().into(),
                addresses,
                cluster,
            ]);
        }
        table.render(output)
    })
}

fn choose(contexts: &Contexts, given: &str, invocation: &Invocation) -> Result<(), Failure> {
    let file = contexts.find(Some(given))?;
    let context = Context::load(&file)?;
    if !contexts.keeps(&file) {
        let absolute = std::path::absolute(&file)
            .map_err(|error| Failure::new(format!("cannot find {}: {error}", file.display())))?;
        keep(contexts, &Context::load(absolute)?)?;
    }
    contexts.set_default(Some(&context.name))?;
    invocation.output.note(format_args!(
        "commands talk to {} ({}) now, unless --context says otherwise",
        context.name,
        context.addresses.join(", ")
    ));
    Ok(())
}

/// Keeps a context under its name, which is not taken from another cluster in passing.
pub(crate) fn keep(contexts: &Contexts, context: &Context) -> Result<(), Failure> {
    if contexts.names()?.contains(&context.name) {
        let kept = Context::load(contexts.find(Some(&context.name))?)?;
        if kept.cluster_id != context.cluster_id {
            return Err(Failure::new(format!(
                "the context {:?} is that of another cluster ({})",
                context.name,
                kept.addresses.join(", ")
            ))
            .advise("give this one another `name` in its file, or use it with --context FILE"));
        }
    }
    Ok(contexts.save(context)?)
}

/// How a context that was made in passing is found from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// It is the default.
    Default,
    /// By its name.
    Named(String),
    /// By its file only: its name is another cluster's.
    File,
}

/// Keeps a context for this user, if its name is not another cluster's, and makes it the default if there is
/// none.
pub(crate) fn keep_context(context: &Context) -> Result<Kept, Failure> {
    let contexts = Contexts::of_user()?;
    if keep(&contexts, context).is_err() {
        return Ok(Kept::File);
    }
    match contexts.default_name()? {
        Some(name) if name != context.name => Ok(Kept::Named(context.name.clone())),
        _ => {
            contexts.set_default(Some(&context.name))?;
            Ok(Kept::Default)
        }
    }
}

fn show(contexts: &Contexts, given: Option<&str>, invocation: &Invocation) -> Result<(), Failure> {
    let file = contexts.find(given)?;
    let context = Context::load(&file)?;
    let name = context.name.clone();
    let default = contexts.default_name()?.as_ref() == Some(&name);
    let shown = Shown {
        name,
        default,
        file,
        content: context.into(),
    };
    invocation.output.say(&shown, |output| {
        let mut lines = vec![output.paint(Paint::Bold, &shown.name)];
        let mut line = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
        line("file", shown.file.display().to_string());
        if let Content::Read {
            cluster_id,
            addresses,
            certificate,
            key,
            ca,
        } = &shown.content
        {
            line("cluster", cluster_id.clone());
            line("addresses", addresses.join(", "));
            line("certificate", certificate.display().to_string());
            line("key", key.display().to_string());
            line("authority", ca.display().to_string());
        }
        lines.join("\n")
    })
}

impl From<Context> for Content {
    fn from(context: Context) -> Self {
        Self::Read {
            cluster_id: context.cluster_id.to_string(),
            addresses: context.addresses,
            certificate: context.certificate,
            key: context.key,
            ca: context.ca,
        }
    }
}
