//! The rules of the house, as tests: which way dependencies point, what the deciders may know, that the
//! map names rooms that exist, and that `cargo run` and `cargo test` mean what people expect. Reads the
//! sources as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What each crate may use of ours. Every dependency points down this list.
const LEVELS: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("wire", &["raft"]),
    ("broker", &["raft", "wire"]),
    ("storage", &["raft", "wire", "broker"]),
    ("transport", &["wire"]),
    ("client", &["wire", "transport"]),
    (
        "server",
        &["raft", "wire", "broker", "storage", "transport"],
    ),
    ("sim", &["raft", "wire", "broker", "storage", "client"]),
    (
        "cli",
        &["wire", "transport", "client", "server", "storage", "sim"],
    ),
];

/// The crates that decide, and all that they may import besides ours and `core`.
const PURE: &[(&str, &[&str])] = &[
    ("raft", &["bytes"]),
    ("wire", &["bytes", "bincode", "crc32c", "thiserror"]),
    ("broker", &["bytes"]),
];

/// What of `std` a decider may name: shapes of data, and nothing that reaches out.
const PURE_STD: &[&str] = &[
    "any::type_name",
    "cmp",
    "collections",
    "error",
    "fmt",
    "hash",
    "iter",
    "mem",
    "num",
    "ops",
    "str",
    "string",
    "sync::Arc",
    "vec",
    "array",
    "borrow",
    "convert",
    "marker",
    "slice",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A source without its comments, its string literals and its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable source");
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let mut code = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut previous = ' ';
        let mut kept = String::new();
        for c in line.chars() {
            if c == '"' && previous != '\\' && previous != '\'' {
                quoted = !quoted;
            }
            if !quoted {
                kept.push(c);
            }
            previous = c;
        }
        code.push_str(kept.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// Whether a file holds tests only: `tests.rs`, or anything in a `tests` folder.
fn is_test(path: &Path, crate_folder: &Path) -> bool {
    let inside = path
        .strip_prefix(crate_folder)
        .expect("a path inside the crate");
    inside.components().any(|c| {
        let c = c.as_os_str();
        c == "tests" || c == "tests.rs"
    })
}

fn names_after<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    code.match_indices(prefix)
        .filter(|(at, _)| {
            !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
        })
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

#[test]
fn every_dependency_points_down() {
    for (name, allowed) in LEVELS {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml"))
            .unwrap_or_else(|_| panic!("crates/{name}/Cargo.toml is missing"));
        let dependencies = manifest
            .split("[dev-dependencies]")
            .next()
            .and_then(|m| m.split("[dependencies]").nth(1))
            .unwrap_or_default();
        for line in dependencies.lines() {
            let Some(ours) = line.strip_prefix("kontiki-") else {
                continue;
            };
            let ours = ours.split(['.', ' ', '=']).next().unwrap_or_default();
            assert!(
                allowed.contains(&ours),
                "{name} depends on {ours}, which is not below it; move what it needs down, or the \
                 code that needs it up"
            );
        }
    }
    let mut folders: Vec<String> = fs::read_dir(root().join("crates"))
        .expect("crates/")
        .map(|e| e.expect("a readable folder"))
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    let mut known: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(
        folders, known,
        "a tenth crate needs a purpose that no level covers"
    );
}

#[test]
fn deciders_know_nothing_of_the_world() {
    for (name, allowed) in PURE {
        let folder = root().join("crates").join(name);
        for path in sources(&folder.join("src")) {
            if is_test(&path, &folder) {
                continue;
            }
            let code = code(&path);
            let shown = path.display();
            for used in names_after(&code, "std::") {
                assert!(
                    used.is_empty() || PURE_STD.iter().any(|ok| used.starts_with(ok)),
                    "{shown} names std::{used}: a decider gets such things as inputs"
                );
            }
            for line in code.lines().map(str::trim) {
                let Some(import) = line.strip_prefix("use ") else {
                    continue;
                };
                let first = import
                    .split([':', ' ', ';', '{'])
                    .next()
                    .unwrap_or_default();
                let ours = first.strip_prefix("kontiki_");
                let below = LEVELS
                    .iter()
                    .find(|(n, _)| n == name)
                    .map_or(&[][..], |(_, b)| b);
                assert!(
                    matches!(first, "crate" | "std" | "core" | "self" | "super" | "")
                        || allowed.contains(&first)
                        || ours.is_some_and(|o| below.contains(&o))
                        || first.chars().next().is_some_and(char::is_uppercase),
                    "{shown} imports {first}"
                );
            }
            for word in [
                "async fn",
                ".await",
                "HashMap",
                "HashSet",
                "println!",
                "eprintln!",
            ] {
                assert!(!code.contains(word), "{shown} says `{word}`");
            }
        }
    }
}

#[test]
fn bincode_has_one_door() {
    for (name, _) in LEVELS {
        let folder = root().join("crates").join(name);
        for path in sources(&folder.join("src")) {
            if path.ends_with("wire/src/codec.rs") {
                continue;
            }
            assert!(
                !code(&path).contains("bincode"),
                "{} names bincode; only wire/src/codec.rs may",
                path.display()
            );
        }
    }
}

/// Which module of a crate a file is, by its first path component.
fn module(path: &Path, src: &Path) -> String {
    let inside = path.strip_prefix(src).expect("a path inside src");
    let first = inside
        .components()
        .next()
        .expect("a file name")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules a source names through `crate::`, braces included.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            found.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
            continue;
        };
        let mut depth = 0;
        let mut word = String::new();
        let mut fresh = true;
        for c in inside.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => word.push(c),
                _ if depth == 0 && !word.is_empty() => {
                    found.insert(std::mem::take(&mut word));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 && c == ',' && !word.is_empty() {
                found.insert(std::mem::take(&mut word));
            }
        }
        if !word.is_empty() {
            found.insert(word);
        }
    }
    found
}

