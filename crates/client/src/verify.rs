//! Has every member read its own log, and holds the replicas against each other.
//!
//! A group's entries are gone through block by block, by all its replicas at the same time. Each gives a
//! running checksum over what must be the same everywhere: index, term, offset and the body's checksum.
//! Where two differ, the first entry that does is found by halving the block.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use kontiki_wire::{GroupId, Refusal, Request, Response, Walked};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    connections::Member,
    error::AdminError,
    routing::{Metadata, Routing},
    status::Listed,
};

/// Entries after which the replicas' checksums are compared.
const BLOCK_ENTRIES: u64 = 1 << 14;
/// How long a member may take to say how far its log goes, which it knows.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(3);
/// How long it may take to read a piece of its log, which it does between other work.
const PIECE_TIME_MAX: Duration = Duration::from_secs(20);
/// Damaged stretches of one replica that are listed.
const DAMAGE_LISTED_MAX: usize = 100;

/// What the members of a cluster found in their logs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ClusterVerified {
    /// Which cluster, in hexadecimal.
    pub cluster_id: String,
    /// Whether these are all topics, and of each every replica was read to its end, nothing of it is
    /// damaged, and all are the same.
    pub sound: bool,
    /// Whether the leader of the cluster's own group has said that these are all topics.
    pub topics_confirmed: bool,
    /// The replicas, by topic and member; the cluster's own log first.
    pub replicas: Vec<ReplicaVerified>,
}

/// One replica's log as its member found it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ReplicaVerified {
    /// The topic; `None` is the cluster's own log.
    pub topic: Option<String>,
    /// Its group.
    #[serde(serialize_with = "number")]
    pub group: GroupId,
    /// The member.
    pub member: String,
    /// Sound entries read.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The last entry that was looked at.
    pub upto: u64,
    /// What cannot be read: the member repairs it by itself.
    pub damage: Vec<EntriesDamaged>,
    /// The first entry that is another one than most replicas have.
    pub differs_from: Option<u64>,
    /// Why it was not read, or not to its end.
    pub unread: Option<String>,
}

/// Entries that a member cannot read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct EntriesDamaged {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What is wrong, as the member says it.
    pub what: String,
}

impl ReplicaVerified {
    /// Whether it was read to its end, and nothing is wrong with it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.differs_from.is_none() && self.unread.is_none()
    }
}

/// A replica while it is gone through.
struct Replica {
    member: Option<Arc<Member>>,
    /// Its last committed entry when the walk began.
    end: u64,
    found: ReplicaVerified,
}

/// What one replica said of one block.
struct Block {
    at: usize,
    digest: u32,
    whole: bool,
}

/// Verifies all groups; `progress` is told how many entries of how many have been read.
pub(crate) async fn verify(
    routing: &Routing,
    listed: &Listed,
    mut progress: impl FnMut(u64, u64),
) -> Result<ClusterVerified, AdminError> {
    let Metadata { members, topics } = &listed.known;
    let everybody: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let mut groups = vec![(GroupId::CLUSTER, None, everybody)];
    let place = |name: &String| members.iter().position(|member| member.name == *name);
    for topic in topics {
        let name = Some(topic.name.to_string());
        let mut replicas = topic.replicas.clone();
        replicas.sort_by_key(place);
        groups.push((topic.group, name, replicas));
    }
    let mut silent = HashMap::new();
    let mut walks = Vec::new();
    for (group, topic, names) in groups {
        walks.push(begin(routing, group, topic, names, &mut silent).await?);
    }
    let ends = walks.iter().flatten().map(|replica| replica.end);
    let total = ends.fold(0, u64::saturating_add);
    let mut done: u64 = 0;
    for replicas in &mut walks {
        group(replicas, |entries| {
            done = done.saturating_add(entries);
            progress(done.min(total), total);
        })
        .await;
    }
    let replicas: Vec<_> = walks.into_iter().flatten().map(|one| one.found).collect();
    Ok(ClusterVerified {
        cluster_id: routing.cluster().to_string(),
        sound: listed.confirmed && replicas.iter().all(ReplicaVerified::is_sound),
        topics_confirmed: listed.confirmed,
        replicas,
    })
}

