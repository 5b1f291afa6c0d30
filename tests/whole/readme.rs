//! What README says is what happens: its program is the example, its commands are run.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::cluster::{Cluster, kontiki, ports};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md")
}

/// The fenced blocks under a heading, by their language.
pub(crate) fn blocks(heading: &str, language: &str) -> Vec<String> {
    let readme = readme();
    let section = readme
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("README has no section {heading:?}"))
        .1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut found = Vec::new();
    for (nth, part) in section.split("```").enumerate() {
        if nth % 2 == 1
            && let Some((first, rest)) = part.split_once('\n')
            && first == language
        {
            found.push(rest.to_owned());
        }
    }
    found
}

#[test]
fn the_program_in_readme_is_the_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello.rs");
    let example = fs::read_to_string(example).expect("examples/hello.rs");
    let program = blocks("The client", "rust").pop().expect("a program");
    let code = example
        .split_once("\n\n")
        .expect("a header and a program")
        .1;
    assert_eq!(
        program, code,
        "README's program and examples/hello.rs differ"
    );
}

#[test]
fn the_test_command_in_readme_is_what_ci_runs() {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    let ci = fs::read_to_string(ci).expect(".ci/run");
    assert!(ci.contains("README.md"), "ci takes the command from README");
    let commands = blocks("Two commands", "").join("");
    assert!(
        commands.lines().any(|line| line.starts_with("cargo test")),
        "{commands}"
    );
    assert!(
        commands
            .lines()
            .any(|line| line == "cargo run --release -- dev"),
        "{commands}"
    );
}

/// Every `kontiki` line of a section that can stand in a script, run by a shell with the operator's
/// context against a real cluster of three.
#[test]
fn the_commands_of_the_tour_work_as_typed() {
    let cluster = Cluster::start_on_first_use(3);
    let mut ran = 0;
    for line in blocks("Five minutes", "").join("").lines() {
        // Following never ends, and the process to kill differs from run to run.
        if line.contains(" -f") || line.starts_with("kill") || line.starts_with("cargo") {
            continue;
        }
        let printed = typed(line, |shell| {
            shell.env("KONTIKI_CONTEXT", cluster.context())
        });
        if line == "kontiki read greetings" {
            assert_eq!(printed, "hello\n", "{line}");
        }
        ran += 1;
    }
    assert!(ran >= 5, "the tour has only {ran} commands");
}

/// The commands of two sections in their order, at ports of this test's own. What serves goes on in the
/// background, `TOKEN` is what was printed last, and who is replaced has died.
#[test]
fn a_cluster_grows_and_is_looked_after_as_typed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut served = Served::default();
    let mut token = String::new();
    let ports = ["127.0.0.1:7511", "127.0.0.1:7521", "127.0.0.1:7531"];
    let ports = ports.map(|port| (port, own_address()));
    let set = |shell: &mut Command| {
        shell.current_dir(folder.path());
        shell.env("XDG_CONFIG_HOME", folder.path().join("config"));
    };
    let run = |line: &str| typed(line, |shell| (set(shell), shell).1);
    let mut members = Vec::new();
    let mut ran = 0;
    let sections = ["Grow a cluster", "Look after a cluster"].map(|section| blocks(section, ""));
    for line in sections.concat().join("").lines() {
        let mut line = line.replace("TOKEN", &token);
        for (port, own) in &ports {
            line = line.replace(port, own);
        }
        ran += 1;
        if line.contains(" serve ") || line.contains(" join ") {
            served.start(&line, set);
            run("kontiki --timeout 60s cluster status --wait-healthy");
            if line.contains(" serve ") {
                run("kontiki topic create orders");
            }
            members.push(format!("n{}", members.len() + 1));
            let newest = members.last().expect("one");
            while !is_home(&run("kontiki member status --json"), newest) {}
            continue;
        }
        if line.contains("member replace") {
            served.kill(1);
        }
        let printed = run(&line);
        if line.contains("token create") {
            token = printed.trim().to_owned();
        }
        if line.contains("member list") {
            let named = members.iter().all(|name| printed.contains(name));
            assert!(named, "{members:?}: {printed}");
        }
    }
    assert!(ran >= 16, "the sections have only {ran} commands");
    let left = run("kontiki member list --json");
    assert!(left.contains("n1"), "{left}");
    assert!(!left.contains("n2") && !left.contains("n3"), "{left}");
}

/// Whether a member votes, keeps the topic, and nothing moves any more.
fn is_home(status: &str, name: &str) -> bool {
    let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
    let (members, topic) = (&status["members"], &status["topics"][0]);
    let mut members = members.as_array().expect("members").iter();
    let mut replicas = topic["replicas"].as_array().expect("replicas").iter();
    members.any(|one| one["name"] == name && one["voter"] == true)
        && replicas.any(|one| one["name"] == name)
        && topic["wanted"].as_array().is_some_and(Vec::is_empty)
}

