//! What a newcomer types: a cluster with one command, append, read, kill the leader, go on, lose nothing.

mod shell;

use std::{fs, time::Instant};

use rustix::process::Signal;
use serde_json::Value;
use shell::{
    Shell,
    dev::{DEADLINE, Going, Process, first_port},
};

#[allow(clippy::unwrap_used, reason = "a test's helper")]
fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[allow(clippy::unwrap_used, reason = "a test's helper")]
fn pid(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn the_tour_of_a_newcomer() {
    let shell = Shell::new();
    let mut dev = Going::start(&shell, &["dev", "--json", "--port", &first_port()]);
    let ready = dev.event("ready", |event| Some(event.clone()));
    let members = ready["members"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    let process = |name: &str| {
        let member = members
            .iter()
            .find(|member| member["name"] == name)
            .unwrap();
        Process::find(pid(&member["pid"]))
    };
    let first_processes: Vec<Process> = ["n1", "n2", "n3"].map(process).into();
    assert!(
        members
            .iter()
            .any(|member| member["name"] == ready["leader"])
    );

    // The topic is made by the first append.
    let appended = shell.feed(
        &["append", "greetings", "--json", "-k", "k", "-H", "a=b"],
        b"hello\nworld",
    );
    let appended = appended.ends(0, &[]).json();
    let expected = serde_json::json!({
        "topic": "greetings", "first_offset": 0, "last_offset": 1, "count": 2
    });
    assert_eq!(appended, expected);
    assert_eq!(
        shell.run(&["read", "greetings"]).ends(0, &[]).out,
        "hello\nworld\n"
    );
    let last = shell
        .run(&["read", "greetings", "--from", "-1", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(
        (&last["offset"], &last["key"], &last["value"]),
        (&1.into(), &"k".into(), &"world".into())
    );
    assert_eq!(
        last["headers"],
        serde_json::json!([{ "name": "a", "value": "b" }])
    );

    let mut follower = Going::start(&shell, &["read", "greetings", "--from", "earliest", "-f"]);
    follower.line(|line| (line == "world").then_some(()));

    let leader = shell
        .run(&["topic", "describe", "greetings", "--json"])
        .ends(0, &[])
        .json();
    let leader = text(&leader["leader"]);
    let doomed = process(&leader);
    doomed.signal(Signal::KILL);
    doomed.ends();
    let appended = shell.feed(&["append", "greetings"], b"still here\n");
    appended.ends(0, &["1 record", "offset 2"]);
    assert_eq!(
        shell.run(&["read", "greetings"]).ends(0, &[]).out,
        "hello\nworld\nstill here\n"
    );
    follower.line(|line| (line == "still here").then_some(()));

    // The dead member is started again, and catches up.
    let how = dev.event("died", |event| {
        (event["member"] == leader.as_str()).then(|| text(&event["how"]))
    });
    assert_eq!(how, "killed by SIGKILL");
    let again = dev.event("started", |event| {
        (event["member"] == leader.as_str()).then(|| pid(&event["pid"]))
    });
    let again = Process::find(again);
    let status = shell
        .run(&["cluster", "status", "--wait-healthy", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(status["healthy"], true);
    assert_eq!(status["topics"][0]["next_offset"], 3);
    // One that follows may still be a few entries behind.
    let matched = |replica: &Value| replica["match_offset"] == 3;
    let until = Instant::now() + DEADLINE;
    loop {
        let words = ["cluster", "status", "--wait-healthy", "--json"];
        let status = shell.run(&words);
        let status = status.ends(0, &[]).json();
        let replicas = status["topics"][0]["replicas"].as_array().unwrap();
        if replicas.len() == 3 && replicas.iter().all(matched) {
            break;
        }
        assert!(Instant::now() < until, "{status}");
    }

    // A planned change of leaders.
    let other = ["n1", "n2", "n3"]
        .into_iter()
        .find(|name| *name != leader)
        .unwrap();
    let words = ["leader", "transfer", "greetings", "--to", other, "--json"];
    assert_eq!(shell.run(&words).ends(0, &[]).json()["leader"], other);
    let described = shell.run(&["topic", "describe", "greetings", "--json"]);
    assert_eq!(described.ends(0, &[]).json()["leader"], other);

    assert_eq!(
        follower.end(Signal::INT),
        Some(0),
        "an interrupted read is an ordinary end"
    );
    assert_eq!(dev.end(Signal::INT), Some(0));
    for process in &first_processes {
        process.ends();
    }
    again.ends();
    assert!(
        !fs::exists(text(&ready["dir"])).unwrap(),
        "the fresh folder is removed"
    );
    shell
        .run(&["topic", "list"])
        .ends(1, &["no default context"]);
}

#[test]
fn what_a_live_cluster_refuses_is_said_in_sentences() {
    let shell = Shell::new();
    let mut dev = Going::start(
        &shell,
        &[
            "dev",
            "--members",
            "1",
            "--dir",
            "d",
            "--port",
            &first_port(),
        ],
    );
    dev.line(|line| line.contains("Ctrl-C here ends it all").then_some(()));
    shell
        .feed(&["append", "greetings"], b"hello\n")
        .ends(0, &[]);
    shell
        .feed(&["append", "greetings", "--json"], b"")
        .ends(0, &[]);

    shell
        .run(&["read", "gretings"])
        .ends(1, &["no topic gretings", "did you mean greetings?"]);
    shell
        .run(&["topic", "describe", "x"])
        .ends(1, &["no topic x", "kontiki topic create x"]);
    shell
        .run(&["topic", "delete", "x"])
        .ends(1, &["no topic x"]);
    shell
        .run(&["topic", "create", "greetings"])
        .ends(1, &["already", "--if-missing"]);
    shell
        .run(&["topic", "create", "greetings", "--if-missing"])
        .ends(0, &[]);
    shell
        .run(&["leader", "transfer", "greetings", "--to", "n2"])
        .ends(1, &["no member n2", "n1"]);
    shell
        .run(&["dev", "--dir", "d"])
        .ends(1, &["another `kontiki dev` runs"]);
    let long = vec![b'x'; (1 << 20) + 1];
    shell
        .feed(&["append", "greetings"], &long)
        .ends(1, &["line 1 of stdin is longer"]);

    // Another cluster's certificate does not open this one.
    shell
        .run(&["init", "--data", "other", "--member", "n1@127.0.0.1:1"])
        .ends(0, &[]);
    let ours = fs::read_to_string(shell.path("d/context.toml")).unwrap();
    let address = ours
        .lines()
        .find(|line| line.starts_with("addresses"))
        .unwrap();
    let theirs = fs::read_to_string(shell.path("other/context.toml")).unwrap();
    let mixed = theirs.replace("addresses = [\"127.0.0.1:1\"]", address);
    assert_ne!(theirs, mixed);
    fs::write(shell.path("other/context.toml"), mixed).unwrap();
    shell
        .run(&["-c", "other", "topic", "list"])
        .ends(1, &["certificate is refused", "of one cluster"]);

    shell.run(&["topic", "delete", "greetings"]).ends(0, &[]);
    assert_eq!(dev.end(Signal::TERM), Some(0));
    // The folder was named, so it is kept, and started again with what is in it.
    let mut dev = Going::start(&shell, &["dev", "--dir", "d"]);
    dev.line(|line| line.contains("Ctrl-C here ends it all").then_some(()));
    shell.feed(&["append", "again"], b"hello\n").ends(0, &[]);
    assert_eq!(dev.end(Signal::TERM), Some(0));
}

#[test]
fn members_do_not_outlive_a_dev_that_is_killed() {
    let shell = Shell::new();
    let mut dev = Going::start(&shell, &["dev", "--json", "--port", &first_port()]);
    let pids = dev.event("ready", |event| {
        Some(
            event["members"]
                .as_array()?
                .iter()
                .map(|member| pid(&member["pid"]))
                .collect::<Vec<_>>(),
        )
    });
    let members: Vec<Process> = pids.into_iter().map(Process::find).collect();
    assert_eq!(dev.end(Signal::KILL), None);
    for member in members {
        member.ends();
    }
}

#[test]
fn a_bench_measures_and_verifies() {
    let shell = Shell::new();
    let port = first_port();
    let words = ["dev", "--members", "1", "--json", "--port", &port];
    let mut dev = Going::start(&shell, &words);
    let ready = dev.event("ready", |event| Some(event.clone()));
    let run = |words: &[&str]| {
        let words = [&["bench"], words, &["--json"]].concat();
        shell.run(&words).ends(0, &[]).json()
    };
    let second = ["--seconds", "1", "--warm-up", "0"];
    let plots = tempfile::tempdir().unwrap();
    let plot = plots.path().join("latencies.svg");
    let drawn = ["--verify", "--plot", plot.to_str().unwrap()];
    let append = ["append", "--producers", "2"];
    let appended = run(&[&append[..], &drawn, &second].concat());
    let records = appended["records"].as_u64().unwrap();
    assert!(records > 0);
    assert!(appended["read_back"].as_u64().unwrap() >= records);
    assert!(
        appended["verdict"]
            .as_str()
            .unwrap()
            .contains("acknowledged")
    );
    assert!(fs::read_to_string(&plot).unwrap().starts_with("<svg "));
    let spread = ["append", "--topics", "3", "--producers", "4", "--verify"];
    let spread = run(&[&spread[..], &second].concat());
    assert!(spread["read_back"].as_u64().unwrap() >= spread["records"].as_u64().unwrap());
    assert_eq!(
        appended["records_per_second"].as_f64().unwrap(),
        records as f64
    );
    assert_eq!(
        appended["bytes_per_second"].as_f64().unwrap(),
        (records * 100) as f64
    );
    let micros = |name: &str| appended[name].as_u64().unwrap();
    assert!(0 < micros("ack_p50_us"));
    assert!(micros("ack_p50_us") <= micros("ack_p99_us"));
    assert!(micros("ack_p99_us") <= micros("ack_p999_us"));
    assert!(appended["cpu_s_per_million"].as_f64().unwrap() > 0.0);
    assert_eq!(appended["server_pids"][0], ready["members"][0]["pid"]);

    // In the load's own thread, and in threads of their own.
    for subscribers in [2, 20] {
        let count = subscribers.to_string();
        let tail = ["tail", "--rate", "200", "--subscribers", &count];
        let tailed = run(&[&tail[..], &second].concat());
        let acknowledged = tailed["acknowledged"].as_u64().unwrap();
        assert_eq!(tailed["delivered"], acknowledged * subscribers);
        assert!(tailed["e2e_p50_us"].as_u64().unwrap() > 0);
    }

    let read = run(&["read"]);
    assert!(read["records"].as_u64().unwrap() > records);
    assert_eq!(read["verified"], read["records"]);
    for fault in ["altered", "foreign", "out_of_order", "gaps"] {
        assert_eq!(read[fault], 0, "{fault}");
    }
    shell.run(&["topic", "create", "empty"]).ends(0, &[]);
    shell
        .run(&["bench", "read", "--topic", "empty"])
        .ends(1, &["no records", "kontiki bench append"]);
    assert_eq!(dev.end(Signal::INT), Some(0));
}
