//! Five members elect a leader. A record is published. The leader is killed. The four that are left
//! elect another; a second record is published; every survivor shows both, in the same places.
//!
//! `cargo run --release --example failover` tells it as it happens, with real processes and a real
//! `kill -9`, and ends with 1 if any survivor lacks a record.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{BufRead, BufReader, Read},
    net::UdpSocket,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kontiki_client::{
    Client, ConnectOptions, From, MemberInfo, Offset, Record, TopicName, TopicSettings, Until,
};
use kontiki_server::{
    Config, Server,
    birth::{MemberSpec, birth_cluster},
};
use kontiki_transport::{Credentials, Endpoint, Expect, Plane};
use kontiki_wire::{ClientStream, Deliver, FrameKind, Subscribe, limits::CLIENT_FRAME_BYTES_MAX};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The story takes two seconds or so; after this long something is wrong.
const STORY_MAX: Duration = Duration::from_secs(60);
const MEMBERS: u8 = 5;

async fn story(clock: Instant) -> Outcome<()> {
    let tell = |text: String| tell(clock, &text);
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), clock)?;
    tell(format!(
        "{MEMBERS} members start, each a process of its own"
    ));

    let client = Client::lazy(cluster.options.clone())?;
    let topic: TopicName = "story".parse()?;
    let chief = leader(&client, None, "").await;
    tell(format!("{chief} leads the cluster"));
    let settings = TopicSettings { replicas: MEMBERS };
    client.admin().create_topic(&topic, settings).await?;
    let doomed = leader(&client, Some(&topic), "").await;
    tell(format!("{doomed} leads the topic {topic}"));

    let producer = client.topic(topic.as_str())?.producer();
    let first = producer.append(Record::new("first")).await?.offset;
    tell(format!("the first record is published, at offset {first}"));

    cluster.kill(&doomed)?;
    let killed = Instant::now();
    tell(format!("{doomed} is killed"));

    // Nobody tells the producer anything: it finds the new leader by itself.
    let second = producer.append(Record::new("second")).await?.offset;
    let gap = killed.elapsed().as_secs_f64();
    tell(format!(
        "the second record is published, at offset {second}, {gap:.2} s after the death"
    ));
    let chosen = leader(&client, Some(&topic), &doomed).await;
    tell(format!("{chosen} leads the topic {topic} now"));

    let due = [(first, "first".to_owned()), (second, "second".to_owned())];
    let mut lacking = Vec::new();
    for survivor in cluster.alive() {
        let shown = shown_by(survivor, &cluster.credentials, &topic, second).await?;
        let texts: Vec<String> = shown
            .iter()
            .map(|(at, text)| format!("{text} at {at}"))
            .collect();
        tell(format!("{} shows {}", survivor.name, texts.join(", ")));
        if shown != due {
            lacking.push(survivor.name.clone());
        }
    }
    if !lacking.is_empty() {
        return Err(format!("these do not show both: {}", lacking.join(", ")).into());
    }
    tell("every survivor shows both, in the same places".into());
    producer.close().await?;
    client.close().await;
    Ok(())
}

fn tell(clock: Instant, text: &str) {
    println!("{:6.2} s  {text}", clock.elapsed().as_secs_f64());
}

