//! A target for everything that reads bytes from outside: what came over the network, what lay on a
//! disk, what a person wrote. A target makes checksums match, so that a hunter gets past them, and claims
//! more than "does not crash": what is understood is said again in the very same bytes, a disk never
//! gives wrong ones.

#![forbid(unsafe_code)]

mod client_frames;
mod disk;
mod files;
mod lies;
mod papers;
mod peers;
mod restore;
mod samples;
mod turns;

/// One reader of bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Gives it these bytes; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Good bytes to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The most that it may hold at a time: this much for each byte of the input, and this much besides.
    pub held_max: (usize, usize),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        run: client_frames::frame,
        seeds: samples::frames,
        held_max: WIRE,
    },
    Target {
        name: "batch",
        run: client_frames::batch,
        seeds: samples::batches,
        held_max: WIRE,
    },
    Target {
        name: "records",
        run: client_frames::records,
        seeds: samples::batches,
        held_max: WIRE,
    },
    Target {
        name: "client_stream",
        run: client_frames::client_stream,
        seeds: samples::openings,
        held_max: WIRE,
    },
    Target {
        name: "acknowledge",
        run: client_frames::acknowledge,
        seeds: samples::answers,
        held_max: WIRE,
    },
    Target {
        name: "deliver",
        run: client_frames::deliver,
        seeds: samples::deliveries,
        held_max: WIRE,
    },
    Target {
        name: "control",
        run: client_frames::control,
        seeds: samples::control,
        held_max: WIRE,
    },
    Target {
        name: "peer",
        run: peers::peer,
        seeds: samples::peers,
        held_max: WIRE,
    },
    Target {
        name: "turns",
        run: turns::turns,
        seeds: turns::seeds,
        held_max: (256, 4 << 20),
    },
    Target {
        name: "restore",
        run: restore::restore,
        seeds: samples::checkpoints,
        held_max: (256, 4 << 20),
    },
    Target {
        name: "disk",
        run: disk::damaged,
        seeds: disk::seeds,
        held_max: (64, 16 << 20),
    },
    Target {
        name: "forged_disk",
        run: disk::forged,
        seeds: disk::seeds,
        held_max: (64, 16 << 20),
    },
    Target {
        name: "files",
        run: files::files,
        seeds: files::seeds,
        held_max: (512, 1 << 20),
    },
    Target {
        name: "papers",
        run: papers::papers,
        seeds: papers::seeds,
        held_max: (256, 1 << 20),
    },
];

/// What is understood may be larger than its bytes, in proportion; and it is held twice, and said again.
const WIRE: (usize, usize) = (64, 64 << 10);

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