/// The commands of two sections in their order, in a cluster of two at addresses of this test's own.
#[test]
fn certificates_are_renewed_and_taken_back_and_authorities_replaced_as_typed() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = |shell: &mut Command| {
        shell.current_dir(folder.path());
        shell.env("XDG_CONFIG_HOME", folder.path().join("config"));
    };
    let mut served = Served::default();
    let [n1, n2] = [own_address(), own_address()];
    let ready = "kontiki --timeout 60s cluster status --wait-healthy";
    typed(
        &format!("kontiki init --data n1 --name n1 --listen {n1}"),
        |shell| (set(shell), shell).1,
    );
    served.start("kontiki serve --data n1", set);
    typed(ready, |shell| (set(shell), shell).1);
    let token = typed("kontiki token create --role node", |shell| {
        (set(shell), shell).1
    });
    let join = format!("kontiki join --data n2 --name n2 --listen {n2} --no-serve {token}");
    typed(join.trim(), |shell| (set(shell), shell).1);
    let mut token = String::new();
    let mut ran = 0;
    for line in blocks("Renew and revoke", "").join("").lines() {
        let line = line.replace("TOKEN", &token);
        let printed = typed(&line, |shell| (set(shell), shell).1);
        if line.contains("token create") {
            token = printed.trim().to_owned();
        }
        ran += 1;
    }
    assert!(ran >= 8, "the section has only {ran} commands");
    let listed = typed("kontiki cert show --members", |shell| (set(shell), shell).1);
    assert!(listed.contains("revoked: shop"), "{listed}");

    served.start("kontiki serve --data n2", set);
    let mut ran = 0;
    for line in blocks("Replace the authorities", "").join("").lines() {
        typed(line, |shell| (set(shell), shell).1);
        ran += 1;
    }
    assert_eq!(ran, 3);
    let listed = typed("kontiki cert rotate-ca status", |shell| {
        (set(shell), shell).1
    });
    assert!(listed.contains("are believed no more"), "{listed}");
}

/// The section's commands in their order, after two of three members are gone with their folders.
#[test]
fn a_member_goes_on_alone_as_typed() {
    let mut cluster = Cluster::start(3);
    let context = cluster.context();
    let with = |line: &str| typed(line, |shell| shell.env("KONTIKI_CONTEXT", &context));
    with("kontiki --timeout 60s cluster status --wait-healthy");
    with("kontiki topic create orders");
    with("echo one | kontiki append orders");
    // What n1 does not have is lost: who leads has all of it.
    with("kontiki leader transfer orders --to n1");
    cluster.kill_all();
    for gone in &cluster.members[1..] {
        fs::remove_dir_all(&gone.data).expect("a folder");
    }
    let mut served = Served::default();
    let n1 = cluster.members[0].data.display().to_string();
    let folder = cluster.dir.path().to_owned();
    let mut ran = 0;
    for line in blocks("When a majority is lost for good", "")
        .join("")
        .lines()
    {
        let line = line.replace("cluster/n1", &n1);
        let line = line.replace("cluster/context.toml", &context.display().to_string());
        ran += 1;
        if line.contains(" serve ") {
            served.start(&line, |shell| {
                shell.current_dir(&folder);
            });
            with("kontiki --timeout 60s cluster status --wait-healthy");
            assert_eq!(with("kontiki read orders --from earliest"), "one\n");
            continue;
        }
        let printed = with(&line);
        if line.contains("recoveries") {
            assert!(printed.contains("n2, n3"), "{printed}");
        }
    }
    assert_eq!(ran, 4);
}

/// An address that nothing else uses: the ports of this process's own part of the loopback network.
fn own_address() -> String {
    let [a, b] = (std::process::id() as u16).to_be_bytes();
    let address = Ipv4Addr::new(127, 99, a, b);
    // Peers come to the port after it.
    SocketAddr::from((address, ports(address, 2)[0])).to_string()
}

/// Processes that serve until the test's end.
#[derive(Default)]
struct Served(Vec<Child>);

impl Served {
    fn start(&mut self, line: &str, set: impl FnOnce(&mut Command)) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut command = Command::new(kontiki());
        set(command.args(&mut words));
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        self.0.push(quiet.spawn().expect("kontiki starts"));
    }

    /// Kills the one that was started as this.
    fn kill(&mut self, at: usize) {
        self.0[at].kill().expect("a process to kill");
        self.0[at].wait().expect("a process to wait for");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that was removed has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_story_of_the_simulator_is_told_as_typed() {
    let commands = blocks("Break it yourself", "").join("");
    let story = commands.lines().find(|line| line.contains("--seed"));
    let story = story.expect("a command that tells one story");
    let printed = typed(story, |shell| shell);
    assert!(printed.contains("nothing was found"), "{printed}");
    let hash = |printed: &str| printed.split_once("trace hash ").map(|it| it.1.to_owned());
    assert!(hash(&printed).is_some(), "{printed}");
    assert_eq!(hash(&typed(story, |shell| shell)), hash(&printed));
}

/// What a line prints in a shell that finds `kontiki`.
pub(crate) fn typed(line: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let folder = kontiki().parent().expect("a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut shell = Command::new("sh");
    let output = set(shell.args(["-c", line]).env("PATH", path)).output();
    let output = output.expect("a shell");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{line}\n{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}