/// Asks the replicas of a group how far they go. Members that were `silent` when they were asked of
/// another group are not waited for again.
async fn begin(
    routing: &Routing,
    group: GroupId,
    topic: Option<String>,
    names: Vec<String>,
    silent: &mut HashMap<String, String>,
) -> Result<Vec<Replica>, AdminError> {
    let mut asked = JoinSet::new();
    let mut replicas = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let member = routing.member(&name);
        let unread = match (&member, silent.get(&name)) {
            (None, _) => Some("the member is not known".to_owned()),
            (Some(_), Some(why)) => Some(why.clone()),
            (Some(member), None) => {
                let member = Arc::clone(member);
                asked.spawn(async move {
                    let nothing = piece(&member, group, (1, 0), 0, BEGIN_TIME_MAX);
                    (at, nothing.await)
                });
                None
            }
        };
        replicas.push(Replica {
            member,
            end: 0,
            found: ReplicaVerified {
                topic: topic.clone(),
                group,
                member: name,
                entries: 0,
                bytes: 0,
                upto: 0,
                damage: Vec::new(),
                differs_from: None,
                unread,
            },
        });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((at, answer)) = answer else {
            continue;
        };
        match answer {
            Ok(walked) => replicas[at].end = walked.placed,
            Err(Unread::NotPermitted(what)) => {
                return Err(AdminError::NotPermitted { what: what.into() });
            }
            Err(Unread::Refused(why)) => replicas[at].found.unread = Some(why),
            Err(Unread::Silent(why)) => {
                silent.insert(replicas[at].found.member.clone(), why.clone());
                replicas[at].found.unread = Some(why);
            }
        }
    }
    Ok(replicas)
}

/// Goes through a group's replicas block by block.
async fn group(replicas: &mut [Replica], mut progress: impl FnMut(u64)) {
    let mut before = 0;
    while let Some(border) = border(replicas, before) {
        let first = before + 1;
        before = border;
        let mut walks = JoinSet::new();
        for (at, replica) in replicas.iter().enumerate() {
            let reads = replica.end >= border && replica.found.unread.is_none();
            if let Some(member) = replica.member.clone().filter(|_| reads) {
                let group = replica.found.group;
                walks.spawn(async move { (at, block(&member, group, (first, border)).await) });
            }
        }
        let mut blocks = Vec::new();
        while let Some(walked) = walks.join_next().await {
            let Ok((at, walked)) = walked else {
                continue;
            };
            let found = &mut replicas[at].found;
            found.entries = found.entries.saturating_add(walked.entries);
            found.bytes = found.bytes.saturating_add(walked.bytes);
            found.upto = walked.upto;
            blocks.push(Block {
                at,
                digest: walked.digest,
                whole: walked.damage.is_empty() && walked.unread.is_none(),
            });
            for damage in walked.damage {
                add_damage(&mut found.damage, damage);
            }
            found.unread = walked.unread;
            progress(border - first + 1);
        }
        compare(replicas, blocks, (first, border)).await;
    }
}

/// Where the next block ends: at a multiple of its size, or where a replica does. `None` if there is
/// nothing more to read.
fn border(replicas: &[Replica], before: u64) -> Option<u64> {
    let read = replicas.iter().filter(|one| one.found.unread.is_none());
    let end = read.map(|one| one.end).filter(|end| *end > before).min()?;
    let whole = (before / BLOCK_ENTRIES + 1).saturating_mul(BLOCK_ENTRIES);
    Some(end.min(whole))
}

