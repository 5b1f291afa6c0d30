//! Whether others of the cluster live: to go on alone is for when they do not, and never will again.

use std::{mem, path::Path, time::Duration};

use bytes::BytesMut;
use kontiki_transport::{Connection, Endpoint, Error, Expect, Plane};
use kontiki_wire::{MemberInfo, PeerHello, PeerLane, Versions};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    dialling::dial,
    links::{CLOSE_GONE, CLOSE_OUTDATED},
    member::{MemberFile, node_ref},
    own::credentials,
    recovery::Report,
};

/// Who answers does so in a fraction of it.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What another member has come to.
enum Found {
    /// It does not answer.
    Silent,
    /// It is a member in the same life of the cluster as this one.
    Lives,
    /// It answers, and says or shows that things are otherwise.
    Says(String),
}

/// Asks the others that a report of [`look`](super::look) names whether they live, each by its certificate, two
/// seconds at most. Gives the report with what they object to a recovery, and with who was not reached.
pub async fn ask(dir: &Path, mut report: Report) -> Report {
    let others = mem::take(&mut report.others);
    let found = match asked(dir, others).await {
        Ok(found) => found,
        Err(why) => {
            let what = format!("the other members cannot be asked whether they live: {why}");
            report.objections.push(what);
            return report;
        }
    };
    let (mut living, mut silent) = (Vec::new(), Vec::new());
    for (name, found) in found {
        match found {
            Found::Silent => silent.push(name),
            Found::Lives => living.push(name),
            Found::Says(what) => report.objections.push(what),
        }
    }
    if !living.is_empty() {
        report.objections.push(lives(&report, &living));
    }
    if !silent.is_empty() {
        report.unknown.push(format!(
            "whether {} live where this machine does not reach them: they did not answer within {} s",
            silent.join(", "),
            ANSWER_MAX.as_secs()
        ));
    }
    report
}

/// What is wrong with a recovery beside these.
fn lives(report: &Report, living: &[String]) -> String {
    let own = report.groups.iter().find(|group| group.topic.is_none());
    let voters = own.map_or(&[][..], |own| &own.voters);
    let (me, dir) = (&report.member, report.dir.display());
    let answer = match living {
        [one] => format!("{one} answers"),
        all => format!("{} answer", all.join(", ")),
    };
    match is_majority(voters, me, living) {
        true => format!(
            "{answer}, a majority together with {me}: nothing is lost for good, start it (`kontiki serve --data \
             {dir}`). If it goes on alone nevertheless there are two clusters, and neither has what the other one \
             acknowledges"
        ),
        false => format!(
            "{answer}, too few for a majority with {me}: whoever is given up must not run, or clients may be served \
             what is not here. Look which of them has most, and stop the others first"
        ),
    }
}

/// Whether this member and those who live could go on without the rest.
fn is_majority(voters: &[String], me: &String, living: &[String]) -> bool {
    let up = voters.iter();
    let up = up.filter(|name| *name == me || living.contains(name));
    up.count() > voters.len() / 2
}

async fn asked(dir: &Path, others: Vec<MemberInfo>) -> Result<Vec<(String, Found)>, String> {
    let member = MemberFile::load(dir).map_err(|error| error.to_string())?;
    let credentials = credentials(dir, &member).map_err(|error| error.to_string())?;
    let endpoint = Endpoint::dialer(Plane::Peers, &credentials);
    let endpoint = endpoint.map_err(|error| error.to_string())?;
    let mut asking = JoinSet::new();
    for other in others {
        let (endpoint, hello) = (endpoint.clone(), hello(&member, &other));
        asking.spawn(async move {
            let found = meet(&endpoint, &other, &hello).await;
            (other.id, other.name, found)
        });
    }
    let mut found = asking.join_all().await;
    found.sort_by_key(|(id, ..)| *id);
    endpoint.close("that was all").await;
    Ok(found
        .into_iter()
        .map(|(_, name, found)| (name, found))
        .collect())
}

/// A link that carries nothing: on this lane no other is replaced by it.
fn hello(member: &MemberFile, to: &MemberInfo) -> PeerHello {
    PeerHello {
        cluster: member.cluster,
        epoch: member.epoch,
        from: node_ref(member.me()),
        to: node_ref(to),
        lane: PeerLane::Bulk,
        versions: Versions::MINE,
        renews: false,
        peer_address: member.me().peer_address.clone(),
    }
}

async fn meet(endpoint: &Endpoint, other: &MemberInfo, hello: &PeerHello) -> Found {
    let name = &other.name;
    let expect = Expect::Node(name.clone());
    let dialled = dial(endpoint, (&other.peer_address, None), &expect);
    let connection = match timeout(ANSWER_MAX, dialled).await {
        Ok(Ok(connection)) => connection,
        Err(_) | Ok(Err(Error::Lost(_) | Error::TimedOut(_))) => return Found::Silent,
        Ok(Err(why)) => return Found::Says(format!("somebody answers where {name} was: {why}")),
    };
    // Whoever is there lives, whether it says more or not.
    match timeout(ANSWER_MAX, code(&connection, hello)).await {
        Ok(Some(CLOSE_OUTDATED)) => Found::Says(format!(
            "{name} answers, and is of a later life of the cluster, which was recovered already: to have this \
             member back, let it join that with a new token and an empty directory"
        )),
        Ok(Some(CLOSE_GONE)) => Found::Says(format!(
            "{name} answers, and says that this member was removed: to have it back, let it join with a new token \
             and an empty directory"
        )),
        _ => Found::Lives,
    }
}

/// With which code a link is closed that wants nothing and is sent nothing.
async fn code(connection: &Connection, hello: &PeerHello) -> Option<u32> {
    let (mut writer, _reader) = connection.open().await.ok()?;
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    writer.write(out.freeze()).await.ok()?;
    writer.finish();
    match connection.closed().await {
        Error::Closed { code, .. } => u32::try_from(code).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_one_of_those_who_vote() {
        let named =
            |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        let five = named(&["n1", "n2", "n3", "n4", "n5"]);
        for (voters, living, majority) in [
            (&five[..], &["n2"][..], false),
            (&five, &["n2", "n3"], true),
            (&five, &["n2", "n9"], false),
            (&five[..2], &["n2"], true),
            (&five[1..4], &["n2"], false),
            (&[], &["n2"], false),
        ] {
            let is = is_majority(voters, &"n1".to_owned(), &named(living));
            assert_eq!(is, majority, "{living:?} of {voters:?}");
        }
    }
}
