//! The command line: what can be asked, and which verb answers.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, parse_duration},
    logging::{self, LogFormat},
    output::Output,
    verbs::{
        append, bench, cert, cluster, completion, context, dev, init, join, leader, login, member,
        read, recover, serve, sim, token, topic, verify,
    },
};

const ABOUT: &str = "A replicated message log: append records to topics, read them back in the same \
order everywhere, lose none.";

const START: &str = "Start here:
  kontiki dev                                   three members on this machine, until Ctrl-C
  echo hello | kontiki append greetings         in another terminal
  kontiki read greetings --from earliest -f     history, then what comes";

/// All of the command line.
#[derive(Debug, Parser)]
#[command(name = "kontiki", version, about = ABOUT)]
#[command(after_help = format!("{START}\n\n{}", Exit::help()), max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The cluster to talk to: a context file, a folder with a context.toml, or a context's name
    /// (see `kontiki context list`); the default context if not given
    #[arg(
        short,
        long,
        global = true,
        env = "KONTIKI_CONTEXT",
        value_name = "FILE|NAME"
    )]
    #[arg(help_heading = "Global options", hide_env_values = true)]
    context: Option<String>,

    /// Print data as JSON, one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,

    /// How long to wait for members, a leader or a quorum: seconds, or a span such as 500ms; 10 s if
    /// not given, and 30 s for an append
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    #[arg(help_heading = "Global options")]
    timeout: Option<Duration>,

    /// Log this to stderr: a level (error, warn, info, debug, trace) or a filter such as
    /// info,kontiki_client=debug
    #[arg(long, global = true, env = "KONTIKI_LOG", value_name = "FILTER")]
    #[arg(help_heading = "Global options", hide_env_values = true)]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine, to try things out and to develop against
    Dev(dev::Args),
    /// Make a new cluster: authorities, certificates and a data directory for each member
    Init(init::Args),
    /// Run one member of a cluster
    Serve(serve::Args),
    /// Become a member of a cluster that serves, with a token
    Join(join::Args),
    /// Make tokens, with which others join or log in
    #[command(subcommand)]
    Token(token::Verb),
    /// Become a client of a cluster, with a token
    Login(login::Args),
    /// List members, remove or replace them, and see what they keep
    #[command(subcommand)]
    Member(member::Verb),
    /// Take the topics of a member away for a while
    #[command(subcommand)]
    Node(member::NodeVerb),
    /// Make, list, describe, edit or delete topics
    #[command(subcommand)]
    Topic(topic::Verb),
    /// Append records to a topic, one a line
    Append(append::Args),
    /// Read a topic: history, and with -f what comes
    Read(read::Args),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Check that what is on the disks is what was written
    Verify(verify::Args),
    /// Go on with what one member has when a majority is lost for good
    Recover(recover::Args),
    /// Say who leads
    #[command(subcommand)]
    Leader(leader::Verb),
    /// Look at certificates, renew them, take them back
    #[command(subcommand)]
    Cert(cert::Verb),
    /// List contexts, show one, or choose the default
    #[command(subcommand)]
    Context(context::Verb),
    /// Measure a cluster: throughput, latency and what it costs
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Break simulated clusters on purpose, repeatably
    Sim(sim::Args),
    /// Print completions for a shell
    Completion(completion::Args),
}

impl Cli {
    /// The global options, understood, and the verb.
    pub(crate) fn split(self) -> (Invocation, Command) {
        let invocation = Invocation {
            output: Output::new(self.json),
            context: self.context.filter(|given| !given.is_empty()),
            timeout: self.timeout,
            log: self.log,
        };
        (invocation, self.command)
    }
}

/// Does what was asked.
pub(crate) async fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    // A member's log is a matter of its configuration too.
    let serves = match &command {
        Command::Serve(_) => true,
        Command::Join(args) => args.serves(),
        _ => false,
    };
    if !serves {
        logging::start(
            invocation.log.as_deref().unwrap_or("error"),
            LogFormat::Text,
        )?;
    }
    match command {
        Command::Dev(args) => dev::run(args, invocation).await,
        Command::Init(args) => init::run(args, invocation),
        Command::Serve(args) => serve::run(args, invocation).await,
        Command::Join(args) => join::run(args, invocation).await,
        Command::Token(verb) => token::run(verb, invocation).await,
        Command::Login(args) => login::run(args, invocation).await,
        Command::Member(verb) => member::run(verb, invocation).await,
        Command::Node(verb) => member::run_node(verb, invocation).await,
        Command::Topic(verb) => topic::run(verb, invocation).await,
        Command::Append(args) => append::run(args, invocation).await,
        Command::Read(args) => read::run(args, invocation).await,
        Command::Cluster(verb) => cluster::run(verb, invocation).await,
        Command::Verify(args) => verify::run(args, invocation).await,
        Command::Recover(args) => recover::run(args, invocation).await,
        Command::Leader(verb) => leader::run(verb, invocation).await,
        Command::Cert(verb) => cert::run(verb, invocation).await,
        Command::Context(verb) => context::run(verb, invocation),
        Command::Bench(verb) => bench::run(verb, invocation).await,
        Command::Sim(args) => sim::run(args, invocation),
        Command::Completion(args) => completion::run::<Cli>(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for words in [
            ["kontiki", "-c", "dev", "--json", "topic", "list"],
            ["kontiki", "topic", "list", "--json", "-c", "dev"],
        ] {
            let (invocation, command) = Cli::try_parse_from(words).unwrap().split();
            assert!(invocation.output.json());
            assert_eq!(invocation.context.as_deref(), Some("dev"));
            assert!(matches!(command, Command::Topic(_)));
        }
    }

    #[test]
    fn every_verb_and_option_says_what_it_is_for() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
