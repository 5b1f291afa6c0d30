//! Clusters that begin as one member and to which others come.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Shell, own_address, serving::Serving};

/// A cluster of one that serves, whose context is the default.
pub(crate) fn alone(shell: &Shell) -> (Serving, String) {
    let address = own_address();
    let words = ["init", "--data", "n1", "--name", "n1", "--listen", &address];
    shell.run(&words).ends(0, &[]);
    let n1 = Serving::start(shell, &["serve", "--data", "n1"], "n1 is ready");
    (n1, address)
}

/// A token, as it is typed.
pub(crate) fn token(shell: &Shell, role: &str, ttl: &str) -> String {
    let words = ["token", "create", "--role", role, "--ttl", ttl];
    let said = shell.run(&words).ends(0, &["good once, until"]);
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    said.out.trim().to_owned()
}

/// The members' names, by number.
pub(crate) fn members(shell: &Shell) -> Vec<String> {
    let json = shell.run(&["member", "list", "--json"]).ends(0, &[]).json();
    let members = json["members"].as_array().unwrap().iter();
    members
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the cluster's status is as wanted, for as long as the load of the machine may make it take.
pub(crate) fn until(shell: &Shell, what: &str, is_so: impl Fn(&Value) -> bool) {
    let late = Instant::now() + Duration::from_secs(60);
    let mut last = Value::Null;
    while Instant::now() < late {
        let said = shell.run(&["member", "status", "--json"]);
        if said.code == Some(0) {
            last = said.json();
            if is_so(&last) {
                return;
            }
        }
    }
    panic!("{what} does not come about: {last}");
}

/// Members that count in the cluster's own group.
pub(crate) fn voters(status: &Value) -> usize {
    let members = status["members"].as_array().unwrap().iter();
    members.filter(|member| member["voter"] == true).count()
}

/// Whether the first topic is kept by so many, and by those who are to.
pub(crate) fn kept_by(status: &Value, count: usize) -> bool {
    let topic = &status["topics"][0];
    let replicas = topic["replicas"].as_array().unwrap();
    let keeps = |one: &&Value| one["state"] == "leader" || one["state"] == "follower";
    topic["wanted"] == Value::Array(Vec::new())
        && replicas.len() == count
        && replicas.iter().filter(keeps).count() == count
}

/// How one joins in a folder of its name, and does not serve yet.
pub(crate) fn join_words<'a>(name: &'a str, address: &'a str, token: &'a str) -> [&'a str; 10] {
    [
        "join",
        "--data",
        name,
        "--name",
        name,
        "--listen",
        address,
        "--no-serve",
        "--json",
        token,
    ]
}

/// A member that joins and serves.
pub(crate) fn joins(shell: &Shell, name: &str) -> Serving {
    let leave = token(shell, "node", "1h");
    let address = own_address();
    let words = [
        "join", "--data", name, "--name", name, "--listen", &address, &leave,
    ];
    Serving::start(shell, &words, "has caught up")
}
