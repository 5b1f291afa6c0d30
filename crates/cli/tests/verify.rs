//! `verify`: what is damaged is named, the sound is called sound, and nothing is written.

mod shell;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use shell::{
    Said, Shell,
    dev::{DEADLINE, Process},
    own_address,
};

/// A cluster of one with a topic of two records, and its member that runs.
struct One {
    shell: Shell,
    member: Child,
}

#[allow(clippy::unwrap_used, reason = "a test's helper")]
impl One {
    #[track_caller]
    fn start() -> Self {
        let shell = Shell::new();
        let member = format!("n1@{}", own_address());
        shell
            .run(&["init", "--data", "one", "--member", &member])
            .ends(0, &[]);
        let member = serve(&shell);
        let one = Self { shell, member };
        one.run(&["-c", "one", "topic", "create", "orders"])
            .ends(0, &[]);
        one.shell
            .feed(&["-c", "one", "append", "orders"], b"first\nsecond\n")
            .ends(0, &[]);
        one
    }

    fn run(&self, words: &[&str]) -> Said {
        self.shell.run(words)
    }

    fn verify(&self) -> Said {
        self.run(&["verify", "--data", "one/n1"])
    }

    /// Ends the member in order.
    fn stop(&mut self) {
        Process::find(self.member.id()).signal(Signal::TERM);
        assert!(self.member.wait().unwrap().success());
    }

    /// Every file of the member's folder.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.shell.path("one/n1")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// The only file of the data whose name ends so and that holds these bytes, and where.
    fn holding(&self, suffix: &str, bytes: &[u8]) -> (PathBuf, usize) {
        let holds = |(path, content): (PathBuf, Vec<u8>)| {
            let at = content.windows(bytes.len()).position(|at| at == bytes)?;
            path.to_str()
                .unwrap()
                .ends_with(suffix)
                .then_some((path, at))
        };
        let all: Vec<_> = self.files().into_iter().filter_map(holds).collect();
        let [(path, at)] = &all[..] else {
            panic!("{all:?}")
        };
        (path.clone(), *at)
    }
}

