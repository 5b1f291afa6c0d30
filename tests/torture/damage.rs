//! Damage at rest: members are down, some of their files are wrong or gone when they start again. They
//! may not show or acknowledge anything wrong, and they come home by themselves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, kontiki},
    load::Style,
    plan::{Deck, Plan, Random, say},
    report::Report,
    stage::{SIZE, Scene, Stage},
    wounds::{Part, Wound, files, helical, wound},
};

/// Rounds on one cluster.
const ROUNDS_OF_A_CLUSTER: u32 = 25;
/// How long damaged members may take, from their start, until all is well and they have shown all they
/// have.
const HOME_WITHIN: Duration = Duration::from_secs(30);
/// Of a hundred rounds on one file, how many go on to a second and perhaps a third.
const ONE_MORE: u64 = 30;

/// What is done in a round.
#[derive(Clone, Copy)]
enum Blow {
    /// To one member's files, of this kind first.
    Files(Part),
    /// One of those that say who the member is.
    Identity,
    /// One member's data directory is gone.
    Wiped,
    /// Every member's segments, so that each range is sound in one of them only.
    Helical,
}

const DECK: [Blow; 12] = [
    Blow::Files(Part::Journal),
    Blow::Files(Part::Journal),
    Blow::Files(Part::Journal),
    Blow::Files(Part::Segment),
    Blow::Files(Part::Segment),
    Blow::Files(Part::State),
    Blow::Files(Part::State),
    Blow::Files(Part::Index),
    Blow::Files(Part::Salt),
    Blow::Identity,
    Blow::Wiped,
    Blow::Helical,
];

#[test]
fn damaged_members_show_nothing_wrong_and_come_home_by_themselves() {
    let Some(mut plan) = Plan::of("damage", DECK.len() as u32) else {
        return;
    };
    let mut report = Report::new(&plan);
    let mut deck = Deck::of(&DECK);
    for rounds in plan.in_clusters_of(ROUNDS_OF_A_CLUSTER) {
        // Fewer records and larger ones: all are read in every round, and files fill up as soon.
        let style = Style {
            pace: Duration::from_millis(10),
            filling_max: 4000,
            ..Style::default()
        };
        let scene = Scene {
            style,
            ..Scene::from(Cluster::born(SIZE))
        };
        let mut stage = Stage::set(scene, &mut plan.random);
        // Some segments and some journal files.
        stage.progress(700);
        for _ in 0..rounds {
            report.round();
            let random = &mut plan.random;
            match deck.draw(random) {
                Blow::Files(part) => damage_files(&mut stage, part, random, &mut report),
                Blow::Identity => damage_identity(&mut stage, random, &mut report),
                Blow::Wiped => wipe_one(&mut stage, random, &mut report),
                Blow::Helical => damage_all(&mut stage, random, &mut report),
            }
        }
        stage.finish(&mut report);
    }
    say(format_args!("{report}"));
}

fn damage_files(stage: &mut Stage, part: Part, random: &mut Random, report: &mut Report) {
    let victim = take_down_one(stage, random);
    let mut wounds = vec![];
    wounds.extend(damage_one(stage, victim, part, random, report));
    while random.percent(ONE_MORE) && wounds.len() < 3 {
        let part = random.of(&Part::REPAIRED);
        wounds.extend(damage_one(stage, victim, part, random, report));
    }
    let wounds = wounds.join(", ");
    if let Err(status) = start(stage, victim) {
        let said = stage.cluster.said_lately(victim);
        panic!("it does not start after {wounds} ({status}):\n{said}");
    }
    come_home(stage, &[victim], &wounds, report);
}

fn damage_identity(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    let victim = take_down_one(stage, random);
    let folder = stage.cluster.members[victim].data.clone();
    let part = random.of(&Part::IDENTITY);
    let kept = Kept::of(&folder, part);
    let what = damage_one(stage, victim, part, random, report).expect("an identity has every file");
    match start(stage, victim) {
        Ok(()) => come_home(stage, &[victim], &what, report),
        Err(status) => {
            let said = stage.cluster.said_lately(victim);
            assert_eq!(status.code(), Some(1), "after {what}:\n{said}");
            let names_it = said.contains(&*folder.to_string_lossy());
            assert!(names_it, "after {what}, it does not say where:\n{said}");
            report.fault("for a person to put right");
            stage.next_acknowledgement();
            kept.put_back();
            stage.start(&[victim]);
            stage.examine(&[victim]);
        }
    }
}