/// Finds the replicas whose block is not the one that most have, and where they part from it.
async fn compare(replicas: &mut [Replica], blocks: Vec<Block>, range: (u64, u64)) {
    let same = |block: &Block| block.whole && replicas[block.at].found.differs_from.is_none();
    let mut by_digest: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for block in blocks.iter().filter(|block| same(block)) {
        by_digest.entry(block.digest).or_default().push(block.at);
    }
    let Some(most) = by_digest.values().max_by_key(|at| at.len()).cloned() else {
        return;
    };
    let [model, ..] = most[..] else {
        return;
    };
    for at in by_digest.into_values().flatten() {
        if !most.contains(&at) {
            let parting = parting(&replicas[model], &replicas[at], range).await;
            replicas[at].found.differs_from = Some(parting);
        }
    }
}

/// The first entry of a block in which two replicas differ. If one of them cannot tell any more, the
/// first that may be it.
async fn parting(one: &Replica, other: &Replica, (mut first, mut last): (u64, u64)) -> u64 {
    let (Some(a), Some(b)) = (&one.member, &other.member) else {
        return first;
    };
    let group = one.found.group;
    while first < last {
        let middle = first + (last - first) / 2;
        let (a, b) = tokio::join!(
            block(a, group, (first, middle)),
            block(b, group, (first, middle))
        );
        if a.unread.is_some() || b.unread.is_some() {
            break;
        }
        if a.digest == b.digest {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    first
}

/// What a replica said of a range of entries, all pieces together.
#[derive(Default)]
struct Range {
    upto: u64,
    digest: u32,
    entries: u64,
    bytes: u64,
    damage: Vec<EntriesDamaged>,
    unread: Option<String>,
}

async fn block(member: &Member, group: GroupId, (first, last): (u64, u64)) -> Range {
    let mut range = Range {
        upto: first - 1,
        ..Range::default()
    };
    while range.upto < last {
        let next = range.upto + 1;
        match piece(member, group, (next, last), range.digest, PIECE_TIME_MAX).await {
            // What makes no headway, or too much of it, is no answer.
            Ok(walked) if !(next..=last).contains(&walked.upto) => {
                range.unread = Some(format!("from entry {next} on: it does not say"));
                break;
            }
            Ok(walked) => range.add(walked),
            Err(Unread::Silent(why) | Unread::Refused(why) | Unread::NotPermitted(why)) => {
                range.unread = Some(format!("from entry {next} on: {why}"));
                break;
            }
        }
    }
    range
}

impl Range {
    fn add(&mut self, walked: Walked) {
        self.upto = walked.upto;
        self.digest = walked.digest;
        self.entries = self.entries.saturating_add(walked.entries);
        self.bytes = self.bytes.saturating_add(walked.bytes);
        for damage in walked.damage {
            add_damage(
                &mut self.damage,
                EntriesDamaged {
                    first: damage.first,
                    last: damage.last,
                    what: damage.what,
                },
            );
        }
    }
}

/// Lists one more damaged stretch. A member that meets damage tells where it begins before it knows how
/// far it goes.
fn add_damage(listed: &mut Vec<EntriesDamaged>, damage: EntriesDamaged) {
    if let Some(last) = listed.last_mut()
        && last.first == damage.first
    {
        last.last = last.last.max(damage.last);
    } else if listed.len() < DAMAGE_LISTED_MAX {
        listed.push(damage);
    }
}

/// Why a member does not say.
enum Unread {
    NotPermitted(String),
    Refused(String),
    /// It gives no answer.
    Silent(String),
}

async fn piece(
    member: &Member,
    group: GroupId,
    (first, last): (u64, u64),
    digest: u32,
    time: Duration,
) -> Result<Walked, Unread> {
    let request = Request::Walk {
        group,
        first,
        last,
        digest,
    };
    match member.ask(&request, time, Instant::now() + time).await {
        Ok(Response::Walked(walked)) => Ok(walked),
        Ok(Response::Refused(Refusal::NotPermitted { what })) => Err(Unread::NotPermitted(what)),
        Ok(Response::Refused(refusal)) => Err(Unread::Refused(refusal.to_string())),
        Ok(_) => Err(Unread::Refused(
            "it gave an answer to another question".to_owned(),
        )),
        Err(why) => Err(Unread::Silent(why.to_string())),
    }
}

fn number<S: serde::Serializer>(group: &GroupId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(group.0)
}
