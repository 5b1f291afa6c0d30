//! A majority is lost for good, and what one member has goes on: as typed, with real processes.

#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod shell;

use std::{fs, path::Path};

use rustix::process::Signal;
use shell::{
    Said, Shell,
    growing::{alone, join_words, joins, kept_by, token, until, voters},
    own_address,
    serving::Serving,
};

/// Waits until there are three members, and each of them keeps the topic.
fn until_three(shell: &Shell) {
    until(shell, "a cluster of three", |status| {
        voters(status) == 3 && kept_by(status, 3)
    });
}

/// A cluster of three that has a topic.
fn three(shell: &Shell) -> [Serving; 3] {
    let (n1, _) = alone(shell);
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    let members = [n1, joins(shell, "n2"), joins(shell, "n3")];
    until_three(shell);
    members
}

fn append(shell: &Shell, records: &str) {
    shell
        .feed(&["append", "orders"], records.as_bytes())
        .ends(0, &[]);
}

fn read(shell: &Shell) -> String {
    let words = ["read", "orders", "--from", "earliest"];
    shell.run(&words).ends(0, &[]).out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Every file below, and what is in it.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(content(&path)),
            false => files.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}

#[test]
fn one_member_goes_on_with_all_that_it_has_and_nobody_of_before_has_a_say() {
    let shell = Shell::new();
    let [mut n1, mut n2, mut n3] = three(&shell);
    append(&shell, "one\ntwo\nthree\n");
    let unused = token(&shell, "node", "1h");
    shell
        .run(&["recover", "--data", "n1", "--yes"])
        .ends(1, &["in use: its member runs"]);
    for member in [&mut n1, &mut n2, &mut n3] {
        member.end(Signal::KILL);
    }
    copy(&shell.path("n2"), &shell.path("before/n2"));
    copy(&shell.path("n3"), &shell.path("before/n3"));
    fs::remove_dir_all(shell.path("n2")).unwrap();
    fs::remove_dir_all(shell.path("n3")).unwrap();

    // It is looked at, and nothing is touched.
    let before = content(&shell.path("n1"));
    let words = ["recover", "--data", "n1", "--dry-run", "--json"];
    let seen = shell.run(&words).ends(0, &[]).json();
    assert_eq!(content(&shell.path("n1")), before);
    assert_eq!(seen["given_up"], serde_json::json!(["n2", "n3"]));
    assert_eq!((&seen["done"], &seen["epoch"]), (&false.into(), &0.into()));
    assert_eq!(seen["groups"][1]["topic"], "orders");
    assert_eq!(seen["groups"][1]["next_offset"], 3);
    assert_eq!(seen["groups"][1]["alive"], false);
    let said = shell.run(&["recover", "--data", "n1", "--dry-run"]);
    let said = said.ends(0, &[]);
    for text in [
        "n2, n3 are given up for good",
        "what nobody can know",
        "not here",
    ] {
        assert!(said.out.contains(text), "{text:?} is not in {said:?}");
    }
    let said = shell.run(&["recover", "--data", "n1"]);
    said.ends(2, &["gives up members and records for good", "--dry-run"]);

    // It is done: everything that was acknowledged and had come here is there.
    let done = shell
        .run(&["recover", "--data", "n1", "--yes", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(done["done"], true);
    let audit = fs::read_to_string(shell.path("n1/recovery-1.toml")).unwrap();
    assert!(
        audit.contains(r#"members_given_up = ["n2", "n3"]"#),
        "{audit}"
    );
    let mut n1 = Serving::start(&shell, &["serve", "--data", "n1"], "n1 is ready");
    assert_eq!(read(&shell), "one\ntwo\nthree\n");
    append(&shell, "four\n");
    let listed = shell.run(&["cluster", "recoveries", "--json"]);
    let listed = listed.ends(0, &[]).json();
    assert_eq!(listed["recoveries"][0]["epoch"], 1);
    assert_eq!(listed["recoveries"][0]["survivor"], "n1");
    let other = own_address();
    shell
        .run(&join_words("late", &other, &unused))
        .ends(1, &["admits nobody"]);

    // It grows again.
    let mut new2 = joins(&shell, "n2");
    let mut new3 = joins(&shell, "n3");
    until_three(&shell);

    // Those of before come back from a copy, both at once, a majority of what was: they are refused, and say
    // what to do.
    let back = ["before/n2", "before/n3"].map(|folder| shell.start(&["serve", "--data", folder]));
    for one in back {
        let said: Said = one.wait_with_output().unwrap().into();
        said.ends(1, &["was recovered", "a new token and an empty directory"]);
    }
    assert_eq!(read(&shell), "one\ntwo\nthree\nfour\n");
    append(&shell, "five\n");
    shell
        .run(&["cluster", "status", "--wait-healthy"])
        .ends(0, &[]);
    assert_eq!(read(&shell), "one\ntwo\nthree\nfour\nfive\n");
    for member in [&mut n1, &mut new2, &mut new3] {
        assert_eq!(member.end(Signal::TERM), Some(0));
    }
    let said = shell.run(&["verify", "--data", "n3"]);
    said.ends(0, &[]);
}

#[test]
fn nobody_is_given_up_who_lives_unless_that_is_forced() {
    let shell = Shell::new();
    let [mut n1, mut n2, mut n3] = three(&shell);
    append(&shell, "one\n");
    // It was let in, and has not been started yet.
    let (late, address) = (token(&shell, "node", "1h"), own_address());
    shell
        .run(&join_words("late", &address, &late))
        .ends(0, &["late is member 4"]);
    until(&shell, "that it is known", |status| {
        status["members"].as_array().unwrap().len() == 4
    });

    // It is said to do what is right, and nothing is touched.
    n1.end(Signal::KILL);
    let before = content(&shell.path("n1"));
    let seen = shell.run(&["recover", "--data", "n1", "--dry-run"]);
    let seen = seen.ends(1, &["while others live, unless --force"]);
    let text = "n2, n3 answer, a majority together with n1: nothing is lost for good, start it";
    assert!(seen.out.contains(text), "{seen:?}");
    n2.end(Signal::KILL);
    let words = ["recover", "--data", "n1", "--yes", "--json"];
    let seen = shell.run(&words).ends(1, &[]).json();
    let objection = seen["objections"][0].as_str().unwrap();
    assert!(
        objection.starts_with("n3 answers, a majority together with n1"),
        "{seen}"
    );
    assert!(
        seen["unknown"]
            .to_string()
            .contains("whether n2, late live"),
        "{seen}"
    );
    assert_eq!(
        (&seen["done"], &seen["obstacles"]),
        (&false.into(), &serde_json::json!([]))
    );
    assert_eq!(content(&shell.path("n1")), before);

    // Forced, it is done, remembered, and told to whoever lives, as soon as it meets the survivor.
    let words = ["recover", "--data", "n1", "--yes", "--force"];
    let done = shell.run(&words).ends(0, &[]);
    assert!(done.out.contains("n3 answers"), "{done:?}");
    let audit = fs::read_to_string(shell.path("n1/recovery-1.toml")).unwrap();
    assert!(audit.contains(", by --force"), "{audit}");
    let mut n1 = Serving::start(&shell, &["serve", "--data", "n1"], "n1 is ready");
    assert_eq!(n3.ended(), Some(1));
    let said = shell.run(&["serve", "--data", "late"]);
    said.ends(1, &["was recovered", "a new token and an empty directory"]);
    append(&shell, "two\n");
    assert_eq!(read(&shell), "one\ntwo\n");

    // Of two who were left, the second is not made another cluster.
    let seen = shell
        .run(&["recover", "--data", "n2", "--yes"])
        .ends(1, &[]);
    let text = "n1 answers, and is of a later life of the cluster";
    assert!(seen.out.contains(text), "{seen:?}");
    assert_eq!(n1.end(Signal::TERM), Some(0));
}

#[test]
fn who_has_not_lost_anything_or_has_nothing_is_told_so() {
    let shell = Shell::new();
    let address = own_address();
    let words = ["init", "--data", "n1", "--name", "n1", "--listen", &address];
    shell.run(&words).ends(0, &[]);
    let said = shell.run(&["recover", "--data", "n1", "--yes"]);
    let said = said.ends(1, &[]);
    let text = "nothing of the cluster's own log is here";
    assert!(said.out.contains(text), "{said:?}");
    let mut n1 = Serving::start(&shell, &["serve", "--data", "n1"], "n1 is ready");
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    n1.end(Signal::TERM);
    let said = shell
        .run(&["recover", "--data", "n1", "--yes"])
        .ends(1, &[]);
    assert!(said.out.contains("nothing is lost"), "{said:?}");
    assert!(!shell.path("n1/recovery-1.toml").exists());
    shell
        .run(&["recover", "--data", "nowhere", "--dry-run"])
        .ends(1, &["not a member's directory"]);
}