fn wipe_one(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    let victim = take_down_one(stage, random);
    let data = stage.cluster.members[victim].data.join("data");
    fs::remove_dir_all(data).expect("a data directory to remove");
    report.fault("wiped");
    stage.start(&[victim]);
    come_home(stage, &[victim], "the loss of all it had", report);
}

/// What is committed is in segments after an orderly stop, so that each range is sound in one member
/// only. Whoever lost its journal too, or all it had, is not counted among those.
fn damage_all(stage: &mut Stage, random: &mut Random, report: &mut Report) {
    stage.heal();
    for at in 0..SIZE {
        stage.cluster.stop(at);
    }
    let worst = random.below(SIZE as u64) as usize;
    let members = stage.cluster.members.iter();
    let mut folders: Vec<_> = members.map(|member| member.data.clone()).collect();
    let also = match random.below(4) {
        0 => {
            let folder = folders.remove(worst);
            fs::remove_dir_all(folder.join("data")).expect("a data directory to remove");
            report.fault("helical, and one wiped");
            "and the loss of all that one had".to_owned()
        }
        1 => {
            folders.remove(worst);
            report.fault("helical, and a journal");
            damage_one(stage, worst, Part::Journal, random, report).expect("it has a journal")
        }
        _ => {
            report.fault("helical");
            String::new()
        }
    };
    // None, if a member has sealed nothing yet that the others have sealed, too.
    let runs = helical(&folders, random);
    stage.start(&[0, 1, 2]);
    let what = format!("helical damage to {runs} runs of entries {also}");
    come_home(stage, &[0, 1, 2], &what, report);
}

/// Any one, killed or stopped in order.
fn take_down_one(stage: &mut Stage, random: &mut Random) -> usize {
    stage.heal();
    let victim = random.below(SIZE as u64) as usize;
    if random.percent(70) {
        stage.cluster.kill(victim);
    } else {
        stage.cluster.stop(victim);
    }
    victim
}

/// Wounds a file of such a part, somehow, and says how; nothing if none is left, as after the deletion
/// of the only one.
fn damage_one(
    stage: &Stage,
    victim: usize,
    part: Part,
    random: &mut Random,
    report: &mut Report,
) -> Option<String> {
    let other = (victim + random.within(1..=2) as usize) % SIZE;
    let folder = |at: usize| &stage.cluster.members[at].data;
    if files(folder(victim), part).is_empty() {
        return None;
    }
    report.fault(part.name());
    loop {
        let how = random.of(&Wound::ALL);
        let what = wound(folder(victim), folder(other), part, how, random);
        if what.is_some() {
            return what;
        }
    }
}

fn start(stage: &mut Stage, victim: usize) -> Result<(), ExitStatus> {
    stage.cluster.launch(victim, Command::new(kontiki()));
    stage.cluster.ready(victim)
}

/// They are as good as the others, and still are when they have shown and read all they have: damage that
/// nobody has met is found then, and must not wait for the next round's.
fn come_home(stage: &mut Stage, victims: &[usize], what: &str, report: &mut Report) {
    let started = Instant::now();
    let deadline = started + HOME_WITHIN;
    stage.next_acknowledgement();
    let mut home = stage.heals_by(deadline);
    report.returns.push(started.elapsed());
    if home.is_ok() {
        match victims {
            [one] => stage.examine(&[*one, (one + 1) % SIZE]),
            all => stage.examine(all),
        }
        home = stage.verifies_by(deadline);
    }
    if let Err(why) = home.and_then(|()| stage.heals_by(deadline)) {
        panic!("not home within {HOME_WITHIN:?} of {what}: {why}");
    }
}

/// Files as they were.
struct Kept(Vec<(PathBuf, Vec<u8>)>);

impl Kept {
    fn of(folder: &Path, part: Part) -> Self {
        let paths = files(folder, part)
            .into_iter()
            .map(|name| folder.join(name));
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).expect("a file to keep");
            (path, bytes)
        };
        Self(paths.map(read).collect())
    }

    fn put_back(self) {
        for (path, bytes) in self.0 {
            fs::write(path, bytes).expect("a file to put back");
        }
    }
}
