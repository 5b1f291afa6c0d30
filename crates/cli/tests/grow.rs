//! A cluster is started as one and grown by tokens, and who has none of this cluster's gets nowhere.

#![allow(clippy::unwrap_used, reason = "a test")]

mod shell;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread, time::Duration};

use jiff::Timestamp;
use kontiki_transport::{Role, Token};
use serde_json::Value;
use shell::{
    Said, Shell,
    growing::{alone, join_words, joins, kept_by, members, token, until, voters},
    own_address,
    serving::Serving,
};

/// Joins without serving.
fn join(shell: &Shell, name: &str, address: &str, token: &str) -> Said {
    let words = join_words(name, address, token);
    shell.run(&[&["--timeout", "5s"], &words[..]].concat())
}

/// For how long a token is good still.
fn left(shell: &Shell, id: &str) -> Duration {
    let json = shell.run(&["token", "list", "--json"]).ends(0, &[]).json();
    let mut tokens = json["tokens"].as_array().unwrap().iter();
    // One that is not on the list any more has expired.
    let token = tokens.find(|one| one["id"] == id);
    let left = token.map(|token| {
        let expires: Timestamp = token["expires_at"].as_str().unwrap().parse().unwrap();
        expires.duration_since(Timestamp::now())
    });
    left.and_then(|left| left.try_into().ok())
        .unwrap_or_default()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn one_member_becomes_three_while_it_serves_and_one_of_them_leaves() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    shell
        .feed(&["append", "orders"], b"alone\n")
        .ends(0, &["1 record"]);
    let _n2 = joins(&shell, "n2");
    let mut n3 = joins(&shell, "n3");
    until(&shell, "a cluster of three", |status| {
        voters(status) == 3 && kept_by(status, 3)
    });
    shell
        .feed(&["append", "orders"], b"of three\n")
        .ends(0, &["1 record"]);

    // Nobody goes for good as long as its copies would be missed and nobody insists.
    let refused = shell.run(&["member", "remove", "n3"]);
    refused.ends(
        1,
        &[
            "topic orders would be kept by 2 in place of 3 members",
            "kontiki member replace n3 --with NAME",
            "kontiki topic edit orders --replicas 2",
            "--force",
        ],
    );
    assert_eq!(members(&shell), ["n1", "n2", "n3"]);
    // Then it says so, its folder is of no use, and its name is free.
    let json = shell
        .run(&["member", "remove", "n3", "--force", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!((&json["name"], &json["done"]), (&"n3".into(), &true.into()));
    assert_eq!(members(&shell), ["n1", "n2"]);
    assert_eq!(n3.ended(), Some(1));
    until(&shell, "a cluster of two", |status| {
        voters(status) == 2 && kept_by(status, 2)
    });
    shell
        .feed(&["append", "orders"], b"of two\n")
        .ends(0, &["1 record"]);
    let said = shell
        .run(&["read", "orders", "--from", "earliest"])
        .ends(0, &[]);
    assert_eq!(said.out, "alone\nof three\nof two\n");
    fs::remove_dir_all(shell.path("n3")).unwrap();
    let _n3 = joins(&shell, "n3");
    until(&shell, "three again", |status| {
        voters(status) == 3 && kept_by(status, 3)
    });
    let status = shell.run(&["member", "list", "--json"]).ends(0, &[]).json();
    assert_eq!(status["members"][2]["id"], 4, "a number is given once");
    let said = shell.run(&["member", "remove", "nobody"]);
    said.ends(1, &["no member nobody"]);
    let said = shell.run(&["member", "remove", "n1"]);
    said.ends(
        1,
        &["n1 is the only member that is known to sign", "ca.dir"],
    );
    // The context was made when there was one member: it has learned of the others.
    let context = shell
        .run(&["context", "show", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(context["addresses"].as_array().unwrap().len(), 3);
}

#[test]
fn a_member_is_added_demoted_and_promoted_and_the_cluster_says_how_weak_it_is() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    let warned = |shell: &Shell| {
        let json = shell
            .run(&["member", "status", "--json"])
            .ends(0, &[])
            .json();
        json["warnings"].to_string()
    };
    assert!(warned(&shell).contains("one voter"), "{}", warned(&shell));
    for topic in ["orders", "invoices", "returns", "notes"] {
        shell.run(&["topic", "create", topic]).ends(0, &[]);
    }
    shell.run(&["cluster", "balance", "off"]).ends(0, &[]);
    let added = shell.run(&["member", "add", "n2"]);
    let added = added.ends(
        0,
        &["kontiki join --data n2 --name n2 --listen HOST:PORT TOKEN"],
    );
    let address = own_address();
    let leave = added.out.trim().to_owned();
    let words = [
        "join", "--data", "n2", "--name", "n2", "--listen", &address, &leave,
    ];
    let _n2 = Serving::start(&shell, &words, "has caught up");
    until(&shell, "everything on two", |status| {
        let mut topics = status["topics"].as_array().unwrap().iter();
        let states = |topic: &Value| format!("{}{}", topic["replicas"], topic["wanted"]);
        let both = |topic: &Value| states(topic).matches("\"follower\"").count() == 1;
        voters(status) == 2 && topics.all(both)
    });
    assert!(warned(&shell).contains("two voters: neither may fail"));
    let twice = shell.run(&["member", "add", "n2"]);
    twice.ends(1, &["there is a member n2 already"]);

    // Leaderships are spread when that is asked for.
    let moved = shell
        .run(&["leader", "balance", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(moved["moved"].as_array().unwrap().len(), 2, "{moved}");
    let again = shell.run(&["leader", "balance"]).ends(0, &[]);
    assert_eq!(again.out, "leaderships are spread evenly\n");
    shell.run(&["cluster", "balance", "on"]).ends(0, &[]);

    let fewer = shell.run(&["member", "demote", "n2"]);
    fewer.ends(1, &["would be kept by 1 in place of 2 members", "--force"]);
    let demoted = shell
        .run(&["member", "demote", "n2", "--force", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(
        (&demoted["standing"], &demoted["done"]),
        (&"demoted".into(), &true.into())
    );
    until(&shell, "one vote", |status| {
        voters(status) == 1 && kept_by(status, 1)
    });
    let last = shell.run(&["member", "demote", "n1"]);
    last.ends(1, &["n1 is the last member that stays and votes"]);
    let promoted = shell
        .run(&["member", "promote", "n2", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(
        (&promoted["standing"], &promoted["done"]),
        (&"active".into(), &true.into())
    );
    until(&shell, "two votes", |status| voters(status) == 2);
}

#[test]
fn a_token_admits_one_member_once_and_an_interrupted_join_goes_on() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    let (address, leave) = (own_address(), token(&shell, "node", "1h"));
    let first = join(&shell, "n2", &address, &leave)
        .ends(0, &["n2 is member 2"])
        .json();
    assert_eq!((&first["name"], &first["id"]), (&"n2".into(), &2.into()));
    assert_eq!(members(&shell), ["n1", "n2"]);
    assert_eq!(mode(&shell.path("n2/certs/node.key")), 0o600);
    assert!(!shell.path("n2/ca").exists(), "no authority's key travels");

    // Run again, whole or after it was interrupted before it had heard the answer, it is the same member.
    let again = join(&shell, "n2", &address, &leave).ends(0, &[]).json();
    assert_eq!(again, first);
    fs::remove_file(shell.path("n2/member.toml")).unwrap();
    fs::remove_file(shell.path("n2/certs/node.pem")).unwrap();
    let verified = |told: &str| {
        let said = shell.run(&["verify", "--data", "n2"]).ends(0, &[]);
        assert!(said.out.contains(told), "{said:?}");
    };
    verified("a join was interrupted here");
    verified("is nobody's yet, and nothing is lost");
    let again = join(&shell, "n2", &address, &leave).ends(0, &[]).json();
    assert_eq!(again, first);
    assert_eq!(members(&shell), ["n1", "n2"]);
    verified("has kept nothing here yet");
    verified("is sound");
    // Whether it had started before nobody knows any more: it votes when it has everything.
    let _n2 = Serving::start(&shell, &["serve", "--data", "n2"], "n2 is ready");
    until(&shell, "two votes", |status| voters(status) == 2);

    // Another folder is somebody else.
    let stolen = join(&shell, "n3", &own_address(), &leave);
    stolen.ends(1, &["was spent by n2", "ask for a new one"]);
    let named = token(&shell, "node", "1h");
    let twice = Shell::new();
    fs::create_dir_all(twice.path("else")).unwrap();
    let words = [
        "join",
        "--data",
        "else",
        "--name",
        "n2",
        "--listen",
        &own_address(),
        "--no-serve",
        &named,
    ];
    twice.run(&words).ends(1, &["n2"]);
    assert_eq!(members(&shell), ["n1", "n2"]);
}

#[test]
fn tokens_that_are_not_good_admit_nobody_and_are_not_shown() {
    let shell = Shell::new();
    let (_n1, address) = alone(&shell);
    let good = token(&shell, "node", "1h");
    let id = |text: &str| format!("{:016x}", text.parse::<Token>().unwrap().id);

    let brief = token(&shell, "node", "1s");
    let revoked = token(&shell, "node", "1h");
    shell.run(&["token", "revoke", &id(&revoked)]).ends(0, &[]);
    thread::sleep(left(&shell, &id(&brief)));
    for (spoiled, says) in [(&brief, "expired"), (&revoked, "admits nobody")] {
        let said = join(&shell, "n2", &own_address(), spoiled).ends(1, &[says]);
        assert!(!said.err.contains(&**spoiled), "{said:?}");
    }

    // One with a letter changed, one for another role, one that somebody has made up.
    let typo = format!("{}A", &good[..good.len() - 2]);
    let said = join(&shell, "n2", &own_address(), &typo).ends(2, &["copy it again, whole"]);
    assert!(!said.err.contains(&typo[..40]), "{said:?}");
    let client = token(&shell, "operator", "1h");
    join(&shell, "n2", &own_address(), &client).ends(2, &["kontiki login"]);
    shell.run(&["login", &good]).ends(2, &["kontiki join"]);
    let real: Token = good.parse().unwrap();
    let made_up = Token::new(real.cluster, real.authority, Role::Node, real.addresses);
    let said = join(&shell, "n2", &own_address(), &made_up.unwrap().to_string());
    said.ends(
        1,
        &["admits nobody: it has expired, was revoked, or was never made"],
    );

    // Who answers there is not of the authority that this one names: it is told nothing.
    let astray = Token::new(real.cluster, [7; 32], Role::Node, vec![address]).unwrap();
    let said = join(&shell, "n2", &own_address(), &astray.to_string());
    said.ends(
        1,
        &[
            "its authority is not the one that the token names",
            "nothing was said to it",
        ],
    );
    let nobody = Token::new(
        real.cluster,
        real.authority,
        Role::Node,
        vec![own_address()],
    )
    .unwrap();
    let said = join(&shell, "n2", &own_address(), &nobody.to_string());
    said.ends(3, &["nobody who signs answered", "nothing listens"]);
    assert_eq!(members(&shell), ["n1"]);

    shell
        .run(&["token", "create", "--role", "node", "--ttl", "31d"])
        .ends(2, &["1 second to 30 days"]);
    // What was good before all this is good still.
    join(&shell, "n2", &own_address(), &good).ends(0, &["n2 is member 2"]);
}

#[test]
fn who_logs_in_may_do_what_the_role_of_the_token_may() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    shell.run(&["topic", "create", "orders"]).ends(0, &[]);
    let leave = token(&shell, "producer", "10m");
    let said = shell
        .run(&["login", &leave, "--name", "shop", "--json"])
        .ends(0, &[]);
    let context = said.json()["context"].as_str().unwrap().to_owned();
    let key = Path::new(&context).with_file_name("client.key");
    assert_eq!(mode(&key), 0o600);
    shell
        .feed(&["-c", "shop", "append", "orders"], b"a\n")
        .ends(0, &["1 record"]);
    shell
        .run(&["-c", "shop", "read", "orders", "-n", "1"])
        .ends(4, &["not permit"]);
    shell
        .run(&["-c", "shop", "token", "create", "--role", "operator"])
        .ends(4, &["operator"]);
    shell
        .run(&["login", &leave, "--name", "other"])
        .ends(1, &["was spent by shop"]);
    shell
        .run(&["login", &leave, "--name", "shop"])
        .ends(1, &["a client shop of yours already"]);
    let json = shell.run(&["token", "list", "--json"]).ends(0, &[]).json();
    assert_eq!(json["tokens"][0]["spent_by"], "shop");
    assert!(!json.to_string().contains("hash"), "{json}");

    // The token may come by way of the environment, where no list of processes shows it.
    let leave = token(&shell, "operator", "10m");
    let mut words: Command = shell.command(&["login", "--name", "boss"]);
    let said: Said = words.env("KONTIKI_TOKEN", &leave).output().unwrap().into();
    said.ends(0, &[]);
    let words = ["-c", "boss", "token", "create", "--role", "operator"];
    shell.run(&words).ends(0, &[]);
}