#[test]
fn modules_form_no_circle() {
    for (name, _) in LEVELS {
        let folder = root().join("crates").join(name);
        let src = folder.join("src");
        let files: Vec<PathBuf> = sources(&src)
            .into_iter()
            .filter(|p| !is_test(p, &folder))
            .collect();
        let modules: BTreeSet<String> = files.iter().map(|p| module(p, &src)).collect();
        let exports = exports(&src);
        // The door: a type with the crate's name in a file with the crate's name; the simulator's is its
        // world. Steps written as
        // `impl Door` blocks name its module, and the door calls them; that one arrow is allowed.
        let door = if *name == "sim" { "world" } else { name };
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for path in &files {
            let from = module(path, &src);
            if from == "lib" || from == "main" {
                continue;
            }
            for to in uses(&code(path)) {
                // A name that lib.rs hands on stands for the module that it comes from.
                let to = exports.get(&to).cloned().unwrap_or(to);
                if to != from && to != door && modules.contains(&to) {
                    arrows.entry(from.clone()).or_default().insert(to);
                }
            }
        }
        if let Some(circle) = circle(&arrows) {
            panic!(
                "the modules of {name} form a circle: {}; what two of them share is a noun below both",
                circle.join(" -> ")
            );
        }
    }
}

/// Which module each name comes from that a crate's lib.rs hands on.
fn exports(src: &Path) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    let lib = src.join("lib.rs");
    if !lib.exists() {
        return exports;
    }
    for item in code(&lib).split(';') {
        let item = item.trim_start();
        let Some(rest) = item
            .strip_prefix("pub use ")
            .or_else(|| item.strip_prefix("pub(crate) use "))
        else {
            continue;
        };
        let Some((module, names)) = rest.split_once("::") else {
            continue;
        };
        for name in names.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            if !name.is_empty() {
                exports.insert(name.to_owned(), module.to_owned());
            }
        }
    }
    exports
}

fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        at: &str,
        arrows: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|p| p == at) {
            let mut circle = path[start..].to_vec();
            circle.push(at.to_owned());
            return Some(circle);
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        path.push(at.to_owned());
        for next in arrows.get(at).into_iter().flatten() {
            if let Some(found) = visit(next, arrows, path, done) {
                return Some(found);
            }
        }
        path.pop();
        None
    }
    let mut done = BTreeSet::new();
    arrows
        .keys()
        .find_map(|start| visit(start, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn a_circle_would_be_found() {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    arrows
        .entry("a".to_owned())
        .or_default()
        .insert("b".to_owned());
    arrows
        .entry("b".to_owned())
        .or_default()
        .insert("c".to_owned());
    assert_eq!(circle(&arrows), None);
    arrows
        .entry("c".to_owned())
        .or_default()
        .insert("a".to_owned());
    assert_eq!(
        circle(&arrows),
        Some(["a", "b", "c", "a"].map(str::to_owned).to_vec())
    );
    let found =
        uses("use crate::{\n    log::Log,\n    ids::{Term, Index},\n    role,\n};\ncrate::x()");
    assert_eq!(found, ["ids", "log", "role", "x"].map(str::to_owned).into());
}

#[test]
fn every_file_says_what_it_is_for() {
    for (name, _) in LEVELS {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let text = fs::read_to_string(&path).expect("a readable source");
            assert!(
                text.starts_with("//!"),
                "{} does not open with `//!`",
                path.display()
            );
        }
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    for (name, _) in LEVELS {
        let src = root().join("crates").join(name).join("src");
        let door = ["lib.rs", "main.rs"]
            .map(|f| src.join(f))
            .into_iter()
            .find(|p| p.exists());
        let text = fs::read_to_string(door.expect("lib.rs or main.rs")).expect("a readable source");
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "crates/{name} does not forbid unsafe code"
        );
    }
}

#[test]
fn the_map_names_only_what_exists() {
    let map = fs::read_to_string(root().join("crates/README.md")).expect("crates/README.md");
    let mut named = 0;
    for word in map.split(|c: char| c.is_whitespace() || "`(),;|·".contains(c)) {
        let word = word.trim_end_matches(['.', ':']);
        if !word.contains('/') || !(word.ends_with(".rs") || word.ends_with(".md")) {
            continue;
        }
        named += 1;
        let (crate_name, file) = word.split_once('/').expect("it contains a slash");
        let candidates = [
            root().join(word),
            root().join("crates").join(word),
            root()
                .join("crates")
                .join(crate_name)
                .join("src")
                .join(file),
        ];
        assert!(
            candidates.iter().any(|p| p.exists()),
            "crates/README.md names {word}, which does not exist"
        );
    }
    assert!(named >= 20, "the map names only {named} files");
}

/// The workspace as cargo sees it.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline"])
        .args(["--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs these tests, too");
    let why = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{why}");
    serde_json::from_slice(&told.stdout).expect("cargo writes JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn texts(value: &Value) -> BTreeSet<&str> {
    list(value).iter().filter_map(Value::as_str).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn cargo_run_has_one_binary_to_run() {
    let metadata = metadata();
    let defaults = texts(&metadata["workspace_default_members"]);
    let mut binaries = Vec::new();
    for package in list(&metadata["packages"]) {
        let meant = package["default_run"].as_str();
        for target in list(&package["targets"]) {
            let name = text(&target["name"]);
            if defaults.contains(text(&package["id"]))
                && texts(&target["kind"]).contains("bin")
                && meant.is_none_or(|meant| meant == name)
            {
                binaries.push(name);
            }
        }
    }
    assert_eq!(binaries, ["kontiki"], "`cargo run -- dev` would ask which");
}

#[test]
fn cargo_test_reaches_every_crate() {
    let metadata = metadata();
    let members = texts(&metadata["workspace_members"]);
    let mut manifests = BTreeSet::new();
    for package in list(&metadata["packages"]) {
        let id = text(&package["id"]);
        assert!(members.contains(id), "{id} is no member of the workspace");
        manifests.insert(Path::new(text(&package["manifest_path"])));
        for target in list(&package["targets"]) {
            let kinds = texts(&target["kind"]);
            let is_for_tests = kinds.contains("lib") || kinds.contains("test");
            assert!(
                !is_for_tests || target["test"] == true,
                "`cargo test --workspace` passes over {} of {id}",
                target["name"]
            );
        }
    }
    let crates = fs::read_dir(root().join("crates")).expect("a readable folder");
    let folders = crates.map(|entry| entry.expect("a readable folder").path());
    for folder in folders.chain([root().to_owned(), root().join("fuzz")]) {
        let manifest = folder.join("Cargo.toml");
        assert!(
            !manifest.is_file() || manifests.contains(&*manifest),
            "{} is no member of the workspace",
            folder.display()
        );
    }
}
