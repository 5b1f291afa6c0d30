//! `kontiki cert`: what certificates say, how they are renewed, and how they are taken back.

mod rotation;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kontiki_client::{Client, Context, Papers, Whom, joining::join};
use kontiki_server::{MemberFile, own};
use kontiki_transport::{Certificate, Role, Token, authority_fingerprint, authority_fingerprints};
use kontiki_wire::{Seat, Versions};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{
    certificate,
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    output::{Cell, Paint, Table},
    renewal,
};

/// How long the cluster may take to answer unless told otherwise.
const ANSWER_DEFAULT: Duration = Duration::from_secs(30);
/// How long a status waits for what is wrong with certificates.
const WARNINGS_MAX: Duration = Duration::from_secs(1);

/// What can be done with certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show who a certificate says one is, and until when
    #[command(after_help = "Examples:
  kontiki cert show                  # the one of the context in use
  kontiki cert show n1/certs/node.pem
  kontiki cert show --members        # what every member shows, as the cluster knows it")]
    Show {
        /// A certificate's PEM file; the one of the context in use if not given
        file: Option<PathBuf>,

        /// Show what every member shows
        #[arg(long, conflicts_with = "file")]
        members: bool,
    },
    /// Get another certificate for the same key and name, good for longer
    #[command(
        after_help = "Members and contexts renew theirs by themselves, when two thirds of their time are over. \
This is for those that could not:
  kontiki cert renew                          # the one of the context in use, from a member that signs
  kontiki cert renew --data n2 TOKEN          # a member's that has expired, with a token for a node
  kontiki cert renew --data n1                # that of a member that signs itself
  kontiki cert renew --data n1 --ca cluster/ca
A member that runs shows the new one at once."
    )]
    Renew(RenewArgs),
    /// Take certificates back: live connections of their bearers end, and no new ones begin
    #[command(after_help = "Examples:
  kontiki cert revoke shop             # all that clients called shop have; who logs in anew is let in
  kontiki cert revoke producer/shop    # those of that role alone
  kontiki cert revoke serial:52c0…     # the one with this serial number, as `cert show` says it
A member's is taken back with `kontiki member remove`.")]
    Revoke {
        /// A name, a role and a name, or a serial number after `serial:`
        #[arg(value_name = "NAME|SERIAL", value_parser = parse_whom)]
        whom: Whom,
    },
    /// Replace the authorities that sign certificates, while the cluster serves
    #[command(subcommand, name = "rotate-ca")]
    #[command(after_help = "In this order:
  kontiki cert rotate-ca begin       # new authorities are made, and believed beside the old ones
  kontiki cert rotate-ca sign        # they sign: members renew at once, contexts with their next command
  kontiki cert rotate-ca finish      # the old ones are believed no more
  kontiki cert rotate-ca status      # at any time: how far it is, and what is next
The keys of the new authorities are made where those of the old ones lie, and do not leave that folder.")]
    RotateCa(rotation::Step),
}

/// Whose certificate to renew
#[derive(Debug, clap::Args)]
pub(crate) struct RenewArgs {
    /// What `kontiki token create --role node` printed
    #[arg(value_name = "TOKEN", env = "KONTIKI_TOKEN", hide_env_values = true)]
    #[arg(requires = "data", conflicts_with = "ca")]
    token: Option<String>,

