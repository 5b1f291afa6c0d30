//! What an operator does with members: replace, drain, watch; and who lets in whom, whatever is in the way.

#![allow(clippy::unwrap_used, reason = "a test")]

mod shell;

use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use kontiki_transport::Token;
use rustix::process::Signal;
use serde_json::Value;
use shell::{
    Said, Shell,
    dev::Going,
    growing::{alone, join_words, joins, kept_by, members, token, until, voters},
    own_address,
    serving::Serving,
};

/// Who keeps the first topic, by name.
fn keepers(status: &Value) -> Vec<&str> {
    let replicas = status["topics"][0]["replicas"].as_array().unwrap().iter();
    let mut names: Vec<&str> = replicas.map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Begins to join without serving.
fn joining(shell: &Shell, name: &str, address: &str, token: &str) -> Child {
    shell.start(&join_words(name, address, token))
}

fn ended(joining: Child) -> Said {
    joining.wait_with_output().unwrap().into()
}

#[test]
fn a_member_is_drained_watched_and_replaced() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    let mut n2 = joins(&shell, "n2");
    shell
        .run(&["topic", "create", "orders", "--replicas", "2"])
        .ends(0, &[]);
    shell
        .feed(&["append", "orders"], b"one\n")
        .ends(0, &["1 record"]);
    until(&shell, "a topic on two", |status| kept_by(status, 2));
    let _n3 = joins(&shell, "n3");
    let mut watch = Going::start(&shell, &["member", "status", "--watch", "--json"]);

    // Its topics go elsewhere, and it stays.
    let drained = shell.run(&["node", "drain", "n2", "--json"]).ends(0, &[]);
    let drained = drained.json();
    assert_eq!(
        (&drained["standing"], &drained["done"]),
        (&"draining".into(), &true.into())
    );
    watch.line(|line| {
        let status: Value = serde_json::from_str(line).ok()?;
        (keepers(&status) == ["n1", "n3"]).then_some(())
    });
    assert_eq!(watch.end(Signal::INT), Some(0));
    let listed = shell.run(&["member", "list"]).ends(0, &[]);
    assert!(listed.out.contains("draining"), "{listed:?}");

    // Who drains takes nobody's place, nor does somebody who is not there, nor the one who goes.
    let replace = |name, with| shell.run(&["member", "replace", name, "--with", with]);
    replace("n3", "n2").ends(1, &["n2 is draining", "kontiki node undrain n2"]);
    replace("n3", "n9").ends(1, &["there is no member n9 yet", "kontiki join"]);
    replace("n3", "n3").ends(2, &["its own place"]);
    replace("n9", "n3").ends(1, &["no member n9"]);
    let said = shell.run(&["node", "drain", "n9"]);
    said.ends(1, &["no member n9", "n1, n2, n3"]);
    let again = shell.run(&["node", "undrain", "n2", "--json"]).ends(0, &[]);
    assert_eq!(again.json()["standing"], "active");

    let said = replace("n2", "n3").ends(0, &[]);
    assert!(said.out.contains("n2 is a member no more"), "{said:?}");
    assert_eq!(members(&shell), ["n1", "n3"]);
    assert_eq!(n2.ended(), Some(1));
    shell
        .feed(&["append", "orders"], b"two\n")
        .ends(0, &["1 record"]);
    let said = shell.run(&["read", "orders", "--from", "earliest"]);
    assert_eq!(said.ends(0, &[]).out, "one\ntwo\n");

    // Whoever comes to take a place is no copy more that would be lost.
    shell
        .run(&["topic", "edit", "orders", "--replicas", "3"])
        .ends(0, &[]);
    let _n4 = joins(&shell, "n4");
    until(&shell, "a topic on three", |status| kept_by(status, 3));
    let refused = shell.run(&["member", "remove", "n3"]);
    refused.ends(1, &["by 2 in place of 3 members", "member replace n3"]);
    replace("n3", "n4").ends(0, &[]);
    assert_eq!(members(&shell), ["n1", "n4"]);
}

