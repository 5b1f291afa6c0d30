//! `kontiki init`: a new cluster, ready to be copied to its machines.

use std::path::PathBuf;

use kontiki_server::birth::MemberSpec;
use serde::Serialize;

use crate::{
    address::{next_port, parse_address, split_port},
    birth::{Born, birth, birth_of_one},
    exit::{Exit, Failure},
    invocation::Invocation,
    output::{Output, Paint},
    verbs::context::{Kept, keep_context},
};

/// The cluster to make
#[derive(Debug, clap::Args)]
#[command(after_help = "A cluster of one, to which others join while it serves:
  kontiki init --data n1 --name n1 --listen 10.0.0.1:7400
  kontiki serve --data n1
  kontiki token create --role node          # prints what `kontiki join` wants on another machine

All members at once:
  kontiki init --data cluster --member n1@10.0.0.1:7401 \\
      --member n2@10.0.0.2:7401 --member n3@10.0.0.3:7401
  scp -r cluster/n2 second:kontiki-n2       # and so on; cluster/ca stays at home
  kontiki serve --data kontiki-n2           # on its machine")]
pub(crate) struct Args {
    /// The folder to make it in: ca/, operator/, a folder for each member, and context.toml; of a cluster
    /// of one it is the member's own
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Make a cluster of one, and this is where others reach its member
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "members")]
    #[arg(value_parser = parse_address)]
    listen: Option<String>,

    /// Where peers reach it; the next port if not given
    #[arg(long, value_name = "HOST:PORT", requires = "listen", value_parser = parse_address)]
    listen_peers: Option<String>,

    /// A member: its name, where clients reach it, and where peers do (the next port if not given)
    #[arg(
        long = "member",
        value_name = "NAME@HOST:PORT[,HOST:PORT]",
        required_unless_present = "listen"
    )]
    #[arg(value_parser = parse_member)]
    members: Vec<MemberSpec>,

    /// What to call the context, and the member of a cluster of one
    #[arg(long, value_name = "NAME", default_value = "cluster")]
    #[arg(default_value_if("listen", clap::builder::ArgPredicate::IsPresent, "n1"))]
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

impl Made {
    fn of(born: &Born) -> Self {
        let members = born.members.iter().map(|(name, data)| MadeMember {
            name: name.clone(),
            data: data.clone(),
        });
        Self {
            cluster_id: born.cluster.to_string(),
            context: born.context_file.clone(),
            members: members.collect(),
        }
    }
}

/// Does it.
pub(crate) fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    if let Some(address) = &args.listen {
        return alone(&args, address, invocation);
    }
    let born = birth(&args.data, &args.name, &args.members, args.auto_create)?;
    let made = Made::of(&born);
    invocation
        .output
        .say(&made, |output| next_steps(&born, &args.data, output))?;
    Ok(Exit::Done)
}

/// A cluster of one, which knows how to let others in.
fn alone(args: &Args, address: &str, invocation: &Invocation) -> Result<Exit, Failure> {
    let peer_address = match &args.listen_peers {
        Some(peers) => peers.clone(),
        None => next_port(address).map_err(Failure::usage)?,
    };
    let member = MemberSpec {
        name: args.name.clone(),
        address: address.to_owned(),
        peer_address,
    };
    let born = birth_of_one(&args.data, &member, args.auto_create)?;
    let kept = keep_context(&born.context)?;
    let made = Made::of(&born);
    let data = args.data.display();
    invocation.output.say(&made, |output| {
        let bold = |text: String| format!("  {}", output.paint(Paint::Bold, &text));
        let context = match &kept {
            Kept::Default => String::new(),
            Kept::Named(name) => format!("-c {name} "),
            Kept::File => format!("-c {} ", born.context_file.display()),
        };
        [
            format!("cluster {} is made, with the member {} in {data}", born.cluster, args.name),
            String::new(),
            "Start it:".to_owned(),
            bold(format!("kontiki serve --data {data}")),
            "Let another join, from here:".to_owned(),
            bold(format!("kontiki {context}token create --role node")),
            "and there, with what that printed:".to_owned(),
            bold("kontiki join --data n2 --name n2 --listen HOST:PORT TOKEN".to_owned()),
            format!("Keep {data}/ca safe: whoever has it can make members and operators. Elsewhere it is as good, if"),
            "`ca.dir` in the kontiki.toml of some member says where; without it nobody can join.".to_owned(),
        ]
        .join("\n")
    })?;
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
