//! `kontiki init`: a new cluster, ready to be copied to its machines.

use std::path::PathBuf;

use kontiki_server::birth::MemberSpec;
use serde::Serialize;

use crate::{
    birth::{Born, birth},
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Output, Paint},
};

/// The cluster to make
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kontiki init --data cluster --member n1@10.0.0.1:7401 \\
      --member n2@10.0.0.2:7401 --member n3@10.0.0.3:7401
  scp -r cluster/n2 second:kontiki-n2       # and so on; cluster/ca stays at home
  kontiki serve --data kontiki-n2           # on its machine")]
pub(crate) struct Args {
    /// The folder to make it in: ca/, operator/, a folder for each member, and context.toml
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// A member: its name, where clients reach it, and where peers do (the next port if not given)
    #[arg(
        long = "member",
        value_name = "NAME@HOST:PORT[,HOST:PORT]",
        required = true
    )]
    #[arg(value_parser = parse_member)]
    members: Vec<MemberSpec>,

    /// What to call the context
    #[arg(long, value_name = "NAME", default_value = "cluster")]
    name: String,

    /// Let an append to a topic that is missing make it
    #[arg(long)]
    auto_create: bool,
}

#[derive(Serialize)]
struct Made {
    cluster_id: String,
    context: PathBuf,
    members: Vec<MadeMember>,
}

#[derive(Serialize)]
struct MadeMember {
    name: String,
    data: PathBuf,
}

/// Does it.
pub(crate) fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let born = birth(&args.data, &args.name, &args.members, args.auto_create)?;
    let made = Made {
        cluster_id: born.cluster.to_string(),
        context: born.context_file.clone(),
        members: born
            .members
            .iter()
            .map(|(name, data)| MadeMember {
                name: name.clone(),
                data: data.clone(),
            })
            .collect(),
    };
    invocation
        .output
        .say(&made, |output| next_steps(&born, &args.data, output))?;
    Ok(Exit::Done)
}

fn next_steps(born: &Born, dir: &std::path::Path, output: Output) -> String {
    let mut lines = vec![
        format!("cluster {} is made in {}", born.cluster, dir.display()),
        String::new(),
    ];
    lines.push("Start each member on its machine; its folder may be copied there:".into());
    for (name, _) in &born.members {
        let command = format!("kontiki serve --data {}", dir.join(name).display());
        lines.push(format!("  {}", output.paint(Paint::Bold, &command)));
    }
    let context = dir.join("context.toml");
    lines.push("Then, from here:".into());
    for command in ["cluster status --wait-healthy", "topic create greetings"] {
        let command = format!("kontiki -c {} {command}", context.display());
        lines.push(format!("  {}", output.paint(Paint::Bold, &command)));
    }
    lines.push(format!(
        "Keep {} safe: whoever has it can make members and operators.",
        dir.join("ca").display()
    ));
    lines.join("\n")
}

/// `NAME@HOST:PORT`, or `NAME@HOST:PORT,HOST:PORT` with the peers' address.
fn parse_member(text: &str) -> Result<MemberSpec, String> {
    const FORM: &str = "write NAME@HOST:PORT, as in n1@10.0.0.1:7401, or NAME@HOST:PORT,HOST:PORT with where peers reach it";
    let (name, addresses) = text
        .split_once('@')
        .ok_or_else(|| format!("{text:?} has no name; {FORM}"))?;
    let (address, peer_address) = match addresses.split_once(',') {
        Some((address, peers)) => (address, peers.to_owned()),
        None => (addresses, next_port(addresses)?),
    };
    for address in [address, &peer_address] {
        split_port(address).ok_or_else(|| format!("{address:?} is no address; {FORM}"))?;
    }
    Ok(MemberSpec {
        name: name.to_owned(),
        address: address.to_owned(),
        peer_address,
    })
}

fn next_port(address: &str) -> Result<String, String> {
    let (host, port) = split_port(address).ok_or_else(|| {
        format!("{address:?} is no address; write HOST:PORT, as in 10.0.0.1:7401")
    })?;
    let next = port.checked_add(1).ok_or_else(|| {
        format!("there is no port after {port}; say where peers reach it: {address},{host}:PORT")
    })?;
    Ok(format!("{host}:{next}"))
}

fn split_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Result<(String, String, String), String> {
        parse_member(text).map(|member| (member.name, member.address, member.peer_address))
    }

    #[test]
    fn peers_use_the_next_port_unless_said_otherwise() {
        let three = |name: &str, clients: &str, peers: &str| {
            Ok((name.to_owned(), clients.to_owned(), peers.to_owned()))
        };
        assert_eq!(
            member("n1@10.0.0.1:7401"),
            three("n1", "10.0.0.1:7401", "10.0.0.1:7402")
        );
        assert_eq!(member("n1@h:7401,p:7411"), three("n1", "h:7401", "p:7411"));
        assert_eq!(
            member("n1@[::1]:7401"),
            three("n1", "[::1]:7401", "[::1]:7402")
        );
    }

    #[test]
    fn what_is_no_member_is_refused_with_the_form() {
        for wrong in [
            "n1",
            "10.0.0.1:7401",
            "n1@10.0.0.1",
            "n1@:7401",
            "n1@h:0",
            "n1@h:70000",
            "n1@h:1,p",
        ] {
            let refused = member(wrong).unwrap_err();
            assert!(refused.contains("HOST:PORT"), "{wrong}: {refused}");
        }
        assert!(member("n1@h:65535").unwrap_err().contains("h:65535,h:PORT"));
    }
}
