//! System calls that fail once, the k-th of their kind: the member says why, stops itself, is not
//! missed, and starts again as if nothing had been.

use std::{process::Command, time::Duration};

use crate::{
    cluster::{Cluster, kontiki},
    plan::{Plan, Random, not_run, say},
    report::Report,
    stage::{SIZE, Stage},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;
/// How long a member has to come to its k-th call; then it has not.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

const KIND: &str = "calls";

/// What fails, how, and as which line of the report.
struct Failure {
    calls: &'static str,
    error: &'static str,
    /// Only on this file of the data directory.
    only_on: Option<&'static str>,
    /// Its k-th call, up to this, is within reach.
    most: u64,
    named: &'static str,
}

const FAILURES: [Failure; 7] = [
    Failure {
        calls: "fdatasync",
        error: "EIO",
        only_on: None,
        most: 400,
        named: "fdatasync: EIO",
    },
    Failure {
        calls: "fsync",
        error: "EIO",
        only_on: None,
        most: 40,
        named: "fsync: EIO",
    },
    Failure {
        calls: "pwrite64,pwritev",
        error: "ENOSPC",
        only_on: None,
        most: 600,
        named: "pwrite: ENOSPC",
    },
    Failure {
        calls: "pwrite64,pwritev",
        error: "EIO",
        only_on: None,
        most: 600,
        named: "pwrite: EIO",
    },
    Failure {
        calls: "write",
        error: "ENOSPC",
        only_on: Some("state/0.jnl"),
        most: 20,
        named: "write of the state: ENOSPC",
    },
    Failure {
        calls: "ftruncate,fallocate",
        error: "ENOSPC",
        only_on: None,
        most: 20,
        named: "fallocate: ENOSPC",
    },
    Failure {
        calls: "rename,renameat,renameat2,unlink,unlinkat,mkdir",
        error: "EIO",
        only_on: None,
        most: 12,
        named: "rename, unlink, mkdir: EIO",
    },
];

#[test]
fn a_member_whose_disk_fails_once_stops_says_why_and_starts_again() {
    let Some(mut plan) = Plan::of(KIND, 6) else {
        return;
    };
    let traced = Command::new("strace").args(["-qq", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        return not_run(KIND, "it needs strace, and leave to trace");
    }
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let mut stage = Stage::set(Cluster::born(SIZE), &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            fail_a_call(&mut stage, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn fail_a_call(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    let failure = &FAILURES[random.below(FAILURES.len() as u64) as usize];
    // As many early ones as late ones: the beginning of a life has other calls than its middle.
    let most = if random.percent(40) {
        failure.most.min(12)
    } else {
        failure.most
    };
    let nth = random.within(1..=most);
    let victim = random.below(SIZE as u64) as usize;
    report.round();
    stage.heal();
    stage.cluster.kill(victim);
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qqq", "-o", "/dev/null"]);
    strace.args(["-e", &format!("trace={}", failure.calls)]);
    let inject = format!(
        "inject={}:error={}:when={nth}",
        failure.calls, failure.error
    );
    strace.args(["-e", &inject]);
    if let Some(file) = failure.only_on {
        strace.arg("-P");
        strace.arg(stage.cluster.members[victim].data.join("data").join(file));
    }
    strace.arg(kontiki());
    stage.cluster.launch(victim, strace);
    let started = stage.cluster.ready(victim);
    let cluster = &mut stage.cluster;
    let status = started
        .err()
        .or_else(|| cluster.ends_within(victim, REACHED_WITHIN));
    let Some(status) = status else {
        // It may not have come so far, or it could do without.
        report.fault("not reached, or borne");
        stage.cluster.kill(victim);
        stage.start(&[victim]);
        return;
    };
    let said = stage.cluster.said_lately(victim);
    assert_eq!(
        status.code(),
        Some(1),
        "{} at its call {nth}: {status}\n{said}",
        failure.named
    );
    let why = match failure.error {
        "EIO" => "Input/output error",
        _ => "No space left on device",
    };
    assert!(
        said.contains(why),
        "{} at its call {nth}: it does not say why it stopped\n{said}",
        failure.named
    );
    report.fault(failure.named);
    stage.next_acknowledgement();
    stage.start(&[victim]);
}
