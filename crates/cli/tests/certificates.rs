//! Certificates live: they are renewed while members serve, taken back, and mended where they have expired; and
//! who is confined to topics reaches no others.

#![allow(clippy::unwrap_used, reason = "a test")]

mod shell;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use kontiki_transport::{Certificate, authority_fingerprint};
use rustix::process::Signal;
use shell::{Shell, own_address, serving::Serving};

/// How long a member or a client takes at most where the machine has other work, too.
const LATE: Duration = Duration::from_secs(60);

/// A cluster of one that serves and signs for so many seconds, if it is said, and whose context is the default.
fn alone(shell: &Shell, valid_seconds: Option<u64>) -> Serving {
    let address = own_address();
    let words = ["init", "--data", "n1", "--name", "n1", "--listen", &address];
    shell.run(&words).ends(0, &[]);
    if let Some(seconds) = valid_seconds {
        let text = format!("[ca]\nvalid_seconds = {seconds}\n");
        fs::write(shell.path("n1/kontiki.toml"), text).unwrap();
    }
    serve(shell, "n1")
}

fn serve(shell: &Shell, name: &str) -> Serving {
    let ready = format!("{name} is ready");
    Serving::start(shell, &["serve", "--data", name], &ready)
}

fn token(shell: &Shell, words: &[&str]) -> String {
    let words: Vec<&str> = ["token", "create"].iter().chain(words).copied().collect();
    let said = shell.run(&words).ends(0, &["good once, until"]);
    said.out.trim().to_owned()
}

fn login(shell: &Shell, name: &str, words: &[&str]) {
    let leave = token(shell, words);
    shell.run(&["login", &leave, "--name", name]).ends(0, &[]);
}

fn join(shell: &Shell, name: &str) -> Serving {
    let leave = token(shell, &["--role", "node"]);
    let address = own_address();
    let words = [
        "join", "--data", name, "--name", name, "--listen", &address, &leave,
    ];
    Serving::start(shell, &words, "has caught up")
}