#[allow(clippy::unwrap_used, reason = "a test's helper")]
#[track_caller]
fn serve(shell: &Shell) -> Child {
    let mut member = shell
        .command(&["serve", "--data", "one/n1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(member.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("is ready")));
    thread::spawn(move || log.for_each(drop));
    member
}

impl Drop for One {
    fn drop(&mut self) {
        let _ = self.member.kill();
        let _ = self.member.wait();
    }
}

#[allow(clippy::unwrap_used, reason = "a test's helper")]
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_interrupted_walk_leaves_nothing_behind() {
    let mut one = One::start();
    one.stop();
    let temporary = one.shell.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let left = || fs::read_dir(&temporary).unwrap().count();
    // The copy of the small state stops at this one until somebody writes into it.
    let pipe = one.shell.path("one/n1/data/state/pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());

    let mut walk = one.shell.command(&["verify", "--data", "one/n1"]);
    let mut walk = walk.env("TMPDIR", &temporary).spawn().unwrap();
    let until = Instant::now() + DEADLINE;
    while left() == 0 {
        assert!(Instant::now() < until, "it copies nothing");
        thread::sleep(Duration::from_millis(5));
    }
    Process::find(walk.id()).signal(Signal::INT);
    drop(OpenOptions::new().write(true).open(&pipe).unwrap());
    assert_eq!(walk.wait().unwrap().code(), Some(1));
    assert_eq!(left(), 0);
}

#[test]
fn a_stopped_member_is_looked_over_and_nothing_is_written() {
    let mut one = One::start();
    one.verify()
        .ends(1, &["one/n1/data is in use: its member runs"]);
    one.stop();
    let before = one.files();
    let said = one.verify().ends(0, &[]);
    assert!(said.out.contains("orders"), "{said:?}");
    assert!(said.out.contains("is sound"), "{said:?}");
    assert!(one.files() == before, "nothing is written");

    let json = one
        .run(&["verify", "--json", "--data", "one/n1"])
        .ends(0, &[])
        .json();
    assert_eq!(json["sound"], true);
    assert_eq!(json["member"], "n1");
    assert_eq!(json["findings"], serde_json::json!([]));
    assert_eq!(json["topics"][1]["topic"], "orders");
    // The bare folder of data is as good.
    let said = one.run(&["verify", "--data", "one/n1/data"]).ends(0, &[]);
    assert!(said.out.contains("orders"), "{said:?}");
}

#[test]
fn a_running_cluster_is_looked_over_by_its_members() {
    let one = One::start();
    let said = one.run(&["-c", "one", "verify"]).ends(0, &[]);
    for text in ["orders", "n1", "sound, and its replicas are the same"] {
        assert!(said.out.contains(text), "{text:?} is not in {}", said.out);
    }
    let json = one
        .run(&["-c", "one", "verify", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["sound"], true);
    assert_eq!(json["replicas"][1]["topic"], "orders");
    assert_eq!(json["replicas"][1]["member"], "n1");
    assert_eq!(json["replicas"][1]["damage"], serde_json::json!([]));
}

#[test]
fn damage_is_named_with_its_file_its_byte_and_its_records() {
    let mut one = One::start();
    one.stop();
    // A start moves all that segments keep out of the journal.
    one.member = serve(&one.shell);
    one.stop();
    let (segment, at) = one.holding(".segment", b"second");
    edit(&segment, |bytes| bytes[at] ^= 1);
    let before = one.files();
    let said = one.verify().ends(1, &[]);
    for text in [
        "damaged:",
        segment
            .strip_prefix(one.shell.home())
            .unwrap()
            .to_str()
            .unwrap(),
        "at byte",
        "an entry's checksum does not match its body",
        "topic orders, entry 2, offsets 0 to 1",
        "no other member has these entries",
        "is damaged in 1 place",
    ] {
        assert!(said.out.contains(text), "{text:?} is not in {}", said.out);
    }
    assert!(one.files() == before, "nothing is written");
    let json = one
        .run(&["verify", "--json", "--data", "one/n1"])
        .ends(1, &[])
        .json();
    assert_eq!(json["sound"], false);
    let found = &json["findings"][0];
    assert_eq!(found["topic"], "orders");
    assert_eq!(found["entries"], serde_json::json!([2, 2]));
    assert_eq!(found["offsets"], serde_json::json!([0, 1]));
    assert!(found["byte"].as_u64().unwrap() < at as u64);
}

#[test]
fn whatever_a_member_needs_to_start_is_looked_at() {
    let mut one = One::start();
    one.stop();
    for (file, says) in [
        ("member.toml", "member.toml"),
        ("kontiki.toml", "unknown key `lisen`"),
        ("certs/node.pem", "must be one certificate"),
        ("data/owner", "it says that the data is that of"),
        ("data/journal/salt", "its checksum does not match"),
    ] {
        let path = one.shell.path("one/n1").join(file);
        let before = fs::read(&path).unwrap_or_default();
        fs::write(&path, "lisen = ''\n").unwrap();
        let said = one.verify().ends(1, &[]);
        assert!(said.out.contains(says), "{says:?} is not in {}", said.out);
        fs::write(&path, before).unwrap();
    }
    one.verify().ends(0, &[]);
    fs::remove_dir_all(one.shell.path("one/n1/data")).unwrap();
    let said = one.verify().ends(1, &[]);
    assert!(said.out.contains("the data is lost"), "{said:?}");
    one.run(&["verify", "--data", "one"])
        .ends(1, &["one is neither a member's directory"]);
}

#[test]
fn what_a_crash_leaves_behind_is_no_damage() {
    let mut one = One::start();
    one.member.kill().unwrap();
    one.member.wait().unwrap();
    let said = one.verify().ends(0, &[]);
    assert!(said.out.contains("orders"), "{said:?}");
}
