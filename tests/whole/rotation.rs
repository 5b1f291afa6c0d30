//! The authorities of real members are replaced under load: nobody who is honest notices, and who has not renewed by the
//! end is let in no more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kontiki_client::{Client, Context, Record, TopicName};
use kontiki_transport::{authority_fingerprint, authority_fingerprints};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::cluster::{Cluster, kontiki};

/// No append takes longer: a planned change is no failure.
const LONGEST: Duration = Duration::from_secs(2);

/// A user of the cluster with a home of its own.
struct User<'a> {
    cluster: &'a Cluster,
    home: PathBuf,
}

impl User<'_> {
    fn run(&self, context: Option<&str>, words: &[&str]) -> Output {
        let mut command = Command::new(kontiki());
        let operator = self.cluster.context();
        let context = context.map_or(operator, PathBuf::from);
        command
            .env("XDG_CONFIG_HOME", &self.home)
            .arg("-c")
            .arg(context);
        command.args(words).output().expect("kontiki runs")
    }

    /// What a command prints that is done.
    #[track_caller]
    fn does(&self, context: Option<&str>, words: &[&str]) -> String {
        let output = self.run(context, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command says that is not done, and ends with this code.
    #[track_caller]
    fn refused(&self, context: Option<&str>, words: &[&str], (code, told): (i32, &str)) {
        let output = self.run(context, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(told), "{words:?}: {said}");
    }

    fn token(&self) -> String {
        let words = ["token", "create", "--role", "producer"];
        self.does(None, &words).trim().to_owned()
    }

    fn login(&self, name: &str, token: &str) {
        self.does(None, &["login", token, "--name", name]);
    }

    /// The fingerprints of the authorities that a context believes.
    fn believed(&self, context: &str) -> Vec<[u8; 32]> {
        let shown = self.does(Some(context), &["context", "show", "--json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let file = shown["ca"].as_str().expect("a path");
        fingerprints(Path::new(file))
    }
}

fn fingerprints(file: &Path) -> Vec<[u8; 32]> {
    let pem = fs::read_to_string(file).expect("a file");
    authority_fingerprints(&pem).expect("authorities")
}

/// Appends one record after the other until it is told to stop; gives back the longest that one took.
async fn append(
    client: Client,
    topic: TopicName,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Duration {
    let producer = client.topic(&topic).expect("a name").producer();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        let at = count.load(Ordering::Relaxed);
        let appended = producer.append(Record::new(format!("{at:08}"))).await;
        appended.expect("no append fails");
        longest = longest.max(since.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    producer.close().await.expect("everything acknowledged");
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_replaced_under_load_and_no_append_fails() {
    let mut cluster = Cluster::born(3);
    let ca = cluster.dir.path().join("cluster/ca");
    let text = format!("[ca]\ndir = {:?}\n", ca.display().to_string());
    fs::write(cluster.members[0].data.join("kontiki.toml"), text).expect("written");
    // Another one signs, too, and either has what it makes for itself.
    let copy = cluster.members[1].data.join("ca");
    fs::create_dir(&copy).expect("a folder");
    for file in fs::read_dir(&ca).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), copy.join(file.file_name())).expect("copied");
    }
    for at in 0..3 {
        cluster.serve(at);
    }
    let old = fs::read_to_string(ca.join("node-ca.pem")).expect("a file");
    let old = authority_fingerprint(&old).expect("an authority");
    let client = cluster.client().await;
    let topic: TopicName = "orders".parse().expect("a name");
    let made = client
        .admin()
        .ensure_topic(&topic, Default::default())
        .await;
    made.expect("a topic");
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let appends = append(
        client.clone(),
        topic.clone(),
        Arc::clone(&stop),
        Arc::clone(&count),
    );
    let appends = tokio::spawn(appends);

    let user = User {
        cluster: &cluster,
        home: cluster.dir.path().join("home"),
    };
    tokio::task::block_in_place(|| rotate(&user, &old));
    let rotated = count.load(Ordering::Relaxed);
    let until = Instant::now() + LONGEST;
    while count.load(Ordering::Relaxed) <= rotated {
        assert!(Instant::now() < until, "appends go on afterwards");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let longest = appends.await.expect("no append fails");
    let count = count.load(Ordering::Relaxed);
    let described = client.admin().describe_topic(&topic).await;
    assert_eq!(described.expect("known").next.0, count, "each once");
    println!("{count} appends, the longest of them {longest:.1?}");
    assert!(longest < LONGEST, "{longest:?}");

    // What lies in the folders now is what each starts with.
    drop(user);
    for at in 0..3 {
        cluster.kill(at);
        cluster.serve(at);
    }
    let described = cluster.client().await.admin().describe_topic(&topic).await;
    assert_eq!(described.expect("known").next.0, count);
}

/// From the beginning to the end, with those who follow and those who do not.
fn rotate(user: &User<'_>, old: &[u8; 32]) {
    let tokens = [(); 3].map(|()| user.token());
    user.login("timely", &tokens[0]);
    let late = user.does(None, &["login", &user.token(), "--name", "late", "--json"]);
    let late: Value = serde_json::from_str(&late).expect("JSON");
    let late = Context::load(late["context"].as_str().expect("a path")).expect("a context");
    let late = Handle::current().block_on(Client::connect(late));
    let late = late.expect("a client connects");
    user.refused(
        None,
        &["cert", "rotate-ca", "finish"],
        (1, "rotate-ca begin"),
    );

    user.does(None, &["cert", "rotate-ca", "begin"]);
    user.refused(
        None,
        &["cert", "rotate-ca", "finish"],
        (1, "rotate-ca sign"),
    );
    let shown = user.does(None, &["cert", "rotate-ca", "sign", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["stage"], "signing");
    assert_eq!(shown["next"], "kontiki cert rotate-ca finish");
    // A token of the old one is good until it is believed no more.
    user.login("between", &tokens[1]);
    assert_eq!(user.believed("between").len(), 2);
    // Both know the old one alone, and renew in passing.
    for context in ["timely", "between"] {
        user.does(Some(context), &["topic", "list"]);
        assert_eq!(user.believed(context).len(), 2, "{context}");
    }

    let named = (1, "have not renewed: producer/late");
    user.refused(None, &["cert", "rotate-ca", "finish"], named);
    user.does(None, &["cert", "rotate-ca", "finish", "--cut-off"]);
    for member in &user.cluster.members {
        for file in ["certs/node-ca.pem", "certs/client-ca.pem"] {
            let believed = fingerprints(&member.data.join(file));
            assert!(
                believed.len() == 1 && believed[0] != *old,
                "{}",
                member.name
            );
        }
    }
    for context in ["timely", "between"] {
        user.does(Some(context), &["topic", "list"]);
        let believed = user.believed(context);
        assert!(believed.len() == 1 && believed[0] != *old, "{context}");
    }
    drop(late);
    let words = ["topic", "list", "--timeout", "5s"];
    user.refused(
        Some("late"),
        &words,
        (3, "no root that is trusted here has signed it"),
    );
    let words = ["login", &tokens[2], "--name", "more", "--timeout", "5s"];
    user.refused(None, &words, (1, "replaced since the token was made"));
    user.login("more", &user.token());
    user.does(Some("more"), &["topic", "list"]);
}
