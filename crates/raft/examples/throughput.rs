//! How many entries a second three members agree on in one thread, without disk, network or bytes
//! to encode: what the core itself costs. `cargo run --release -p kontiki-raft --example throughput`

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kontiki_raft::{
    Boot, Effect, Incarnation, Input, Kind, Membership, Message, Micros, NodeId, NodeRef, Proposal,
    ProposalId, Raft, Role, Settings,
};

/// How long each figure is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// Three members whose disks and links take no time.
struct Group {
    members: Vec<Raft>,
    inbox: VecDeque<(usize, NodeRef, Message)>,
    effects: Vec<Effect>,
    acknowledged: u64,
}

impl Group {
    /// The first member leads.
    fn new() -> Self {
        let config = Membership::of((0..3).map(node));
        let start = |me| Raft::new(Settings::default(), boot(me, &config), me.id.0, Micros(0));
        let members: Result<_, _> = (0..3).map(node).map(start).collect();
        let mut group = Self {
            members: members.expect("an empty log fits"),
            inbox: VecDeque::new(),
            effects: Vec::new(),
            acknowledged: 0,
        };
        group.turn(0, Input::Campaign);
        group.settle();
        assert_eq!(group.members[0].role(), Role::Leader);
        group
    }

    fn turn(&mut self, at: usize, input: Input) {
        self.members[at].handle(Micros(0), input);
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        let me = node(at as u64);
        let mut upto = None;
        let mut effects = mem::take(&mut self.effects);
        self.members[at].drain(Micros(0), &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(write) => upto = Some(write.seq),
                Effect::Send { to, message } => {
                    self.inbox.push_back((to.id.0 as usize, me, message));
                }
                Effect::Committed(entries) => {
                    let own = entries.iter().filter(|entry| entry.proposal.is_some());
                    self.acknowledged += own.count() as u64;
                }
                Effect::Fate { id, fate } => panic!("{id}: {fate:?}"),
                _ => {}
            }
        }
        self.effects = effects;
        if let Some(upto) = upto {
            self.turn(at, Input::Persisted { upto });
        }
    }

    fn settle(&mut self) {
        while let Some((to, from, message)) = self.inbox.pop_front() {
            self.turn(to, Input::Message { from, message });
        }
    }
}

fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(1),
    }
}

fn boot(me: NodeRef, config: &Membership) -> Boot {
    Boot::born(me, config.clone())
}

/// Entries a second through the whole group, `count` of `size` bytes in each round.
#[expect(clippy::disallowed_methods, reason = "a clock measures")]
fn measure(count: u64, size: usize) -> f64 {
    let mut group = Group::new();
    let body = Bytes::from(vec![7; size]);
    let mut proposed = 0;
    let start = Instant::now();
    while start.elapsed() < MEASURED {
        let proposals = (0..count).map(|i| Proposal {
            id: ProposalId(proposed + i),
            kind: Kind::Batch,
            checksum: 0,
            body: body.clone(),
        });
        let proposals = proposals.collect();
        let time = Micros(0);
        group.turn(0, Input::Propose { time, proposals });
        group.settle();
        proposed += count;
    }
    assert_eq!(group.acknowledged, proposed, "all that was proposed came");
    proposed as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    println!("{:>9} {:>6} {:>14}", "per round", "bytes", "entries/s");
    for (count, size) in [1, 64, 512].iter().flat_map(|c| [(*c, 100), (*c, 1024)]) {
        println!("{count:>9} {size:>6} {:>14.0}", measure(count, size));
    }
}
