//! Power cuts: each member on an ext4 of its own, which forgets at one instant whatever no sync has
//! made durable. One member's, or everybody's at once.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use crate::{
    cluster::{Cluster, PATIENCE},
    plan::{Deck, Plan, Random, may_touch_the_machine, not_run, say},
    report::Report,
    stage::{SIZE, Stage, run},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 50;
/// Rounds after which everything is examined while the load goes on.
const ROUNDS_BETWEEN_LOOKS: u32 = 10;
/// Of one member's disk; what it does not use is not there.
const DISK_BYTES: u64 = 1 << 30;

const KIND: &str = "power";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victims {
    Leader,
    AnyOne,
    All,
}

const DECK: [Victims; 4] = [Victims::Leader, Victims::AnyOne, Victims::All, Victims::All];

#[test]
fn power_cuts_of_one_and_of_all_lose_nothing() {
    let Some(mut plan) = Plan::of(KIND, 4) else {
        return;
    };
    if !may_touch_the_machine(KIND) {
        return;
    }
    for tool in ["mkfs.ext4", "losetup", "perl"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return not_run(KIND, &format!("there is no {tool}"));
        }
    }
    let mut report = Report::new(&plan);
    let mut deck = Deck::of(&DECK);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        let cluster = Cluster::born(SIZE);
        let disks: Vec<_> = cluster
            .members
            .iter()
            .map(|member| Disk::under(&member.data))
            .collect();
        if let Some(Err(why)) = disks.iter().find(|disk| disk.is_err()) {
            return not_run(KIND, why);
        }
        let mut disks: Vec<_> = disks.into_iter().flatten().collect();
        let mut stage = Stage::set(cluster, &mut plan.random);
        stage.progress(100);
        for round in 1..=rounds {
            let victims = deck.draw(&mut plan.random);
            cut_some(
                &mut stage,
                &mut disks,
                victims,
                &mut plan.random,
                &mut report,
            );
            if round % ROUNDS_BETWEEN_LOOKS == 0 {
                stage.heal();
                stage.examine(&[0, 1, 2]);
            }
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn cut_some(
    stage: &mut Stage,
    disks: &mut [Disk],
    victims: Victims,
    random: &mut Random,
    report: &mut Report,
) {
    let any = random.below(SIZE as u64) as usize;
    std::thread::sleep(random.millis(0..=300));
    report.round();
    let of_leader = victims == Victims::Leader;
    let victims = match victims {
        Victims::Leader => {
            stage.heal();
            report.fault("leader's power cut");
            vec![stage.leader()]
        }
        Victims::AnyOne => {
            report.fault("any one's power cut");
            vec![any]
        }
        Victims::All => {
            report.fault("everybody's power cut");
            vec![0, 1, 2]
        }
    };
    let of_victims: Vec<_> = victims.iter().map(|at| &disks[*at]).collect();
    cut(&of_victims);
    let dark = Instant::now();
    if victims.len() == SIZE {
        let now = stage.load.told.now();
        stage.load.told.history().outages.push(now);
    }
    for at in &victims {
        stage.cluster.end(*at);
    }
    if of_leader {
        let next = stage.load.acknowledged_since(&stage.hands, dark);
        report.outages.push(next - dark);
    }
    for at in &victims {
        disks[*at].come_back();
    }
    stage.start(&victims);
    stage.next_acknowledgement();
}

/// An ext4 in a file.
struct Disk {
    device: String,
    at: PathBuf,
}

impl Disk {
    /// One that holds what the folder holds, in its place; or why that cannot be.
    fn under(folder: &Path) -> Result<Self, String> {
        let image = folder.with_extension("ext4");
        let file = std::fs::File::create(&image).expect("a file beside a member's folder");
        file.set_len(DISK_BYTES).expect("a sparse file");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image))?;
        let disk = Self {
            device: device.trim().to_owned(),
            at: folder.to_owned(),
        };
        let born = folder.with_extension("born");
        std::fs::rename(folder, &born).expect("a folder beside it");
        std::fs::create_dir(folder).expect("a folder to mount on");
        disk.mount()?;
        run(Command::new("cp").arg("-a").arg(born.join(".")).arg(folder))?;
        run(Command::new("sync").arg("--file-system").arg(folder))?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").arg(&self.device).arg(&self.at)).map(|_| ())
    }

    /// After a cut: what the disk had at that instant.
    fn come_back(&mut self) {
        let start = Instant::now();
        while let Err(why) = run(Command::new("umount").arg(&self.at)) {
            assert!(start.elapsed() < PATIENCE, "{why}");
        }
        self.mount().expect("it was mounted before");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for command in [
            Command::new("umount").arg("--lazy").arg(&self.at),
            Command::new("losetup").arg("--detach").arg(&self.device),
        ] {
            if let Err(why) = run(command) {
                say(format_args!("left behind: {why}"));
            }
        }
    }
}

/// EXT4_IOC_SHUTDOWN without a flush of the journal, of all of them as near to at once as can be.
fn cut(disks: &[&Disk]) {
    const SHUTDOWN: &str = "for (@ARGV) { open(my $root, '<', $_) or die; \
                            my $how = pack('L', 2); \
                            ioctl($root, 0x8004587d, $how) or die $! }";
    let mut perl = Command::new("perl");
    perl.args(["-e", SHUTDOWN]);
    perl.args(disks.iter().map(|disk| &disk.at));
    run(&mut perl).expect("it is a mounted ext4");
}
