//! One member as a process: it says when it is ready, ends when asked, and refuses what is not its own.

mod shell;

use rustix::process::Signal;
use shell::{Said, Shell, own_address, serving::Serving};

fn init(shell: &Shell, folder: &str, address: &str) -> Said {
    let member = format!("n1@{address}");
    shell
        .run(&["init", "--data", folder, "--member", &member])
        .ends(0, &[])
}

#[test]
fn a_member_serves_until_it_is_told_to_stop() {
    let shell = Shell::new();
    init(&shell, "one", &own_address());
    let words = ["serve", "--data", "one/n1"];
    let mut member = Serving::start(&shell, &words, "n1 is ready: clients at 127.");
    shell
        .run(&["-c", "one", "topic", "create", "orders"])
        .ends(0, &[]);
    shell
        .feed(&["-c", "one", "append", "orders"], b"a\nb\n")
        .ends(0, &["2 records"]);
    // Topics are made on first use only where that was asked for.
    shell
        .feed(&["-c", "one", "append", "order"], b"a\n")
        .ends(1, &["no topic order", "did you mean orders?"]);
    assert_eq!(member.end(Signal::TERM), Some(0));

    let words = ["serve", "--data", "one/n1", "--log-format", "json"];
    let mut member = Serving::start(&shell, &words, "{\"timestamp\"");
    let said = shell.run(&["-c", "one", "read", "orders", "--from", "1"]);
    assert_eq!(said.ends(0, &[]).out, "b\n");
    shell
        .run(&["-c", "one", "read", "orders", "--from", "3"])
        .ends(1, &["offset 3", "add -f"]);
    shell
        .run(&["-c", "one", "read", "orders", "--from", "latest"])
        .ends(0, &["add -f"]);
    assert_eq!(member.end(Signal::INT), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let shell = Shell::new();
    let address = own_address();
    init(&shell, "one", &address);
    init(&shell, "two", &address);
    let _one = Serving::start(&shell, &["serve", "--data", "one/n1"], "is ready");
    shell
        .run(&["serve", "--data", "two/n1"])
        .ends(1, &["cannot listen on 127.", "kontiki.toml"]);
    shell
        .run(&["serve", "--data", "one/n1"])
        .ends(1, &[&address]);
}

#[test]
fn certificates_that_changed_places_are_blamed_and_not_the_address() {
    let shell = Shell::new();
    init(&shell, "one", &own_address());
    let certs = shell.path("one/n1/certs");
    std::fs::copy(certs.join("client-ca.pem"), certs.join("node-ca.pem")).unwrap();
    let said = shell.run(&["serve", "--data", "one/n1"]);
    let said = said.ends(
        1,
        &[
            "one/n1/certs/node.pem: the own certificate of",
            "nodes' roots",
        ],
    );
    assert!(!said.err.contains("listen"), "{}", said.err);
}

#[test]
fn the_data_of_another_cluster_is_refused() {
    let shell = Shell::new();
    let address = own_address();
    init(&shell, "one", &address);
    init(&shell, "two", &address);
    let mut one = Serving::start(&shell, &["serve", "--data", "one/n1"], "is ready");
    assert_eq!(one.end(Signal::TERM), Some(0));
    std::fs::rename(shell.path("one/n1/data"), shell.path("two/n1/data")).unwrap();
    shell
        .run(&["serve", "--data", "two/n1"])
        .ends(1, &["two/n1", "belongs to"]);
}

#[test]
fn a_filter_of_the_log_that_is_none_is_refused_with_where_it_stands() {
    let shell = Shell::new();
    init(&shell, "one", &own_address());
    let file = shell.path("one/n1/kontiki.toml");
    std::fs::write(file, "[log]\nlevel = 'a=b=c'\n").unwrap();
    let words = ["serve", "--data", "one/n1"];
    shell
        .run(&words)
        .ends(1, &["one/n1/kontiki.toml: `log.level`"]);
    let words = ["--log", "a=b=c", "serve", "--data", "one/n1"];
    shell.run(&words).ends(2, &["\"a=b=c\" is no log filter"]);
}

#[test]
fn a_parent_that_is_not_one_is_not_followed() {
    let shell = Shell::new();
    init(&shell, "one", &own_address());
    let words = ["serve", "--data", "one/n1", "--with-parent", "1"];
    shell.run(&words).ends(1, &["not its parent"]);
}

#[test]
fn nobody_there_is_no_quorum() {
    let shell = Shell::new();
    let address = own_address();
    init(&shell, "one", &address);
    let words = ["-c", "one", "--timeout", "300ms", "topic", "list"];
    shell.run(&words).ends(
        3,
        &[
            "no member answered",
            &format!("nothing listens at {address}"),
        ],
    );
}
