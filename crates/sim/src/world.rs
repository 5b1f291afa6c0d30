//! A cluster, its clients and all that is between them, in one thread and on one virtual clock.

use std::{collections::BTreeMap, sync::Arc};

use kontiki_broker::Input;
use kontiki_raft::{Micros, NodeRef};

use crate::{
    agenda::Agenda,
    chance::Chance,
    consumer::Consumer,
    damage::Atlas,
    event::{Event, PipeId, Process},
    faults::{Counts, Kind},
    history::History,
    invariants::{Invariants, Observation},
    member::Member,
    network::Network,
    operator::Order,
    pipe::Pipe,
    plan::Plan,
    producer::Producer,
    reader::Reader,
    trace::Trace,
};

/// All of it.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    /// Microseconds since the story began.
    pub(crate) now: u64,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) chance: Chance,
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) pipes: BTreeMap<PipeId, Pipe>,
    pub(crate) last_pipe: PipeId,
    pub(crate) topics: Vec<crate::operator::Topic>,
    pub(crate) producers: Vec<Producer>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) orders: Vec<Order>,
    /// Counts the members' names.
    pub(crate) last_name: usize,
    pub(crate) history: History,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// What faults have done and will undo at their end.
    pub(crate) injuries: BTreeMap<usize, crate::injury::Injury>,
    /// Which damage there is.
    pub(crate) atlas: Atlas,
    /// No fault is to set in any more.
    pub(crate) is_healed: bool,
    /// The first thing that was found to be wrong.
    pub(crate) finding: Option<String>,
}

impl World {
    pub(crate) fn new(plan: Plan, keeps_lines: bool) -> Self {
        let mut chance = Chance::new(plan.chance);
        let members = (0..plan.members)
            .map(|number| Member::new(number, chance.fork(100 + number as u64)))
            .collect();
        let network = Network::new(plan.members, plan.network, chance.fork(1));
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            members,
            network,
            pipes: BTreeMap::new(),
            last_pipe: 0,
            topics: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            readers: Vec::new(),
            orders: Vec::new(),
            last_name: plan.members,
            history: History::default(),
            invariants: Invariants::default(),
            trace: Trace::new(keeps_lines),
            counts: Counts::new(),
            injuries: BTreeMap::new(),
            atlas: Atlas::default(),
            is_healed: false,
            finding: None,
            plan: Arc::new(plan),
            chance,
        };
        for member in 0..world.members.len() {
            world.plan_at(member as u64, Event::Start { member });
        }
        for (fault, drawn) in world.plan.faults.clone().iter().enumerate() {
            world.plan_at(drawn.at, Event::Begin { fault });
        }
        world.make_first_topics();
        world
    }

    pub(crate) fn time(&self) -> Micros {
        Micros(self.now)
    }

    pub(crate) fn plan_at(&mut self, at: u64, event: Event) {
        self.agenda.plan(at.max(self.now), event);
    }

    pub(crate) fn plan_in(&mut self, delay: u64, event: Event) {
        self.agenda.plan(self.now + delay, event);
    }

    /// Plans something in the process that a member has now.
    pub(crate) fn plan_process(&mut self, delay: u64, member: usize, what: Process) {
        let life = self.members[member].life;
        self.plan_in(delay, Event::Process { member, life, what });
    }

    /// Something is wrong that must never be.
    pub(crate) fn find(&mut self, what: impl FnOnce() -> String) {
        if self.finding.is_none() {
            let what = what();
            self.trace.tell(self.now, || format!("FOUND {what}"));
            self.finding = Some(what);
        }
    }

    /// Holds what a member was seen to do against every promise.
    pub(crate) fn observe(&mut self, member: usize, what: &Observation<'_>) {
        let at = self.time();
        let me = self.members[member].me;
        if let Err(finding) = self.invariants.observe(at, me, what) {
            self.find(|| finding.to_string());
        }
    }

    /// Where a member stands.
    pub(crate) fn numbered(&self, member: NodeRef) -> Option<usize> {
        self.members.iter().position(|one| one.me == member)
    }

    /// Who is meant by a name: of two the later, who came in the other's place.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        self.members.iter().rposition(|one| one.name == name)
    }

    pub(crate) fn count(&mut self, kind: Kind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Lets time pass, or stops at the first finding.
    pub(crate) fn run_to(&mut self, end: u64) {
        while self.finding.is_none()
            && let Some((at, event)) = self.agenda.next_by(end)
        {
            self.now = at;
            self.happen(event);
        }
        if self.finding.is_none() {
            self.now = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Process { member, life, what } => {
                let it = &self.members[member];
                if it.life != life || it.host.is_none() {
                    return;
                }
                if it.paused_until > self.now {
                    let at = it.paused_until;
                    self.plan_at(at, Event::Process { member, life, what });
                    return;
                }
                self.process(member, what);
            }
            Event::Arrive { to, life, said } => {
                let it = &self.members[to];
                if it.life != life || it.host.is_none() {
                    return;
                }
                if let Input::Peer { from, .. } | Input::Relayed { from, .. } = &*said
                    && let Some(number) = self.numbered(*from)
                    && !self.is_let_in(number, to)
                {
                    return;
                }
                let (from, count) = match &*said {
                    Input::Peer { from, messages } => (from.id.0, messages.len() as u64),
                    Input::Asked { from, .. } | Input::Found { from, .. } => (from.id.0, 0),
                    _ => (0, 0),
                };
                let told = (to as u64) << 32 | from << 16 | count;
                self.trace.note(self.now, 1, told);
                self.input(to, *said);
            }
            Event::Start { member } => self.start(member),
            Event::PowerOff { member, life } => {
                if self.members[member].life == life && self.members[member].host.is_some() {
                    self.lose_power(member);
                }
            }
            Event::Carry { pipe, up } => self.carry(pipe, up),
            Event::Cut { pipe } => self.cut_pipe(pipe),
            Event::Unanswered { pipe } => self.unanswered(pipe),
            Event::Producer { producer, what } => self.wake_producer(producer, what),
            Event::Consumer { consumer, turn } => self.wake_consumer(consumer, turn),
            Event::Reader { reader } => self.wake_reader(reader),
            Event::Operator { order, turn } => self.give_order(order, turn),
            Event::Begin { fault } => self.begin_fault(fault),
            Event::End { fault } => self.end_fault(fault),
        }
    }

    fn process(&mut self, member: usize, what: Process) {
        match what {
            Process::Turn => self.turn(member),
            Process::Timer => self.alarm(member),
            Process::Written => self.written(member),
            Process::Settle => self.settle(member),
            Process::Quiet { writes, again } => self.quiet(member, writes, again),
            Process::LookAgain => self.look_again(member),
            Process::Read { group, send } => self.read_and_send(member, group, *send),
            Process::Fetch { group } => self.fetch(member, group),
            Process::FetchLost { group, from } => {
                let why = "it has been silent".to_owned();
                self.end_fetch(member, group, from, Some(why));
            }
            Process::Dial { to, pause } => self.dial(member, to, pause),
            Process::LinkLost { to, number } => self.link_lost(member, to, number),
            Process::LinkSilent { to, number } => self.link_silent(member, to, number),
            Process::Pump { pipe } => self.pump(member, pipe),
        }
    }
}