/// Who leads the topic, or the cluster itself; waits until somebody other than `not` does.
async fn leader(client: &Client, topic: Option<&TopicName>, not: &str) -> String {
    let admin = client.admin();
    loop {
        // While there is no quorum there is no answer either.
        let leader = match topic {
            None => admin.status().await.ok().and_then(|status| status.leader),
            Some(topic) => admin
                .describe_topic(topic)
                .await
                .ok()
                .and_then(|topic| topic.leader),
        };
        match leader {
            Some(leader) if leader != not => return leader,
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// What this very member delivers, asked on the wire: a client would take whichever member serves.
async fn shown_by(
    member: &MemberInfo,
    credentials: &Credentials,
    topic: &TopicName,
    last: Offset,
) -> Outcome<Vec<(Offset, String)>> {
    let dialer = Endpoint::dialer(Plane::Clients, credentials)?;
    let expected = Expect::Node(member.name.clone());
    let connection = dialer.connect(member.address.parse()?, expected).await?;
    let (mut writer, mut reader) = connection.open().await?;
    let mut bytes = BytesMut::new();
    ClientStream::Subscribe(Subscribe {
        topic: topic.clone(),
        group: None,
        epoch: None,
        from: From::Earliest,
        until: Until::Offset(Offset(last.0 + 1)),
    })
    .encode(&mut bytes);
    writer.write(bytes.freeze()).await?;

    let mut shown = Vec::new();
    while let Some(frame) = reader.next(CLIENT_FRAME_BYTES_MAX).await? {
        if frame.kind != FrameKind::Deliver {
            break;
        }
        for delivered in Deliver::decode(&frame)?.batches {
            let batch = kontiki_wire::Batch::trusted(delivered.batch)?;
            for (offset, record) in (delivered.offset.0..).zip(batch.records()) {
                let text = String::from_utf8_lossy(&record?.value).into_owned();
                shown.push((Offset(offset), text));
            }
        }
    }
    Ok(shown)
}

/// The members, as processes of this very program.
struct Cluster {
    members: BTreeMap<String, (MemberInfo, Child)>,
    options: ConnectOptions,
    credentials: Credentials,
}

impl Cluster {
    fn start(folder: &Path, clock: Instant) -> Outcome<Self> {
        let mut ports = free_addresses(usize::from(MEMBERS) * 2)?.into_iter();
        let mut specs = Vec::new();
        for number in 1..=MEMBERS {
            specs.push(MemberSpec {
                name: format!("n{number}"),
                address: ports.next().ok_or("too few addresses")?,
                peer_address: ports.next().ok_or("too few addresses")?,
            });
        }
        let born = birth_cluster(folder, &specs, false)?;
        let read = |name: &str| std::fs::read_to_string(born.operator_dir.join(name));
        let (chain, key, ca) = (
            read("operator.pem")?,
            read("operator.key")?,
            read("node-ca.pem")?,
        );
        let mut members = BTreeMap::new();
        for (info, dir) in born.members.into_iter().zip(born.member_dirs) {
            let child = spawn(&info.name, &dir, clock)?;
            members.insert(info.name.clone(), (info, child));
        }
        let addresses: Vec<String> = specs.into_iter().map(|spec| spec.address).collect();
        let credentials = Credentials::from_pem(&chain, &key, &ca, "")?;
        let options = ConnectOptions::new(addresses)
            .identity_pem(chain, key)
            .ca_pem(ca);
        Ok(Self {
            members,
            options,
            credentials,
        })
    }

    fn kill(&mut self, name: &str) -> Outcome<()> {
        let (_, mut child) = self.members.remove(name).ok_or("the leader is a member")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn alive(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.values().map(|(info, _)| info)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in self.members.values_mut() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_addresses(count: usize) -> Outcome<Vec<String>> {
    let sockets: Result<Vec<_>, _> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect();
    let addresses = sockets?
        .iter()
        .map(UdpSocket::local_addr)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// Starts `failover member DIR`, and tells what its log says of roles, and why they change.
fn spawn(name: &str, dir: &Path, clock: Instant) -> Outcome<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("member")
        .arg(dir)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = child.stderr.take().ok_or("its stderr is piped")?;
    let name = name.to_owned();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let field = |name: &str| event[name].as_str().unwrap_or_default();
            let (message, role) = (field("message"), field("role"));
            // Who follows adds nothing to the story but lines.
            if message == "role changed" && role != "follower" {
                let (topic, term, why) = (field("topic"), &event["term"], field("why"));
                tell(
                    clock,
                    &format!("    {name} is {role} of {topic} in term {term}: {why}"),
                );
            } else if field("level") == "ERROR" {
                tell(clock, &format!("    {name}: {message} {event}"));
            }
        }
    });
    Ok(child)
}

/// One member, until it is killed or its parent, who holds the other end of its stdin, is gone.
async fn member(dir: &str) -> Outcome<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .init();
    let server = Server::start(Config::load(Path::new(dir))?).await?;
    let (orphan, orphaned) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(orphan);
    });
    tokio::select! {
        ended = server.wait() => Ok(ended?),
        _ = orphaned => {
            server.shutdown().await;
            Ok(())
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ended = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["member", dir] => member(dir).await,
        _ => match timeout(STORY_MAX, story(Instant::now())).await {
            Ok(told) => told,
            Err(_) => Err(format!("the story did not end within {STORY_MAX:?}").into()),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