    /// The folder of the member whose certificate it is
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Sign it with the authorities in this folder, without asking the cluster
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(verb: Verb, invocation: &Invocation) -> Result<Exit, Failure> {
    match verb {
        Verb::Show { members: true, .. } => show_members(invocation).await?,
        Verb::Show { file, .. } => show(file, invocation)?,
        Verb::Renew(args) => renew(args, invocation).await?,
        Verb::Revoke { whom } => revoke(whom, invocation).await?,
        Verb::RotateCa(step) => return rotation::run(step, invocation).await,
    }
    Ok(Exit::Done)
}

fn show(file: Option<PathBuf>, invocation: &Invocation) -> Result<(), Failure> {
    let file = match file {
        Some(file) => file,
        None => Context::load(invocation.context_file()?)?.certificate,
    };
    let pem = fs::read_to_string(&file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let shown = Certificate::from_pem(&pem)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    certificate::say(&file, &shown, invocation)
}

#[derive(Serialize)]
struct Members {
    members: Vec<MemberShown>,
    revoked: Vec<String>,
}

#[derive(Serialize)]
struct MemberShown {
    name: String,
    id: u64,
    serial: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    expired: bool,
    /// SHA-256 of the authority that has signed it, and of all whose nodes and clients the member lets in.
    signed_by: Option<String>,
    trusts: Vec<String>,
    trouble: Option<String>,
}

async fn show_members(invocation: &Invocation) -> Result<(), Failure> {
    let client = invocation.connect().await?;
    let trust = client.admin().trust().await?;
    let members = client.admin().members().await?;
    leave(&client).await;
    let now = SystemTime::now();
    let members = members.into_iter().map(|member| {
        let papers = trust.papers_of(member.id);
        MemberShown {
            name: member.name,
            id: member.id,
            serial: papers.map(|papers| papers.serial.clone()),
            not_before: papers
                .map(|papers| certificate::rfc3339(certificate::time(papers.not_before))),
            not_after: papers
                .map(|papers| certificate::rfc3339(certificate::time(papers.not_after))),
            expired: papers.is_some_and(|papers| certificate::time(papers.not_after) <= now),
            signed_by: papers.map(|papers| hexadecimal(&papers.signed_by)),
            trusts: papers.map_or_else(Vec::new, |papers| {
                papers.trusts.iter().map(hexadecimal).collect()
            }),
            trouble: papers.and_then(|papers| papers.trouble.clone()),
        }
    });
    let listed = Members {
        members: members.collect(),
        revoked: trust
            .revoked
            .iter()
            .filter_map(|one| words(&one.whom))
            .collect(),
    };
    invocation.output.say(&listed, |output| {
        let mut table = Table::new([
            "MEMBER",
            "VALID UNTIL",
            "SERIAL",
            "AUTHORITY",
            "TRUSTS",
            "TROUBLE",
        ]);
        for member in &listed.members {
            let until = member.not_after.clone().unwrap_or_else(|| "-".to_owned());
            let until = match (member.expired, &member.trouble) {
                (true, _) => Cell::painted(format!("{until} (expired)"), Paint::Bad),
                (false, Some(_)) => Cell::painted(until, Paint::Warn),
                (false, None) => until.into(),
            };
            let trusts: Vec<&str> = member.trusts.iter().map(|root| short(root)).collect();
            table.row([
                member.name.as_str().into(),
                until,
                member.serial.as_deref().unwrap_or("-").into(),
                member.signed_by.as_deref().map_or("-", short).into(),
                trusts.join(" ").into(),
                member.trouble.as_deref().unwrap_or("-").into(),
            ]);
        }
        let mut text = table.render(output);
        if !listed.revoked.is_empty() {
            text.push_str(&format!("\nrevoked: {}", listed.revoked.join(", ")));
        }
        text
    })
}

/// Enough of a fingerprint to tell a few authorities apart.
fn short(fingerprint: &str) -> &str {
    &fingerprint[..8]
}

fn hexadecimal(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As it is written on the command line; nothing of a member's key, which went with its member.
fn words(whom: &Whom) -> Option<String> {
    match whom {
        Whom::Serial(serial) => Some(serial.clone()),
        Whom::Name { role: None, name } => Some(name.clone()),
        Whom::Name {
            role: Some(role),
            name,
        } => Some(format!("{role}/{name}")),
        Whom::Key(_) => None,
    }
}

/// What is wrong with members' certificates, or will be soon: a sentence each.
pub(crate) async fn warnings(client: &Client) -> Vec<String> {
    // A status is worth having without it, and most of all where nobody leads who could say it.
    let admin = client.admin();
    let asked = timeout(WARNINGS_MAX, async {
        tokio::join!(admin.trust(), admin.members())
    });
    let Ok((Ok(trust), Ok(members))) = asked.await else {
        return Vec::new();
    };
    let papers = members
        .iter()
        .filter_map(|one| trust.papers_of(one.id).map(|papers| (one, papers)));
    papers
        .filter_map(|(member, papers)| warning(&member.name, papers))
        .collect()
}

fn warning(name: &str, papers: &Papers) -> Option<String> {
    let until = certificate::time(papers.not_after);
    let expired = until <= SystemTime::now();
    let why = match (&papers.trouble, expired) {
        (None, false) => return None,
        (Some(why), _) => format!(" and could not be renewed: {why}"),
        (None, true) => String::new(),
    };
    let ends = if expired { "has expired on" } else { "ends on" };
    Some(format!(
        "the certificate of {name} {ends} {}{why}; `kontiki cert renew --data DIR TOKEN` on its machine mends it",
        certificate::rfc3339(until)
    ))
}

#[derive(Serialize)]
struct RenewedShown {
    file: PathBuf,
    not_after: String,
}

async fn renew(args: RenewArgs, invocation: &Invocation) -> Result<(), Failure> {
    let (file, until) = match (&args.data, &args.ca, &args.token) {
        (Some(data), _, Some(token)) => {
            let until = of_member_by_token(data, token, invocation).await?;
            (data.join("certs/node.pem"), until)
        }
        (Some(data), ca, None) => {
            let until = own::renew(data, ca.as_deref())?;
            (data.join("certs/node.pem"), until)
        }
        (None, Some(ca), _) => of_context_by_authority(ca, invocation).await?,
        (None, None, _) => of_context(invocation).await?,
    };
    let renewed = RenewedShown {
        not_after: certificate::rfc3339(until),
        file,
    };
    invocation.output.say(&renewed, |_| {
        format!(
            "{} is good until {}",
            renewed.file.display(),
            renewed.not_after
        )
    })
}

/// Another one for the context in use, from a member that signs.
async fn of_context(invocation: &Invocation) -> Result<(PathBuf, SystemTime), Failure> {
    let context = Context::load(invocation.context_file()?)?;
    let client = invocation.connect().await?;
    renewal::renew(&client, &context).await?;
    leave(&client).await;
    let shown = renewal::shown_by(&context).map(|shown| shown.not_after);
    Ok((context.certificate, shown.unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// Another one for the context in use, signed here; it is good when this is done.
async fn of_context_by_authority(
    ca: &Path,
    invocation: &Invocation,
) -> Result<(PathBuf, SystemTime), Failure> {
    let context = Context::load(invocation.context_file()?)?;
    let renewed = own::renew_client(ca, &renewal::read(&context.certificate)?)?;
    let (roots, theirs) = (renewal::read(&context.ca)?, renewed.node_root_pem);
    let unusable = |error: kontiki_transport::Error| Failure::new(error.to_string());
    let by = authority_fingerprint(&theirs).map_err(unusable)?;
    let believed = authority_fingerprints(&roots).map_err(unusable)?;
    // Whoever has the keys says who signs members' certificates.
    let roots = match believed.contains(&by) {
        true => roots,
        false => theirs + &roots,
    };
    let begins = Certificate::from_pem(&renewed.certificate_pem).map_err(unusable)?;
    let begins = begins.not_before.duration_since(SystemTime::now());
    sleep(begins.unwrap_or_default()).await;
    renewal::put(&context, &renewed.certificate_pem, &roots)?;
    let shown = renewal::shown_by(&context).map(|shown| shown.not_after);
    Ok((context.certificate, shown.unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// Another one for a member, which cannot ask by itself any more: a token vouches for it.
async fn of_member_by_token(
    data: &Path,
    token: &str,
    invocation: &Invocation,
) -> Result<SystemTime, Failure> {
    let token: Token = token.parse().map_err(Failure::usage)?;
    if token.role != Role::Node {
        return Err(
            Failure::usage(format!("this token is for a client, as {}", token.role))
                .advise("`kontiki token create --role node` makes one for a member"),
        );
    }
    let member = MemberFile::load(data)?;
    if member.cluster != token.cluster {
        return Err(Failure::new(format!(
            "this token is of cluster {}, and {} of {}",
            token.cluster, member.name, member.cluster
        )));
    }
    let me = member.me();
    let seat = Seat::Member {
        address: me.address.clone(),
        peer_address: me.peer_address.clone(),
        versions: Versions::MINE,
    };
    let key = own::key_of(data)?;
    let deadline = invocation.timeout.unwrap_or(ANSWER_DEFAULT);
    let admitted = join(&token, &key, &member.name, seat, deadline).await?;
    let known = admitted.welcome.birth.as_ref().map(|birth| birth.me.id);
    if known != Some(me.id) {
        return Err(Failure::new(format!(
            "the cluster does not know {} any more; let it join anew, with an empty folder",
            member.name
        )));
    }
    Ok(own::keep_renewed(data, &admitted.welcome.certificate)?)
}

#[derive(Serialize)]
struct RevokedShown {
    revoked: String,
}

async fn revoke(whom: Whom, invocation: &Invocation) -> Result<(), Failure> {
    let client = invocation.connect().await?;
    client.admin().revoke_certificates(whom.clone()).await?;
    leave(&client).await;
    let revoked = RevokedShown {
        revoked: words(&whom).unwrap_or_default(),
    };
    invocation.output.say(&revoked, |_| {
        format!(
            "{} is let in no more: members end its connections within seconds",
            revoked.revoked
        )
    })
}

/// Digits from which on a word may well be a serial number.
const SERIAL_DIGITS_MIN: usize = 32;

/// `NAME`, `ROLE/NAME`, a whole identity, or a serial number: after `serial:`, or with colons in it, which no name
/// has. What could be a name and a serial number is neither: to take nothing back and say so is what the thief
/// would like.
fn parse_whom(text: &str) -> Result<Whom, String> {
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (named_serial, word) = match text.strip_prefix("serial:") {
        Some(word) => (true, word),
        None => (false, text),
    };
    let plain = word.replace(':', "").to_ascii_lowercase();
    if named_serial || (word.contains(':') && is_hex(&plain)) {
        return match is_hex(&plain) && !plain.is_empty() {
            true => Ok(Whom::Serial(plain)),
            false => Err(format!(
                "{word:?} is no serial number: those are hexadecimal"
            )),
        };
    }
    if plain.len() >= SERIAL_DIGITS_MIN && is_hex(&plain) {
        return Err(format!(
            "{text:?} may be a name or a serial number: write `serial:{plain}`, or ROLE/NAME"
        ));
    }
    let of_identity = text
        .strip_prefix("kontiki://")
        .and_then(|rest| rest.split_once('/'));
    let text = of_identity.map_or(text, |(_, rest)| rest);
    let (role, name) = match text.split_once('/') {
        Some((role, name)) => (Some(role.parse::<Role>()?), name),
        None => (None, text),
    };
    // What no certificate can name, none does.
    let named = kontiki_transport::Identity::new(kontiki_client::ClusterId(0), Role::Node, name);
    named.map_err(|why| format!("{name:?} is nobody's name: {why}"))?;
    Ok(Whom::Name {
        role,
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_role_and_a_name_an_identity_and_a_serial_are_told_apart() {
        let named = |role, name: &str| {
            let name = name.to_owned();
            Ok(Whom::Name { role, name })
        };
        assert_eq!(parse_whom("shop"), named(None, "shop"));
        assert_eq!(parse_whom("beef"), named(None, "beef"));
        assert_eq!(
            parse_whom("producer/shop"),
            named(Some(Role::Producer), "shop")
        );
        let identity = format!("kontiki://{:032x}/consumer/x", 7);
        assert_eq!(parse_whom(&identity), named(Some(Role::Consumer), "x"));
        let serial = "52:C0".repeat(8);
        let plain = "52c0".repeat(8);
        assert_eq!(parse_whom(&serial), Ok(Whom::Serial(plain.clone())));
        assert_eq!(
            parse_whom("serial:1001"),
            Ok(Whom::Serial("1001".to_owned()))
        );
        let both = parse_whom(&plain).unwrap_err();
        assert!(both.contains(&format!("serial:{plain}")), "{both}");
        assert_eq!(
            parse_whom(&format!("producer/{plain}")),
            named(Some(Role::Producer), &plain)
        );
        for wrong in [
            "",
            "boss/x",
            "producer/",
            "A B",
            "a/b/c",
            "serial:",
            "serial:shop",
        ] {
            assert!(parse_whom(wrong).is_err(), "{wrong}");
        }
    }
}
