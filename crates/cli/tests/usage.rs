//! What needs no cluster: bad input is refused with a sentence that says what would be right.

mod shell;

use shell::Shell;

#[test]
fn no_verb_is_a_question_for_help() {
    let said = Shell::new()
        .run(&[])
        .ends(2, &["kontiki dev", "Exit codes:"]);
    assert_eq!(said.out, "");
}

#[test]
fn help_is_data() {
    let said = Shell::new().run(&["--help"]).ends(0, &[]);
    assert!(said.out.contains("kontiki dev"));
    assert_eq!(said.err, "");
    assert!(
        Shell::new()
            .run(&["--version"])
            .ends(0, &[])
            .out
            .starts_with("kontiki 0.")
    );
}

#[test]
fn unknown_verbs_and_options_name_the_nearest() {
    let shell = Shell::new();
    shell.run(&["apend", "t"]).ends(2, &["append"]);
    shell.run(&["topic", "craete", "t"]).ends(2, &["create"]);
    shell
        .run(&["read", "t", "--form", "1"])
        .ends(2, &["--from"]);
}

#[test]
fn bad_values_are_refused_with_what_would_be_right() {
    let shell = Shell::new();
    for (words, says) in [
        (
            &["read", "t", "--from", "yesterday"][..],
            "2026-03-01T12:00:00Z",
        ),
        (
            &["read", "t", "--from", "earlist"],
            "did you mean earliest?",
        ),
        (&["read", "t", "--from", "1h"], "-1h"),
        (
            &["read", "t", "--from", "99999999999999999999"],
            "largest offset",
        ),
        (&["read", "t", "--until", "-5"], "-5m"),
        (&["read", "t", "--until", "5", "-f"], "--follow"),
        (&["read", "no spaces"], "a-z A-Z 0-9"),
        (&["append", ""], "1 to 128 characters"),
        (&["append", "t", "--header", "x"], "NAME=VALUE"),
        (&["--timeout", "soon", "topic", "list"], "500ms"),
        (&["bench", "append", "--size", "3"], "32 to 1048576"),
        (&["bench", "tail", "--rate", "0"], "--rate"),
        (&["dev", "--members", "10"], "1..=9"),
        (&["leader", "transfer", "--to", "n1"], "TOPIC"),
        (
            &["--log", "a=b=c", "topic", "list"],
            "info,kontiki_server=debug",
        ),
    ] {
        shell.run(words).ends(2, &[says]);
    }
}

#[test]
fn without_a_cluster_the_way_to_one_is_said() {
    let shell = Shell::new();
    for words in [
        &["topic", "list"][..],
        &["append", "t"],
        &["read", "t"],
        &["cluster", "status"],
    ] {
        shell
            .run(words)
            .ends(1, &["no default context", "kontiki dev"]);
    }
    shell
        .run(&["-c", "nowhere", "topic", "list"])
        .ends(1, &["no context \"nowhere\""]);
    shell
        .run(&["-c", "./nowhere.toml", "topic", "list"])
        .ends(1, &["./nowhere.toml"]);
}

#[test]
fn a_context_with_an_unknown_key_is_refused_with_the_nearest_known_one() {
    let shell = Shell::new();
    std::fs::write(shell.path("c.toml"), "adresses = []\n").unwrap();
    shell
        .run(&["-c", "c.toml", "topic", "list"])
        .ends(1, &["c.toml", "adresses", "addresses"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named_before_anything_is_dialled() {
    let shell = Shell::new();
    shell
        .run(&["append", "t", "--file", "none.txt"])
        .ends(1, &["none.txt", "No such file"]);
    shell
        .run(&["append", "t", "--file", "."])
        .ends(1, &["is a folder"]);
}

#[test]
fn every_shell_gets_completions_that_know_the_verbs() {
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = Shell::new().run(&["completion", name]).ends(0, &[]);
        assert!(said.out.contains("wait-healthy"), "{name}");
    }
    Shell::new().run(&["completion", "tcsh"]).ends(2, &["bash"]);
}

#[test]
fn there_are_no_contexts_at_first() {
    let shell = Shell::new();
    shell
        .run(&["context", "list"])
        .ends(0, &["no contexts yet"]);
    let json = shell
        .run(&["context", "list", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json, serde_json::json!({ "contexts": [] }));
}

#[test]
fn what_cannot_plant_mistakes_says_how_to_build_what_can() {
    Shell::new()
        .run(&["sim", "--planted"])
        .ends(1, &["cargo run --profile planted --features planted"]);
}