fn shown_by(shell: &Shell, name: &str) -> Certificate {
    let pem = fs::read_to_string(shell.path(name).join("certs/node.pem")).unwrap();
    Certificate::from_pem(&pem).unwrap()
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let late = Instant::now() + LATE;
    while !is_so() {
        assert!(Instant::now() < late, "{what} does not come about");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_member_renews_its_certificate_while_it_serves_and_says_how_to_mend_one_that_has_expired() {
    let shell = Shell::new();
    let mut n1 = alone(&shell, Some(8));
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    let mut n2 = join(&shell, "n2");
    // The signer's own, made at its birth, is good for a year: it is to live as briefly as the others.
    shell.run(&["cert", "renew", "--data", "n1"]).ends(0, &[]);
    let mut seen = vec![shown_by(&shell, "n2")];
    // Through three lives of certificates no append fails.
    until("three renewals", || {
        shell
            .feed(&["append", "orders"], b"on\n")
            .ends(0, &["1 record"]);
        let shown = shown_by(&shell, "n2");
        if shown.serial != seen.last().unwrap().serial {
            seen.push(shown);
        }
        seen.len() == 4
    });
    assert!(
        seen.iter().all(|one| one.mark() == seen[0].mark()),
        "one key"
    );
    until("the cluster knows what is shown", || {
        let json = shell.run(&["cert", "show", "--members", "--json"]);
        let json = json.ends(0, &[]).json();
        json["members"][1]["serial"] == shown_by(&shell, "n2").serial
    });

    // Nobody signs for long enough: n2 ends with its certificate, and says what to do.
    n1.end(Signal::TERM);
    n2.end(Signal::TERM);
    until("the end of the certificate", || {
        shown_by(&shell, "n2").not_after < std::time::SystemTime::now()
    });
    shell
        .run(&["serve", "--data", "n2"])
        .ends(1, &["has expired", "kontiki cert renew --data n2 TOKEN"]);
    shell
        .run(&["cert", "renew", "--data", "n2"])
        .ends(1, &["kontiki token create --role node"]);
    // Who signs renews its own at the start.
    assert!(shown_by(&shell, "n1").not_after < std::time::SystemTime::now());
    let text = "[ca]\nvalid_seconds = 3600\n";
    fs::write(shell.path("n1/kontiki.toml"), text).unwrap();
    let _n1 = serve(&shell, "n1");
    // Two of two are a majority: nobody makes a token now, and the authorities are at hand.
    let words = ["cert", "renew", "--data", "n2", "--ca", "n1/ca"];
    shell.run(&words).ends(0, &[]);
    let _n2 = serve(&shell, "n2");
    let healthy = ["cluster", "status", "--wait-healthy", "--timeout", "60s"];
    shell.run(&healthy).ends(0, &[]);

    // With a token it is asked of the cluster, and a member that runs shows it.
    let leave = token(&shell, &["--role", "node"]);
    let before = shown_by(&shell, "n2").serial;
    let words = ["cert", "renew", "--data", "n2", &leave];
    shell.run(&words).ends(0, &[]);
    assert_ne!(shown_by(&shell, "n2").serial, before);
    until("the new one is shown", || {
        let json = shell.run(&["cert", "show", "--members", "--json"]);
        let json = json.ends(0, &[]).json();
        json["members"][1]["serial"] == shown_by(&shell, "n2").serial
    });
}

#[test]
fn who_is_revoked_is_cut_off_within_seconds_and_lets_its_name_be_used_again() {
    let shell = Shell::new();
    let _n1 = alone(&shell, None);
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    login(&shell, "reader", &["--role", "consumer"]);
    login(&shell, "other", &["--role", "consumer"]);
    let tail = ["-c", "reader", "read", "orders", "-f"];
    let words = [
        "-c", "other", "read", "orders", "--from", "earliest", "-f", "-n", "1",
    ];
    let mut honest = shell.start(&words);
    let mut live = shell.start(&tail);
    // It is live when it has a connection: what it asks is answered.
    shell
        .run(&["-c", "reader", "topic", "describe", "orders"])
        .ends(0, &[]);
    shell.run(&["cert", "revoke", "reader"]).ends(0, &[]);
    shell
        .run(&[
            "-c",
            "reader",
            "topic",
            "describe",
            "orders",
            "--timeout",
            "2s",
        ])
        .ends(3, &["it was revoked"]);
    // Everybody else goes on.
    shell
        .feed(&["append", "orders"], b"on\n")
        .ends(0, &["1 record"]);
    assert_eq!(honest.wait().unwrap().code(), Some(0));
    live.kill().unwrap();
    let heard = live.wait_with_output().unwrap();
    assert!(heard.stdout.is_empty(), "{heard:?}");
    let json = shell
        .run(&["cert", "show", "--members", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["revoked"][0], "reader");

    // By its serial number one certificate goes, and the others of its name stay.
    let shown = shell
        .run(&["-c", "other", "cert", "show", "--json"])
        .ends(0, &[])
        .json();
    let serial = shown["serial"].as_str().unwrap();
    let serial = format!("serial:{serial}");
    shell.run(&["cert", "revoke", &serial]).ends(0, &[]);
    shell
        .run(&["-c", "other", "topic", "list", "--timeout", "2s"])
        .ends(3, &["it was revoked"]);

    // The name is free, for another key.
    let elsewhere = Shell::new();
    let leave = token(&shell, &["--role", "consumer"]);
    elsewhere
        .run(&["login", &leave, "--name", "reader"])
        .ends(0, &[]);
    elsewhere
        .run(&["-c", "reader", "topic", "list"])
        .ends(0, &[]);
    shell
        .run(&["cert", "revoke", "operator"])
        .ends(1, &["the certificate with which this is asked"]);
    shell
        .run(&["cert", "revoke", "node/n1"])
        .ends(1, &["kontiki member remove"]);
    let n1 = format!("serial:{}", shown_by(&shell, "n1").serial);
    shell
        .run(&["cert", "revoke", &n1])
        .ends(1, &["the member n1 shows"]);
    shell
        .run(&["cert", "revoke", "No One"])
        .ends(2, &["nobody's name"]);
    elsewhere
        .run(&["-c", "reader", "cert", "revoke", "operator"])
        .ends(4, &["a consumer may not"]);
}

#[test]
fn a_status_is_said_within_seconds_where_nobody_leads() {
    let shell = Shell::new();
    let _n1 = alone(&shell, None);
    let mut n2 = join(&shell, "n2");
    until("two votes", || {
        let json = shell.run(&["cluster", "status", "--json"]).json();
        let members = json["members"].as_array().unwrap();
        members.len() == 2 && members.iter().all(|one| one["voter"] == true)
    });
    n2.end(Signal::KILL);
    let begun = Instant::now();
    let words = ["cluster", "status", "--timeout", "40s"];
    let said = shell.run(&words).ends(10, &[]);
    assert!(said.out.contains("is not healthy"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{begun:?}");
}

#[test]
fn a_context_gets_another_certificate_and_keeps_its_key_and_its_topics() {
    let shell = Shell::new();
    let _n1 = alone(&shell, None);
    login(
        &shell,
        "shop",
        &["--role", "producer", "--topics", "logs-*"],
    );
    for name in [None, Some("shop")] {
        let context: Vec<&str> = name.map_or(vec![], |name| vec!["-c", name]);
        let show = || {
            let words = [&context[..], &["cert", "show", "--json"]].concat();
            shell.run(&words).ends(0, &[]).json()
        };
        let before = show();
        shell
            .run(&[&context[..], &["cert", "renew"]].concat())
            .ends(0, &[]);
        let after = show();
        assert_ne!(after["serial"], before["serial"]);
        assert_eq!(after["identity"], before["identity"]);
        assert_eq!(after["topics"], before["topics"]);
        // And without the cluster, where the authorities are.
        shell
            .run(&[&context[..], &["cert", "renew", "--ca", "n1/ca"]].concat())
            .ends(0, &[]);
        assert_ne!(show()["serial"], after["serial"]);
        assert_eq!(show()["topics"], before["topics"]);
    }
    shell.run(&["topic", "list"]).ends(0, &[]);
}

#[test]
fn who_is_confined_to_topics_appends_reads_finds_and_lists_no_others() {
    let shell = Shell::new();
    let _n1 = alone(&shell, None);
    for topic in ["logs-eu", "logs-us", "orders"] {
        shell.run(&["topic", "create", topic]).ends(0, &[]);
    }
    login(
        &shell,
        "shop",
        &["--role", "producer", "--topics", "logs-*"],
    );
    login(
        &shell,
        "eye",
        &[
            "--role", "consumer", "--topics", "logs-e?", "--topics", "none",
        ],
    );
    login(
        &shell,
        "boss",
        &["--role", "operator", "--topics", "logs-*"],
    );
    let json = shell.run(&["token", "list", "--json"]).ends(0, &[]).json();
    let all: Vec<_> = json["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["topics"])
        .collect();
    assert!(
        all.iter()
            .all(|topics| topics[0].as_str().unwrap().starts_with("logs-")),
        "{all:?}"
    );

    shell
        .feed(&["-c", "shop", "append", "logs-eu"], b"a\n")
        .ends(0, &["1 record"]);
    // What is there and what is not cannot be told apart by who may not know.
    for topic in ["orders", "nothing"] {
        let refused = format!("that is confined to logs-* may not append ({topic})");
        let looked_up = format!("that is confined to logs-* may not look up a topic ({topic})");
        let said = shell.feed(&["-c", "shop", "append", topic], b"a\n");
        assert!(
            said.err.contains(&refused) || said.err.contains(&looked_up),
            "{said:?}"
        );
        said.ends(4, &[]);
        shell
            .run(&["-c", "shop", "topic", "describe", topic])
            .ends(4, &[&looked_up]);
    }
    let said = shell
        .run(&[
            "-c", "eye", "read", "logs-eu", "--from", "earliest", "-n", "1",
        ])
        .ends(0, &[]);
    assert_eq!(said.out, "a\n");
    for topic in ["logs-us", "orders"] {
        shell
            .run(&["-c", "eye", "read", topic, "-n", "1"])
            .ends(4, &["is confined to logs-e?, none"]);
    }
    let listed = |name: &str| {
        let json = shell
            .run(&["-c", name, "topic", "list", "--json"])
            .ends(0, &[])
            .json();
        let topics = json["topics"].as_array().unwrap().iter();
        topics
            .map(|topic| topic["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("shop"), ["logs-eu", "logs-us"]);
    assert_eq!(listed("eye"), ["logs-eu"]);
    // An operator of some topics makes and deletes those, and does nothing to the cluster.
    shell
        .run(&["-c", "boss", "topic", "create", "logs-x"])
        .ends(0, &[]);
    shell
        .run(&["-c", "boss", "topic", "create", "other"])
        .ends(4, &["may not create a topic (other)"]);
    shell
        .run(&["-c", "boss", "topic", "delete", "orders", "--yes"])
        .ends(4, &[]);
    shell
        .run(&["-c", "boss", "token", "create", "--role", "operator"])
        .ends(4, &[]);
    shell
        .run(&["-c", "boss", "cert", "revoke", "shop"])
        .ends(4, &[]);
    shell
        .run(&["token", "create", "--role", "node", "--topics", "a*"])
        .ends(2, &["keeps what the cluster places on it"]);
    shell
        .run(&["token", "create", "--role", "producer", "--topics", "[a]"])
        .ends(2, &["a pattern of topics is"]);
}

/// What the files of authorities in a folder trust, put before or in place of what these files trust.
fn trust(shell: &Shell, ca: &str, files: [&str; 2], beside: bool) {
    for (name, file) in ["node-ca.pem", "client-ca.pem"].into_iter().zip(files) {
        let file = shell.path(file);
        let mut text = fs::read_to_string(shell.path(ca).join(name)).unwrap();
        if beside {
            text.push_str(&fs::read_to_string(&file).unwrap());
        }
        let aside = file.with_extension("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, &file).unwrap();
    }
}

fn fingerprint(shell: &Shell, file: &str) -> String {
    let pem = fs::read_to_string(shell.path(file)).unwrap();
    let fingerprint = authority_fingerprint(&pem).unwrap();
    fingerprint
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Waits until this holds for what every member says that it shows.
fn shown_by_all(shell: &Shell, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
    until(what, || {
        let json = shell.run(&["cert", "show", "--members", "--json"]);
        let json = json.ends(0, &[]).json();
        json["members"].as_array().unwrap().iter().all(&is_so)
    });
}

#[test]
fn authorities_are_replaced_by_hand_while_members_serve() {
    let shell = Shell::new();
    let mut n1 = alone(&shell, None);
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    let _n2 = join(&shell, "n2");
    login(&shell, "late", &["--role", "producer"]);
    let append = || {
        let said = shell.feed(&["append", "orders", "--timeout", "60s"], b"on\n");
        said.ends(0, &["1 record"]);
    };
    append();
    // Any cluster's will do: an authority is not bound to one.
    let other = Shell::new();
    let words = [
        "init",
        "--data",
        "other",
        "--name",
        "x",
        "--listen",
        "127.0.0.1:7400",
    ];
    other.run(&words).ends(0, &[]);
    let spare = other.path("other/ca").display().to_string();
    let old = fingerprint(&shell, "n1/ca/node-ca.pem");
    let new = fingerprint(&shell, &format!("{spare}/node-ca.pem"));
    assert_ne!(old, new);

    // The new ones are trusted beside the old, by everybody, before anything is signed by them.
    let context = shell.run(&["context", "show", "--json"]);
    let context = context.ends(0, &[]).json();
    let context = context["ca"].as_str().unwrap().to_owned();
    let members = ["n1", "n2"]
        .map(|name| ["node-ca.pem", "client-ca.pem"].map(|file| format!("{name}/certs/{file}")));
    let all = |beside| {
        for [nodes, clients] in &members {
            trust(&shell, &spare, [nodes, clients], beside);
        }
        trust(&shell, &spare, [&context, "unused"], beside);
    };
    fs::write(shell.path("unused"), "").unwrap();
    all(true);
    shown_by_all(&shell, "the new one is trusted", |member| {
        let trusts = member["trusts"].as_array().unwrap();
        trusts.len() == 4 && trusts.contains(&new.as_str().into())
    });
    append();
    // Who comes now trusts the one that the token names, and is given the other by hand.
    login(&shell, "early", &["--role", "producer"]);
    let json = shell.run(&["-c", "early", "context", "show", "--json"]);
    let json = json.ends(0, &[]).json();
    let early = json["ca"].as_str().unwrap().to_owned();
    let roots = fs::read_to_string(shell.path(&early)).unwrap();
    assert_eq!(roots.matches("BEGIN").count(), 1);
    trust(&shell, &spare, [&early, "unused"], true);

    // Then it signs.
    n1.end(Signal::TERM);
    let text = format!("[ca]\ndir = {spare:?}\n");
    fs::write(shell.path("n1/kontiki.toml"), text).unwrap();
    let _n1 = serve(&shell, "n1");
    for name in ["n1", "n2"] {
        let words = ["cert", "renew", "--data", name, "--ca", &spare];
        shell.run(&words).ends(0, &[]);
    }
    shell
        .run(&["cert", "renew", "--timeout", "60s"])
        .ends(0, &[]);
    shown_by_all(&shell, "the new one has signed", |member| {
        member["signed_by"] == new.as_str()
    });
    append();
    login(&shell, "timely", &["--role", "producer"]);
    let _n3 = join(&shell, "n3");
    let early = ["-c", "early", "cert", "renew", "--timeout", "60s"];
    shell.run(&early).ends(0, &[]);

    // Then the old ones are trusted no more: who has not renewed is let in nowhere.
    let [nodes, clients] = ["node-ca.pem", "client-ca.pem"].map(|file| format!("n3/certs/{file}"));
    trust(&shell, &spare, [&nodes, &clients], false);
    all(false);
    shown_by_all(&shell, "the old one is trusted no more", |member| {
        let trusts = member["trusts"].as_array().unwrap();
        trusts.len() == 2 && !trusts.contains(&old.as_str().into())
    });
    append();
    let healthy = ["cluster", "status", "--wait-healthy", "--timeout", "60s"];
    shell.run(&healthy).ends(0, &[]);
    for timely in ["early", "timely"] {
        shell.run(&["-c", timely, "topic", "list"]).ends(0, &[]);
    }
    let words = ["-c", "late", "topic", "list", "--timeout", "2s"];
    let refused = shell.run(&words);
    refused.ends(1, &["no root that is trusted here has signed it"]);
}

#[test]
fn authorities_that_no_member_has_are_replaced_where_they_are_kept() {
    let shell = Shell::new();
    let [one, two] = [own_address(), own_address()];
    let members = [format!("n1@{one}"), format!("n2@{two}")];
    let [one, two] = &members;
    shell
        .run(&["init", "--data", "c", "--member", one, "--member", two])
        .ends(0, &[]);
    let _members = ["n1", "n2"].map(|name| {
        let (folder, ready) = (format!("c/{name}"), format!("{name} is ready"));
        Serving::start(&shell, &["serve", "--data", &folder], &ready)
    });
    let rotate = |words: &[&str]| {
        let head = [
            "-c",
            "c/context.toml",
            "--timeout",
            "60s",
            "cert",
            "rotate-ca",
        ];
        shell.run(&[&head, words].concat())
    };
    let stage = |stage: &str| {
        let json = rotate(&["status", "--json"]).ends(0, &[]).json();
        assert_eq!(json["stage"], stage, "{json}");
        json
    };
    assert_eq!(stage("none")["next"], "kontiki cert rotate-ca begin");
    rotate(&["begin"]).ends(1, &["has the keys of the authorities", "begin --ca DIR"]);
    rotate(&["begin", "--ca", "c/nothing"]).ends(1, &["c/nothing"]);
    let words = ["init", "--data", "x", "--member", "n1@127.0.0.1:7400"];
    shell.run(&words).ends(0, &[]);
    rotate(&["begin", "--ca", "x/ca"]).ends(1, &["vouched for by none", "sign in this cluster"]);
    rotate(&["abandon"]).ends(1, &["rotate-ca begin"]);
    rotate(&["sign", "--force"]).ends(2, &[]);
    stage("none");

    rotate(&["begin", "--ca", "c/ca"]).ends(0, &[]);
    let begun = stage("trusting");
    assert_eq!(begun["members"][1]["believes_new"], true, "{begun}");
    assert_eq!(begun["members"][1]["shows"], "old", "{begun}");
    rotate(&["begin", "--ca", "c/ca"]).ends(0, &[]);
    assert_eq!(stage("trusting")["nodes"], begun["nodes"]);
    rotate(&["finish"]).ends(1, &["rotate-ca sign"]);
    rotate(&["abandon", "--ca", "c/ca"]).ends(0, &[]);
    assert_eq!(stage("abandoned")["members"][0]["believes_new"], false);
    // Others are made: what was given up may be in the wrong hands.
    rotate(&["begin", "--ca", "c/ca"]).ends(0, &[]);
    assert_ne!(stage("trusting")["nodes"], begun["nodes"]);

    // Keys that nobody has any more sign nothing.
    rotate(&["sign", "--ca", "x/ca"]).ends(1, &["are not found"]);
    rotate(&["sign"]).ends(1, &["are not found"]);
    stage("trusting");
    let sign = ["sign", "--ca", "c/ca"];
    rotate(&sign).ends(0, &["kontiki cert renew --data DIR --ca c/ca"]);
    // Nobody shows what they have signed yet.
    rotate(&["abandon", "--ca", "c/ca"]).ends(0, &[]);
    rotate(&["begin", "--ca", "c/ca"]).ends(0, &[]);
    rotate(&sign).ends(0, &[]);
    let signing = stage("signing");
    assert_eq!(signing["waiting_for"], serde_json::json!(["n1", "n2"]));
    rotate(&["finish"]).ends(1, &["would be shut out", "cert renew --ca DIR"]);
    let renew = ["-c", "c/context.toml", "cert", "renew", "--ca", "c/ca"];
    shell.run(&renew).ends(0, &[]);
    rotate(&["finish"]).ends(1, &["n1, n2 show no certificate of the new authority"]);
    for data in ["c/n1", "c/n2"] {
        let renew = ["cert", "renew", "--data", data, "--ca", "c/ca"];
        shell.run(&renew).ends(0, &[]);
    }
    until("both show what the new one has signed", || {
        stage("signing")["waiting_for"] == serde_json::json!([])
    });
    rotate(&["abandon"]).ends(1, &["n1, n2 show what the new authorities have signed"]);
    rotate(&["finish"]).ends(0, &[]);
    let done = stage("finished");
    assert_eq!(done["members"][0]["believes_old"], false, "{done}");
    let new = done["nodes"]["new"].as_str().unwrap();
    for file in ["c/operator/node-ca.pem", "c/n1/certs/node-ca.pem"] {
        let pem = fs::read_to_string(shell.path(file)).unwrap();
        assert_eq!(pem.matches("BEGIN").count(), 1, "{file}");
        assert_eq!(fingerprint(&shell, file), new, "{file}");
    }
    let topics = ["-c", "c/context.toml", "topic", "list"];
    shell.run(&topics).ends(0, &[]);
}
