//! A recovery that is interrupted at every step is either not done or done.

use kontiki_broker::GroupWrite;
use kontiki_raft::{Entry, Hard, Index, Kind, LogId, Persist, Term, WriteSeq};
use kontiki_wire::{ClusterCommand, GroupId, TopicSettings, encode, entry_checksum};

use super::*;
use crate::birth::{Birth, MemberSpec, birth_cluster};

fn born(dir: &Path) -> Birth {
    let spec = |id: u16| MemberSpec {
        name: format!("n{id}"),
        address: format!("127.0.0.1:{}", 2 * id),
        peer_address: format!("127.0.0.1:{}", 2 * id + 1),
    };
    birth_cluster(&dir.join("cluster"), &[1, 2, 3].map(spec), false).unwrap()
}

/// The first of three members, whose disk holds the making of a topic and the first entry of it.
fn left_behind(dir: &Path) -> PathBuf {
    let birth = born(dir);
    let home = birth.member_dirs[0].clone();
    let mut member = MemberFile::load(&home).unwrap();
    member.started = true;
    member.save(&home).unwrap();
    let data = DataDir::of(&home, &member).unwrap();
    data.claim().unwrap();
    let create = ClusterCommand::CreateTopic {
        name: "orders".parse().unwrap(),
        settings: TopicSettings::default(),
        replicas: vec![1, 2, 3],
        preferred: 2,
    };
    let write = |group, kind, body: Vec<u8>| GroupWrite {
        group: GroupId(group),
        persist: Persist {
            seq: WriteSeq(0),
            hard: Some(Hard {
                term: Term(3),
                ..Hard::default()
            }),
            truncate_from: None,
            append: vec![Entry {
                id: LogId {
                    term: Term(3),
                    index: Index(1),
                },
                kind,
                time: Micros(5),
                checksum: entry_checksum(&body),
                body: body.into(),
            }],
            commit: Index(1),
        },
    };
    let config = Config::load(&home).unwrap();
    let data = DataDir::found(&home, &member).unwrap();
    let settings = kontiki_storage::Settings {
        begun: false,
        ..data.settings(&config, false)
    };
    let (sender, events) = mpsc::channel();
    let tell = Arc::new(move |event| drop(sender.send(event)));
    let (storage, _) = Storage::open(&data.path, settings, tell).unwrap();
    let writes = vec![
        write(0, Kind::Command, encode(&create)),
        write(1, Kind::Noop, Vec::new()),
    ];
    storage.persist(Writes { seq: 1, writes });
    assert!(matches!(events.recv(), Ok(Event::Persisted { .. })));
    storage.close().unwrap();
    home
}

/// The epoch that `member.toml`, the owner's file and the log are of.
fn epochs(home: &Path) -> (u64, bool, u64) {
    let member = MemberFile::load(home).unwrap();
    let config = Config::load(home).unwrap();
    let data = DataDir::found(home, &member).unwrap();
    let settings = data.settings(&config, true);
    let left = left(&member, rehearse(&data.path, &settings).unwrap()).unwrap();
    let log = left.state.recoveries.last().map_or(0, |it| it.epoch.number);
    (member.epoch.number, data.is_behind, log)
}

#[test]
fn interrupted_before_the_members_file_names_the_epoch_nothing_has_happened() {
    let dir = tempfile::tempdir().unwrap();
    let home = left_behind(dir.path());
    let report = look(&home).unwrap();
    assert!(report.obstacles.is_empty(), "{report:?}");
    assert_eq!(report.given_up, ["n2", "n3"]);
    // What was written down before that is of no account.
    fs::write(home.join("recovery-1.toml"), "half of").unwrap();
    assert_eq!(epochs(&home), (0, false, 0));
    let done = recover(&home, "ada").unwrap();
    assert!(!done.interrupted);
    assert_eq!(epochs(&home), (1, false, 1));
    let again = recover(&home, "ada").unwrap_err().to_string();
    assert!(again.contains("nothing is lost"), "{again}");
}

#[test]
fn interrupted_after_that_it_is_finished_whoever_comes_next_and_the_same() {
    for written in [None, Some(false), Some(true)] {
        let dir = tempfile::tempdir().unwrap();
        let home = left_behind(dir.path());
        let mut member = MemberFile::load(&home).unwrap();
        let config = Config::load(&home).unwrap();
        let data = DataDir::found(&home, &member).unwrap();
        let opened = Opened::open(&config, &member, &data).unwrap();
        let record = opened.left.record(Recovery {
            epoch: Epoch { number: 1, mark: 7 },
            at: 9,
            by: "ada".to_owned(),
            ..Recovery::default()
        });
        Audit::of(&record).save(&home).unwrap();
        member.epoch = record.epoch;
        member.save(&home).unwrap();
        match written {
            None => opened.close().unwrap(),
            Some(whole) => {
                let mut writes = opened.left.takeover(&record, Micros(9));
                let own = &mut writes.last_mut().unwrap().persist.append;
                own.truncate(if whole { 2 } else { 1 });
                opened.storage.persist(Writes { seq: 1, writes });
                assert!(matches!(opened.events.recv(), Ok(Event::Persisted { .. })));
                opened.close().unwrap();
            }
        }
        let log = u64::from(written == Some(true));
        assert_eq!(epochs(&home), (1, true, log));
        assert!(look(&home).unwrap().interrupted);

        let done = recover(&home, "bob").unwrap();
        assert!(done.interrupted);
        assert_eq!(epochs(&home), (1, false, 1));
        let data = DataDir::found(&home, &member).unwrap();
        let opened = Opened::open(&config, &member, &data).unwrap();
        assert_eq!(opened.left.state.recoveries, [record]);
        assert!(
            opened
                .left
                .groups
                .iter()
                .all(|it| it.is_alive(opened.left.me))
        );
        opened.close().unwrap();
    }
}
