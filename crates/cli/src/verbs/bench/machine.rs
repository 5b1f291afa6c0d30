//! What the servers on this machine and this process cost: processor time and bytes written, from
//! `/proc`.

use std::{fs, path::Path, time::Duration};

use kontiki_client::ClusterId;
use kontiki_server::MemberFile;

use crate::exit::Failure;

/// The processes whose cost counts as the servers'.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pids: Vec<u32>,
}

/// What a set of processes has used up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    servers: Vec<Option<Used>>,
    own: Option<Used>,
}

/// What one process has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Used {
    cpu: Duration,
    written: u64,
}

/// What was used between two moments.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Cost {
    /// Servers that lived through it.
    pub(crate) servers: usize,
    /// Servers that ended, whose use is not counted.
    pub(crate) vanished: usize,
    /// Processor time of the servers.
    pub(crate) server_cpu: Duration,
    /// Processor time of this process.
    pub(crate) own_cpu: Duration,
    /// Bytes that the servers caused to be written to disks.
    pub(crate) written: u64,
}

impl Servers {
    /// Every `kontiki serve` or `kontiki join` process of this cluster on this machine that may be looked at.
    pub(crate) fn find(cluster: ClusterId) -> Self {
        Self {
            pids: find_in(Path::new("/proc"), cluster),
        }
    }

    /// These processes.
    pub(crate) fn given(pids: &[u32]) -> Result<Self, Failure> {
        match pids
            .iter()
            .find(|pid| used(Path::new("/proc"), **pid).is_none())
        {
            Some(pid) => Err(Failure::usage(format!(
                "there is no process {pid} that may be looked at"
            ))),
            None => Ok(Self {
                pids: pids.to_vec(),
            }),
        }
    }

    /// Their ids.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// What they and this process have used so far.
    pub(crate) fn usage(&self) -> Usage {
        let proc = Path::new("/proc");
        Usage {
            servers: self.pids.iter().map(|pid| used(proc, *pid)).collect(),
            own: used(proc, std::process::id()),
        }
    }
}

impl Usage {
    /// What was used since `before`, a usage of the same servers.
    pub(crate) fn since(&self, before: &Self) -> Cost {
        let mut cost = Cost {
            servers: 0,
            vanished: 0,
            server_cpu: Duration::ZERO,
            own_cpu: Duration::ZERO,
            written: 0,
        };
        for pair in before.servers.iter().zip(&self.servers) {
            let (Some(before), Some(after)) = pair else {
                cost.vanished += 1;
                continue;
            };
            cost.servers += 1;
            cost.server_cpu += after.cpu.saturating_sub(before.cpu);
            cost.written += after.written.saturating_sub(before.written);
        }
        if let (Some(before), Some(after)) = (before.own, self.own) {
            cost.own_cpu = after.cpu.saturating_sub(before.cpu);
        }
        cost
    }
}

fn find_in(proc: &Path, cluster: ClusterId) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(proc) else {
        return Vec::new();
    };
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| serves(&proc.join(pid.to_string())) == Some(cluster))
        .collect();
    pids.sort_unstable();
    pids
}

/// The cluster whose member this process is, if it is one.
fn serves(process: &Path) -> Option<ClusterId> {
    let exe = fs::read_link(process.join("exe")).ok()?;
    // A program that was rebuilt while it runs is shown as deleted.
    if !matches!(exe.file_name()?.to_str()?, "kontiki" | "kontiki (deleted)") {
        return None;
    }
    let line = fs::read_to_string(process.join("cmdline")).ok()?;
    let words: Vec<&str> = line.split('\0').collect();
    if !words.iter().any(|word| matches!(*word, "serve" | "join")) {
        return None;
    }
    let after = words
        .iter()
        .position(|word| *word == "--data")
        .and_then(|at| words.get(at + 1));
    let data = after
        .copied()
        .or_else(|| words.iter().find_map(|word| word.strip_prefix("--data=")))?;
    let folder = fs::read_link(process.join("cwd")).ok()?;
    MemberFile::load(&folder.join(data))
        .ok()
        .map(|member| member.cluster)
}

