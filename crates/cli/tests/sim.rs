//! `kontiki sim`: one seed is one story, what it came to is told to people and to programs, and a
//! campaign that is interrupted tells of what it has done.

mod shell;

use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shell::{Said, Shell};

/// One story of one member.
fn one(shell: &Shell, more: &[&str]) -> Said {
    let words = ["sim", "--seed", "7", "--members", "1", "--minutes", "1"];
    shell.run(&[&words, more].concat())
}

/// The hash that a report for people ends with.
#[track_caller]
fn hash(said: &Said) -> String {
    let (_, rest) = said.out.rsplit_once("trace hash ").expect("it is reported");
    let hash = rest.split_whitespace().next();
    hash.expect("it has digits").to_owned()
}

#[test]
fn a_seed_told_twice_is_the_same_story_to_the_last_message() {
    let shell = Shell::new();
    let once = one(&shell, &[]).ends(0, &[]);
    assert!(once.out.contains("nothing was found"), "{once:?}");
    assert!(
        once.out.contains("lost 0; doubled 0; phantom 0"),
        "{once:?}"
    );
    let told: Value = one(&shell, &["--json"]).ends(0, &[]).json();
    assert_eq!(told["trace_hash"], hash(&once));
    assert_eq!(hash(&once).len(), 16);
    assert_eq!(told["stories"], 1);
    assert!(told["simulated_hours"].as_f64().unwrap() > 1.0 / 60.0);
    assert!(told["acknowledged"].as_u64().unwrap() > 0);
    assert_eq!(told["violations"], 0);
    assert_eq!(told["failures"], Value::Array(Vec::new()));
    let kinds = told["faults_by_kind"].as_array().unwrap();
    let counted = kinds.iter().map(|kind| kind[1].as_u64().unwrap());
    assert_eq!(told["faults"], counted.sum::<u64>());
}

#[test]
fn a_trace_is_lines_of_time_and_deed_before_the_report() {
    let shell = Shell::new();
    let said = one(&shell, &["--trace"]).ends(0, &[]);
    let first = said.out.lines().next().unwrap();
    assert!(first.trim_start().starts_with("0."), "{first}");
    assert!(
        said.out.contains("n1 leads in term 1 of group 0"),
        "{said:?}"
    );
    assert!(said.out.contains("everything is healed"));
    assert_eq!(hash(&said), hash(&one(&shell, &[])));
    assert_eq!(said.err, "");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let shell = Shell::new();
    for (words, says) in [
        (&["sim", "--trace"][..], "--seed"),
        (&["sim", "--members", "0"], "1..=7"),
        (&["sim", "--members", "8"], "1..=7"),
        (&["sim", "--minutes", "0"], "1..=10000000"),
        (
            &["sim", "--seed", "abc"],
            "a seed is a whole number from 0 to 18446744073709551615",
        ),
        (&["sim", "--only", "vote-twice"], "--planted"),
        (&["sim", "--planted", "--seed", "1"], "--seed"),
    ] {
        shell.run(words).ends(2, &[says]);
    }
}

#[cfg(not(feature = "planted"))]
#[test]
fn a_program_without_planted_mistakes_says_how_to_make_one() {
    let shell = Shell::new();
    let advice = "cargo run --profile planted --features planted -- sim --planted";
    shell.run(&["sim", "--planted"]).ends(1, &[advice]);
}

#[test]
fn a_campaign_that_is_terminated_reports_what_it_has_told() {
    let shell = Shell::new();
    let mut child = shell.start(&["sim", "--minutes", "10000", "--members", "1", "--json"]);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("seeds "), "{line}");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((1..1_000).contains(&told["stories"].as_u64().unwrap()));
    line.clear();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("interrupted after "), "{line}");
}
