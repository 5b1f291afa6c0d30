//! One member is started. Two join it, each with a token. Records are appended; all three are asked for them.
//! The first, which leads, leaves for good, and the others go on.
//!
//! `cargo run --release --example grow` tells it as it happens. All members are part of this one program:
//! this is how a member is embedded in your own.

use std::{
    error::Error,
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use kontiki_client::{
    Client, Context, From, Record, TopicName, TopicSettings, Until,
    joining::{Role, Seat, Versions, join},
};
use kontiki_server::{
    Config, Server, ServerError,
    birth::{MemberSpec, birth_alone, key_to_join, settle},
};
use tokio::time::sleep;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// For how long a token may be used, and how long whoever has it tries to get in.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells the story in a folder, and says what each member showed.
pub(crate) async fn story(folder: &Path) -> Outcome<Vec<Vec<String>>> {
    let clock = Instant::now();
    let tell = |text: String| println!("{:6.2} s  {text}", clock.elapsed().as_secs_f64());

    // One member, which is a cluster, and whoever made it has an operator's certificate.
    let dir = folder.join("n1");
    let born = birth_alone(&dir, &spec("n1")?, false)?;
    let n1 = Server::start(Config::new(&dir)).await?;
    let operator = Context {
        name: "operator".to_owned(),
        cluster_id: born.cluster,
        addresses: vec![n1.address().to_string()],
        certificate: born.operator_dir.join("operator.pem"),
        key: born.operator_dir.join("operator.key"),
        ca: born.operator_dir.join("node-ca.pem"),
    };
    let client = Client::connect(&operator).await?;
    let topic: TopicName = "story".parse()?;
    let settings = TopicSettings { replicas: 3 };
    client.admin().create_topic(&topic, settings).await?;
    let producer = client.topic("story")?.producer();
    producer.append(Record::new("alone")).await?;
    tell("n1 is started, and a record is appended".to_owned());

    // Two more, while it serves.
    let n2 = joins(&client, folder, "n2").await?;
    let n3 = joins(&client, folder, "n3").await?;
    until_kept_by(&client, &["n1", "n2", "n3"]).await?;
    tell("n2 and n3 have joined, and keep the topic too".to_owned());
    producer.append(Record::new("of three")).await?;

    // Each is asked, by somebody who knows no other.
    let asked = [&n1, &n2, &n3].map(|member| Context {
        addresses: vec![member.address().to_string()],
        ..operator.clone()
    });
    let shown = try_join_all(asked.map(|context| read(context, 2))).await?;
    tell(format!("they are asked, and show {shown:?}"));

    // Two copies are enough from now on, or it would not be let go.
    let settings = TopicSettings { replicas: 2 };
    client.admin().edit_topic(&topic, settings).await?;
    // If it leads, it hands over first; what it is told in the end is that it is a member no more.
    client.admin().remove_member("n1", false).await?;
    let ended = n1.wait().await;
    if !matches!(ended, Err(ServerError::Expelled(_))) {
        return Err(format!("n1 was removed, and ended with {ended:?}").into());
    }
    n1.shutdown().await;
    until_kept_by(&client, &["n2", "n3"]).await?;
    tell("n1 has left".to_owned());
    producer.append(Record::new("without the first")).await?;

    let asked = [&n2, &n3].map(|member| Context {
        addresses: vec![member.address().to_string()],
        ..operator.clone()
    });
    let shown = try_join_all(asked.map(|context| read(context, 3))).await?;
    tell(format!("the others show {shown:?}"));
    producer.close().await?;
    client.close().await;
    n2.shutdown().await;
    n3.shutdown().await;
    Ok(shown)
}

/// A new member, as part of this program: a token is asked for here, and used where the member is to be.
async fn joins(client: &Client, folder: &Path, name: &str) -> Outcome<Server> {
    let token = client.invite(Role::Node, TOKEN_LIFE).await?;

    let dir = folder.join(name);
    let spec = spec(name)?;
    let key = key_to_join(&dir)?;
    let seat = Seat::Member {
        address: spec.address,
        peer_address: spec.peer_address,
        versions: Versions::MINE,
    };
    let admitted = join(&token, &key, name, seat, PATIENCE).await?;
    settle(&dir, &admitted.welcome, &admitted.node_roots_pem)?;
    let server = Server::start(Config::new(&dir)).await?;
    server.caught_up().await;
    Ok(server)
}

/// A member at addresses that nobody uses.
fn spec(name: &str) -> Outcome<MemberSpec> {
    let sockets = [
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    ];
    Ok(MemberSpec {
        name: name.to_owned(),
        address: sockets[0].local_addr()?.to_string(),
        peer_address: sockets[1].local_addr()?.to_string(),
    })
}

/// Waits until the topic is kept by these members and no others.
async fn until_kept_by(client: &Client, names: &[&str]) -> Outcome<()> {
    let late = Instant::now() + PATIENCE;
    loop {
        let status = client.admin().status().await?;
        let topic = status.topics.first().ok_or("there is a topic")?;
        let mut keep: Vec<&str> = topic.replicas.iter().map(|one| &*one.name).collect();
        keep.sort_unstable();
        if topic.wanted.is_empty() && keep == names {
            return Ok(());
        }
        if Instant::now() > late {
            return Err(format!("kept by {keep:?}: {:?}", status.placing).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The first records of the topic, from history or as they come.
async fn read(context: Context, count: usize) -> Outcome<Vec<String>> {
    let client = Client::connect(context).await?;
    let topic = client.topic("story")?;
    let mut subscription = topic
        .subscribe(From::Earliest)
        .until(Until::Forever)
        .await?;
    let mut texts = Vec::new();
    while texts.len() < count
        && let Some(batch) = subscription.next_batch().await?
    {
        for delivered in batch {
            texts.push(String::from_utf8_lossy(&delivered?.record.value).into_owned());
        }
    }
    client.close().await;
    Ok(texts)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test tells the story too, without this")]
async fn main() -> Outcome<()> {
    story(tempfile::tempdir()?.path()).await?;
    Ok(())
}