fn used(proc: &Path, pid: u32) -> Option<Used> {
    let process = proc.join(pid.to_string());
    let ticks = cpu_ticks(&fs::read_to_string(process.join("stat")).ok()?)?;
    // Another user's `io` may not be read; its processor time may.
    let written = fs::read_to_string(process.join("io"))
        .ok()
        .and_then(|io| write_bytes(&io));
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Used {
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
        written: written.unwrap_or(0),
    })
}

/// User and system time, fields 14 and 15; the second, the name, may hold blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn write_bytes(io: &str) -> Option<u64> {
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use kontiki_server::birth::{MemberSpec, birth_cluster};

    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a) (b) S 1 12 12 0 -1 4194560 9 0 0 0 70 30 5 6 20 0 1 0 3 4 5";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("12 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn written_bytes_are_found() {
        assert_eq!(
            write_bytes("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n"),
            Some(4096)
        );
        assert_eq!(write_bytes(""), None);
    }

    #[test]
    fn only_members_of_this_cluster_are_servers() {
        let dir = tempfile::tempdir().unwrap();
        let born = |name: &str| {
            let member = MemberSpec {
                name: "n1".into(),
                address: "127.0.0.1:1".into(),
                peer_address: "127.0.0.1:2".into(),
            };
            birth_cluster(&dir.path().join(name), &[member], false)
                .unwrap()
                .cluster
        };
        let (ours, theirs) = (born("ours"), born("theirs"));
        let proc = dir.path().join("proc");
        let process = |pid: u32, exe: &str, cmdline: &str| {
            let entry = proc.join(pid.to_string());
            fs::create_dir_all(&entry).unwrap();
            symlink(exe, entry.join("exe")).unwrap();
            symlink(dir.path(), entry.join("cwd")).unwrap();
            fs::write(entry.join("cmdline"), cmdline.replace(' ', "\0")).unwrap();
        };
        process(
            30,
            "/usr/bin/kontiki",
            "kontiki --log info serve --data ours/n1",
        );
        process(
            29,
            "/usr/bin/kontiki",
            "kontiki join --data ours/n1 --name n1 kontiki1.abc",
        );
        process(
            4,
            "/usr/bin/kontiki (deleted)",
            "kontiki serve --data=ours/n1 --log-format json",
        );
        process(5, "/usr/bin/kontiki", "kontiki bench append --topic serve");
        process(6, "/usr/bin/cat", "kontiki serve --data ours/n1");
        process(7, "/usr/bin/kontiki", "kontiki serve --data theirs/n1");
        process(8, "/usr/bin/kontiki", "kontiki serve --data");
        fs::create_dir(proc.join("sys")).unwrap();
        assert_eq!(find_in(&proc, ours), [4, 29, 30]);
        assert_eq!(find_in(&proc, theirs), [7]);
    }

    #[test]
    fn a_server_that_ended_is_counted_as_such() {
        let used = |cpu, written| {
            Some(Used {
                cpu: Duration::from_millis(cpu),
                written,
            })
        };
        let before = Usage {
            servers: vec![used(10, 5), used(20, 5)],
            own: used(1, 0),
        };
        let after = Usage {
            servers: vec![used(40, 9), None],
            own: used(3, 0),
        };
        let cost = after.since(&before);
        assert_eq!((cost.servers, cost.vanished), (1, 1));
        assert_eq!(cost.server_cpu, Duration::from_millis(30));
        assert_eq!(cost.own_cpu, Duration::from_millis(2));
        assert_eq!(cost.written, 4);
    }

    #[test]
    fn this_process_can_be_measured() {
        assert!(used(Path::new("/proc"), std::process::id()).is_some());
        assert!(Servers::given(&[std::process::id()]).is_ok());
        assert!(Servers::given(&[u32::MAX]).is_err());
    }
}
