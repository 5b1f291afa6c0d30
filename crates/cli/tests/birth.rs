//! `init`, and what can be done with what it made before anything runs.

mod shell;

use std::{fs, os::unix::fs::PermissionsExt};

use shell::Shell;

const THREE: [&str; 9] = [
    "init",
    "--data",
    "cluster",
    "--member",
    "n1@127.0.0.1:7401",
    "--member",
    "n2@127.0.0.1:7403",
    "--member",
    "n3@127.0.0.1:7405,127.0.0.1:9405",
];

#[test]
fn a_cluster_is_made_and_what_to_do_next_is_said() {
    let shell = Shell::new();
    let said = shell.run(&THREE).ends(0, &[]);
    for text in [
        "kontiki serve --data cluster/n2",
        "kontiki -c cluster/context.toml cluster status",
        "cluster/ca",
    ] {
        assert!(said.out.contains(text), "{text:?} is not in {said:?}");
    }
    for key in [
        "ca/node-ca.key",
        "ca/client-ca.key",
        "operator/operator.key",
        "n1/certs/node.key",
    ] {
        let mode = fs::metadata(shell.path("cluster").join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn json_names_the_cluster_its_context_and_its_members() {
    let shell = Shell::new();
    let json = shell
        .run(&[&THREE[..], &["--json"]].concat())
        .ends(0, &[])
        .json();
    assert_eq!(json["cluster_id"].as_str().unwrap().len(), 32);
    assert_eq!(json["members"][2]["name"], "n3");
    let home = shell.home().canonicalize().unwrap();
    assert_eq!(
        json["context"],
        home.join("cluster/context.toml").to_str().unwrap()
    );
    assert_eq!(
        json["members"][0]["data"],
        home.join("cluster/n1").to_str().unwrap()
    );
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let shell = Shell::new();
    shell.run(&THREE).ends(0, &[]);
    let before = fs::read(shell.path("cluster/ca/node-ca.key")).unwrap();
    shell.run(&THREE).ends(1, &["cluster/", "exists already"]);
    assert_eq!(
        fs::read(shell.path("cluster/ca/node-ca.key")).unwrap(),
        before
    );
}

#[test]
fn members_that_make_no_cluster_are_refused_and_nothing_is_left() {
    let shell = Shell::new();
    for (members, says) in [
        (&["n1@h"][..], "HOST:PORT"),
        (&["n1@h:0"], "HOST:PORT"),
        (&["n1@h:7401", "n2@h:7402"], "h:7402"),
        (&["n1@h:1", "n1@h:3"], "n1"),
        (&["ca@h:1"], "ca"),
        (&["a/b@h:1"], "a/b"),
    ] {
        let mut words = vec!["init", "--data", "cluster"];
        words.extend(members.iter().flat_map(|member| ["--member", member]));
        shell.run(&words).ends(2, &[says]);
        assert!(!shell.path("cluster").exists());
    }
}

#[test]
fn a_certificate_says_who_one_is() {
    let shell = Shell::new();
    let made = shell
        .run(&[&THREE[..], &["--json"]].concat())
        .ends(0, &[])
        .json();
    let cluster = made["cluster_id"].as_str().unwrap();
    let said = shell
        .run(&["cert", "show", "cluster/n1/certs/node.pem"])
        .ends(0, &[]);
    assert!(
        said.out.contains(&format!("kontiki://{cluster}/node/n1")),
        "{said:?}"
    );
    let json = shell
        .run(&["cert", "show", "-c", "cluster", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["role"], "operator");
    assert_eq!(json["expired"], false);
    assert_eq!(json["fingerprint_sha256"].as_str().unwrap().len(), 64);
    shell
        .run(&["cert", "show", "cluster/n1/member.toml"])
        .ends(1, &["cluster/n1/member.toml"]);
    shell
        .run(&["cert", "show", "none.pem"])
        .ends(1, &["none.pem"]);
}

#[test]
fn a_context_is_shown_kept_and_made_the_default() {
    let shell = Shell::new();
    shell.run(&THREE).ends(0, &[]);
    let json = shell
        .run(&["context", "show", "cluster", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["addresses"][1], "127.0.0.1:7403");
    assert_eq!(json["default"], false);
    shell
        .run(&["context", "use", "cluster/context.toml"])
        .ends(0, &["127.0.0.1:7401"]);
    let json = shell
        .run(&["context", "list", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["contexts"][0]["name"], "cluster");
    assert_eq!(json["contexts"][0]["default"], true);
    let key = json["contexts"][0]["key"].as_str().unwrap().to_owned();
    assert!(fs::exists(key).unwrap(), "paths hold from anywhere");
    // The folder can be moved: the context in it finds its certificates.
    fs::rename(shell.path("cluster/operator"), shell.path("elsewhere")).unwrap();
    let json = shell
        .run(&["cert", "show", "-c", "elsewhere", "--json"])
        .ends(0, &[])
        .json();
    assert_eq!(json["name"], "operator");
}

#[test]
fn a_folder_that_is_no_member_s_is_not_served() {
    let shell = Shell::new();
    shell
        .run(&["serve", "--data", "nowhere"])
        .ends(1, &["nowhere", "kontiki init"]);
    shell.run(&THREE).ends(0, &[]);
    fs::write(shell.path("cluster/n1/kontiki.toml"), "lisen = ''\n").unwrap();
    shell
        .run(&["serve", "--data", "cluster/n1"])
        .ends(1, &["kontiki.toml", "`listen`"]);
}