#[test]
fn whoever_does_not_sign_says_who_does_and_whoever_has_the_keys_may() {
    let shell = Shell::new();
    let (mut n1, _) = alone(&shell);
    let n2 = joins(&shell, "n2");
    until(&shell, "two voters", |status| voters(status) == 2);

    // Only n2 is known to whoever has this token, and only n1 signs, which leads nothing now.
    shell
        .run(&["leader", "transfer", "--cluster", "--to", "n2"])
        .ends(0, &[]);
    let mut roundabout: Token = token(&shell, "node", "1h").parse().unwrap();
    let at = |name: &str| {
        let json = shell.run(&["member", "list", "--json"]).ends(0, &[]).json();
        let mut members = json["members"].as_array().unwrap().iter();
        let member = members.find(|one| one["name"] == name).unwrap();
        member["address"].as_str().unwrap().to_owned()
    };
    roundabout.addresses = vec![at("n2")];
    let said = ended(joining(
        &shell,
        "n3",
        &own_address(),
        &roundabout.to_string(),
    ));
    said.ends(0, &["n3 is member 3"]);
    shell.run(&["member", "remove", "n3"]).ends(0, &[]);

    // The keys move to a folder that n2's settings name; then the one that had them can go.
    shell.run(&["member", "remove", "n1"]).ends(
        1,
        &["n1 is the only member that is known to sign", "ca.dir"],
    );
    fs::rename(shell.path("n1/ca"), shell.path("keys")).unwrap();
    fs::write(shell.path("n2/kontiki.toml"), "[ca]\ndir = '../keys'\n").unwrap();
    let mut n2 = n2;
    assert_eq!(n2.end(Signal::TERM), Some(0));
    let _n2 = Serving::start(&shell, &["serve", "--data", "n2"], "n2 is ready");
    until(&shell, "two that vote", |status| voters(status) == 2);
    shell
        .run(&["member", "remove", "n1", "--force"])
        .ends(0, &[]);
    assert_eq!(n1.ended(), Some(1));
    let _n4 = joins(&shell, "n4");
    assert_eq!(members(&shell), ["n2", "n4"]);
}

#[test]
fn of_two_who_come_with_one_token_one_gets_in() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    let leave = token(&shell, "node", "1h");
    let both = ["n2", "n3"].map(|name| (name, joining(&shell, name, &own_address(), &leave)));
    let both = both.map(|(name, joining)| (name, ended(joining)));
    let (entered, refused): (Vec<_>, Vec<_>) =
        both.into_iter().partition(|(_, said)| said.code == Some(0));
    let [(winner, _)] = &entered[..] else {
        panic!("one gets in: {entered:?}, {refused:?}")
    };
    let (_, refused) = refused.into_iter().next().unwrap();
    refused.ends(1, &[&format!("was spent by {winner}"), "ask for a new one"]);
    assert_eq!(members(&shell), ["n1", *winner]);
}

#[test]
fn a_join_that_is_killed_half_way_is_gone_on_with() {
    let shell = Shell::new();
    let (_n1, _) = alone(&shell);
    let (leave, address) = (token(&shell, "node", "1h"), own_address());
    let late = Instant::now() + Duration::from_secs(60);
    for left in ["certs", "certs/node.key", "certs/node.pem"] {
        let mut attempt = shell
            .command(&[
                "join", "--data", "n2", "--name", "n2", "--listen", &address, &leave,
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !shell.path("n2").join(left).exists() {
            assert!(Instant::now() < late, "it makes no {left}");
            std::thread::yield_now();
        }
        attempt.kill().unwrap();
        attempt.wait().unwrap();
    }
    let whole = ended(joining(&shell, "n2", &address, &leave));
    whole.ends(0, &["n2 is member 2"]);
    let _n2 = Serving::start(&shell, &["serve", "--data", "n2"], "n2 is ready");
    until(&shell, "two that vote", |status| voters(status) == 2);
    assert_eq!(members(&shell), ["n1", "n2"]);
}
