//! A disk that fills up and is freed again, of one member at a time.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cluster::Cluster,
    plan::{Plan, Random, may_touch_the_machine, not_run, say},
    report::Report,
    stage::{SIZE, Stage, run},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;
/// Of one member's disk, in MiB.
const DISK_MEGABYTES: u64 = 300;
const KIND: &str = "full";

#[test]
fn a_member_whose_disk_fills_up_stops_says_so_and_comes_back_with_room() {
    let Some(mut plan) = Plan::of(KIND, 2) else {
        return;
    };
    if !may_touch_the_machine(KIND) {
        return;
    }
    let mut report = Report::new(&plan);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let cluster = Cluster::born(SIZE);
        let disks = cluster.members.iter();
        let disks: Result<Vec<_>, String> = disks
            .map(|member| SmallDisk::mount(&member.data.join("data")))
            .collect();
        let disks = match disks {
            Ok(disks) => disks,
            Err(why) => return not_run(KIND, &why),
        };
        let mut stage = Stage::set(cluster, &mut plan.random);
        stage.progress(100);
        for _ in 0..rounds {
            fill_one(&mut stage, &disks, &mut plan.random, &mut report);
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn fill_one(stage: &mut Stage, disks: &[SmallDisk], random: &mut Random, report: &mut Report) {
    report.round();
    stage.heal();
    let (victim, fault) = if random.percent(50) {
        (stage.leader(), "the leader's disk full")
    } else {
        (random.below(SIZE as u64) as usize, "any one's disk full")
    };
    report.fault(fault);
    disks[victim].fill();
    let status = stage.cluster.wait(victim);
    let said = stage.cluster.said_lately(victim);
    assert_eq!(status.code(), Some(1), "a full disk: {status}\n{said}");
    assert!(
        said.contains("No space left on device"),
        "it does not say why it stopped:\n{said}"
    );
    stage.next_acknowledgement();
    disks[victim].free();
    stage.start(&[victim]);
    stage.next_acknowledgement();
}

/// A memory file system of a member's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).expect("a folder to mount on");
        let size = format!("size={DISK_MEGABYTES}m");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))?;
        Ok(Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let file = std::fs::File::create(self.ballast()).expect("room for a name");
        let mode = rustix::fs::FallocateFlags::empty();
        let mut bytes = 0;
        // One reservation is whole or not at all, and the member takes its share meanwhile.
        for piece in [1 << 20, 4 << 10] {
            while rustix::fs::fallocate(&file, mode, bytes, piece).is_ok() {
                bytes += piece;
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("it was made before");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(why) = run(Command::new("umount").arg("--lazy").arg(&self.0)) {
            say(format_args!("left behind: {why}"));
        }
    }
}
