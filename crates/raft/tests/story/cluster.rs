//! The virtual cluster: members, what is under way between them, and one clock. Nothing happens but
//! what a story's commands make happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kontiki_raft::{
    Body, Effect, Entry, Fate, Index, Input, Kind, Membership, Message, Micros, NodeId, NodeRef,
    Proposal, ProposalId, ReadId, SendLog, Settings,
};

use crate::{
    disk::Disk,
    promises::History,
    story::{
        command::{Command, Gate, Path, Pick, node},
        member::Member,
        transcript::Transcript,
    },
    words,
};

/// All members of a story.
#[derive(Default)]
pub(crate) struct Cluster {
    settings: Settings,
    seed: u64,
    now: Micros,
    members: BTreeMap<u64, Member>,
    network: VecDeque<Flight>,
    /// Links that are not open.
    links: BTreeMap<(u64, u64), Gate>,
    history: History,
    transcript: Transcript,
    /// Beats that tell nothing are left out.
    brief: bool,
    proposals: u64,
    reads: u64,
    /// Proposals and reads that have not come back.
    open: BTreeSet<String>,
}

/// A message under way.
#[derive(Clone)]
struct Flight {
    from: NodeRef,
    to: NodeRef,
    message: Message,
}

type Played = Result<(), String>;

impl Cluster {
    /// Performs one line, and gives its transcript.
    pub(crate) fn perform(&mut self, command: Command) -> Result<String, String> {
        match command {
            Command::Members {
                count,
                config,
                seed,
                settings,
            } => self.found(count, &config, seed, *settings)?,
            Command::Boot { member, disk } => self.boot(member, disk)?,
            Command::Elect(member, voters) => self.elect(member, &voters)?,
            Command::Campaign(member) => self.ask(member, "campaign", Input::Campaign)?,
            Command::Retire(member) => self.ask(member, "retire", Input::Retire)?,
            Command::Propose(member, texts) => self.propose(member, &texts)?,
            Command::Read(member) => self.read(member)?,
            Command::Transfer(member, to) => {
                let input = Input::Transfer { to: NodeId(to) };
                self.ask(member, &format!("transfer to {to}"), input)?;
            }
            Command::Change {
                member,
                target,
                expect,
                force,
            } => self.change(member, target, expect, force)?,
            Command::Join(node) => self.join(node)?,
            Command::Compact(member, upto) => {
                let upto = Index(upto);
                self.ask(
                    member,
                    &format!("compacts up to {upto}"),
                    Input::Compacted { upto },
                )?;
                let member = self.member(member)?;
                if let Some(raft) = &member.raft {
                    member.disk.base = raft.status(Micros(0)).base.index;
                    member.disk.base_config = raft.config_at(member.disk.base);
                }
            }
            Command::Fetch {
                member,
                from,
                last,
                applied,
            } => self.fetch(member, from, last, applied)?,
            Command::Fetched(member, upto) => {
                let upto = Index(upto);
                self.ask(
                    member,
                    &format!("has fetched {upto}"),
                    Input::Fetched { upto },
                )?;
            }
            Command::Reachable { member, peer, open } => {
                let word = if open { "open" } else { "closed" };
                let peer_id = NodeId(peer);
                let input = Input::Reachable {
                    peer: peer_id,
                    open,
                };
                self.ask(member, &format!("link to {peer} {word}"), input)?;
            }
            Command::Watched(member, heard) => self.watched(member, &heard)?,
            Command::Rouse(member) => self.ask(member, "rouse", Input::Rouse)?,
            Command::Deliver(pick) => self.deliver(&pick)?,
            Command::Persist(member, count) => {
                if !self.persist(member, count)? {
                    self.say(format!("{member}: nothing is queued"));
                }
            }
            Command::Stabilize => self.stabilize()?,
            Command::Timer(member) => self.ask(member, "timer", Input::Timer)?,
            Command::Advance(by) => self.clock(self.now.after(by)),
            Command::Run(by) => self.run(by)?,
            Command::Crash { member, keep } => self.crash(member, keep)?,
            Command::Forget { member, keep } => self.forget(member, keep)?,
            Command::Restart(member) => self.start(member, false)?,
            Command::Link(path, gate) => self.link(&path, gate),
            Command::Disk(member, Gate::Lost) => {
                self.member(member)?.queue.clear();
                self.ask(member, "a write failed", Input::PersistFailed)?;
            }
            Command::Disk(member, gate) => self.member(member)?.held = gate == Gate::Held,
            Command::Status => self.status(),
            Command::Log(member) => self.log(member)?,
        }
        Ok(self.transcript.take())
    }

    fn found(&mut self, count: u64, config: &Membership, seed: u64, settings: Settings) -> Played {
        *self = Self {
            settings,
            seed,
            ..Self::default()
        };
        for member in 1..=count {
            let value = Member::new(node(member), config.clone(), seed);
            self.members.insert(member, value);
        }
        for member in 1..=count {
            self.start(member, true)?;
        }
        Ok(())
    }

    fn change(
        &mut self,
        member: u64,
        target: Membership,
        expect: Option<u64>,
        force: bool,
    ) -> Played {
        self.proposals += 1;
        let id = self.proposals;
        let now = self.now;
        let status = self.member(member)?.raft.as_ref().map(|r| r.status(now));
        let known = status.map_or(Index(0), |status| status.config_index);
        let said = format!("change p{id} to {}", words::config(&target));
        self.open.insert(format!("p{id}"));
        let input = Input::Change {
            id: ProposalId(id),
            expect: expect.map_or(known, Index),
            target,
            force,
        };
        self.ask(member, &said, input)
    }

    fn join(&mut self, node: NodeRef) -> Played {
        let member = Member::new(node, Membership::default(), self.seed);
        self.members.insert(node.id.0, member);
        self.start(node.id.0, true)
    }

    fn fetch(
        &mut self,
        member: u64,
        from: u64,
        last: Option<usize>,
        applied: Option<usize>,
    ) -> Played {
        let giver = self.member(from)?;
        if !giver.has(last) {
            return Err(format!("{from} has nothing of that"));
        }
        let (stretch, all) = (giver.give(applied, last), giver.disk.log.clone());
        self.member(member)?.staged = all;
        let (base, last) = (stretch.base, stretch.last);
        let said = format!("has fetched {base} to {last} from {from}");
        self.ask(member, &said, Input::Arrived(Box::new(stretch)))
    }

    fn boot(&mut self, member: u64, disk: Disk) -> Played {
        self.member(member)?.disk = disk;
        self.start(member, true)
    }

    fn start(&mut self, id: u64, fresh: bool) -> Played {
        let (settings, now) = (self.settings.clone(), self.now);
        let member = self.member(id)?;
        member.start(&settings, now, fresh)?;
        let again = if fresh { "" } else { " again" };
        let status = member.raft.as_ref().expect("it was started").status(now);
        let heading = words::status(&status);
        self.turn(id, format!("{heading}, starts{again}"), None)
    }

    fn crash(&mut self, id: u64, keep: usize) -> Played {
        let member = self.member(id)?;
        let (kept, lost): (Vec<_>, Vec<_>) = member
            .queue
            .iter()
            .map(words::write)
            .enumerate()
            .partition(|(at, _)| *at < keep);
        let kept = kept.into_iter().map(|(_, write)| format!("kept {write}"));
        let lost = lost.into_iter().map(|(_, write)| format!("lost {write}"));
        let followed: Vec<_> = kept.chain(lost).collect();
        member.crash(keep);
        self.transcript.event(&format!("{id}: crash"), &followed);
        Ok(())
    }

    fn forget(&mut self, id: u64, keep: usize) -> Played {
        self.member(id)?.forget(keep);
        let kept = match keep {
            0 => "its disk is empty".to_owned(),
            _ => format!("its disk keeps {keep} entries"),
        };
        self.transcript.event(&format!("{id}: crash"), &[kept]);
        Ok(())
    }

    fn elect(&mut self, member: u64, voters: &[u64]) -> Played {
        self.ask(member, "campaign", Input::Campaign)?;
        for (question, answer) in [("pre-vote", "pre-vote-reply"), ("vote", "vote-reply")] {
            self.persist(member, usize::MAX)?;
            for voter in voters {
                self.deliver(&Pick::all(member, *voter, question))?;
                self.persist(*voter, usize::MAX)?;
            }
            self.network
                .retain(|f| f.from.id.0 != member || words::kind(&f.message) != question);
            for voter in voters {
                self.deliver(&Pick::all(*voter, member, answer))?;
            }
        }
        Ok(())
    }

    fn propose(&mut self, member: u64, texts: &[String]) -> Played {
        let mut proposals = Vec::new();
        let mut said = Vec::new();
        for text in texts {
            self.proposals += 1;
            let id = self.proposals;
            said.push(format!("p{id} {text}"));
            self.open.insert(format!("p{id}"));
            proposals.push(Proposal {
                id: ProposalId(id),
                kind: Kind::Batch,
                checksum: 0,
                body: Bytes::from(text.clone()),
            });
        }
        let input = Input::Propose {
            time: self.now,
            proposals,
        };
        self.ask(member, &format!("propose {}", said.join(", ")), input)
    }

    fn read(&mut self, member: u64) -> Played {
        self.reads += 1;
        let id = self.reads;
        self.open.insert(format!("r{id}"));
        self.ask(
            member,
            &format!("read r{id}"),
            Input::Read { id: ReadId(id) },
        )
    }

    fn ask(&mut self, member: u64, what: &str, input: Input) -> Played {
        self.turn(member, format!("{member}: {what}"), Some(input))
    }

    fn watched(&mut self, member: u64, heard: &[(u64, Option<u64>)]) -> Played {
        let now = self.now;
        let at = |at: &Option<u64>| at.map_or(now, |millis| Micros(millis * 1_000));
        let said = heard
            .iter()
            .map(|(peer, when)| format!("{peer} at {}", words::time(at(when))));
        let what = format!("heard {}", said.collect::<Vec<_>>().join(", "));
        let members = &self.members;
        let node = |id: &u64| members.get(id).map(|member| member.me);
        let heard = heard
            .iter()
            .filter_map(|(id, when)| Some((node(id)?, at(when))));
        let heard = heard.collect();
        self.ask(member, &what, Input::Watched { heard })
    }

    fn deliver(&mut self, pick: &Pick) -> Played {
        let meant = |flight: &&Flight| {
            (flight.from.id.0, flight.to.id.0) == (pick.from, pick.to)
                && (pick.kind.as_deref()).is_none_or(|kind| kind == words::kind(&flight.message))
        };
        let picked = self
            .network
            .iter()
            .enumerate()
            .filter(|(_, flight)| meant(flight));
        let picked = picked.skip(pick.skip).take(pick.count).map(|(at, _)| at);
        let picked: Vec<_> = picked.collect();
        if picked.is_empty() {
            self.say(format!("{}->{}: nothing is under way", pick.from, pick.to));
        }
        let mut taken = 0;
        for at in picked {
            let flight = if pick.doubled {
                self.network.get(at).cloned()
            } else {
                taken += 1;
                self.network.remove(at + 1 - taken)
            };
            let flight = flight.expect("what was picked is still there: new messages come behind");
            match pick.lost {
                true => self.say(format!("lost {}", flight.say())),
                false => self.arrive(flight)?,
            }
        }
        Ok(())
    }

    fn arrive(&mut self, flight: Flight) -> Played {
        let heading = flight.say();
        let Flight { from, to, message } = flight;
        let runs = self.members.get(&to.id.0).map(|member| member.me);
        if runs.is_some_and(|runs| runs != to) {
            let reborn = "was for one that is no more".to_owned();
            self.transcript.event(&heading, &[reborn]);
            return Ok(());
        }
        self.turn(to.id.0, heading, Some(Input::Message { from, message }))
    }

    /// Whether there was anything to write.
    fn persist(&mut self, id: u64, count: usize) -> Result<bool, String> {
        let Some((input, arrived)) = self.member(id)?.persist(count) else {
            return Ok(false);
        };
        let arrived: Vec<_> = arrived.iter().map(|seq| format!("w{seq}")).collect();
        let heading = format!("{id}: {} durable", arrived.join(" "));
        self.turn(id, heading, Some(input))?;
        Ok(true)
    }

    fn stabilize(&mut self) -> Played {
        for _ in 0..STEPS_MAX {
            let passes =
                |flight: &Flight| self.gate(flight.from.id.0, flight.to.id.0) == Gate::Open;
            if let Some(at) = self.network.iter().position(passes) {
                let flight = self.network.remove(at).expect("it was just found");
                self.arrive(flight)?;
                continue;
            }
            let mut wrote = false;
            for id in self.members.keys().copied().collect::<Vec<_>>() {
                wrote |= !self.member(id)?.held && self.persist(id, usize::MAX)?;
            }
            if !wrote {
                return Ok(());
            }
        }
        Err("it never stabilizes".into())
    }

    /// Time passes from deadline to deadline, and everything arrives in between.
    fn run(&mut self, by: Micros) -> Played {
        let end = self.now.after(by);
        self.brief = true;
        for _ in 0..STEPS_MAX {
            self.stabilize()?;
            let deadline = |(id, member): (&u64, &Member)| {
                let at = member.raft.as_ref()?.next_deadline()?;
                Some((at, *id))
            };
            let next = self.members.iter().filter_map(deadline).min();
            let Some((at, id)) = next.filter(|(at, _)| *at <= end) else {
                self.brief = false;
                self.clock(end);
                return Ok(());
            };
            self.clock(at);
            self.ask(id, "timer", Input::Timer)?;
        }
        Err("timers never rest".into())
    }

    fn clock(&mut self, at: Micros) {
        if at > self.now {
            self.now = at;
            self.transcript.clock(words::time(at));
        }
    }

    fn link(&mut self, path: &Path, gate: Gate) {
        let ids: Vec<_> = self.members.keys().copied().collect();
        for from in &ids {
            for to in ids
                .iter()
                .filter(|to| from != *to && path.covers(*from, **to))
            {
                self.links.insert((*from, *to), gate);
            }
        }
        let links = &self.links;
        let lost =
            |flight: &Flight| links.get(&(flight.from.id.0, flight.to.id.0)) == Some(&Gate::Lost);
        let (lost, kept): (Vec<_>, Vec<_>) = self.network.drain(..).partition(lost);
        self.network = kept.into();
        for flight in lost {
            self.say(format!("lost {}", flight.say()));
        }
    }

    fn gate(&self, from: u64, to: u64) -> Gate {
        if !self.members.contains_key(&to) {
            return Gate::Lost;
        }
        self.links.get(&(from, to)).copied().unwrap_or(Gate::Open)
    }

    fn status(&mut self) {
        let mut lines = Vec::new();
        for (id, member) in &self.members {
            lines.push(match &member.raft {
                Some(raft) => {
                    let status = words::status(&raft.status(self.now));
                    let rests = raft.rests_with().map(|peers| {
                        let peers: Vec<_> = peers.into_iter().map(words::name).collect();
                        format!(", rests with {}", peers.join(" "))
                    });
                    status + &rests.unwrap_or_default()
                }
                None => format!("{id} down"),
            });
        }
        if !self.open.is_empty() {
            let open: Vec<_> = self.open.iter().map(String::as_str).collect();
            lines.push(format!("open: {}", open.join(" ")));
        }
        lines.into_iter().for_each(|line| self.say(line));
    }

    fn log(&mut self, id: u64) -> Played {
        let member = self.member(id)?;
        let disk = match member.disk.log.is_empty() {
            true => "nothing".to_owned(),
            false => words::list(&member.disk.log),
        };
        let queue = member
            .queue
            .iter()
            .map(|write| format!("queued {}", words::write(write)));
        let queue: Vec<_> = queue.collect();
        self.transcript.event(&format!("{id}: {disk}"), &queue);
        Ok(())
    }

    fn say(&mut self, line: String) {
        self.transcript.event(&line, &[]);
    }

    fn member(&mut self, id: u64) -> Result<&mut Member, String> {
        let member = self.members.get_mut(&id);
        member.ok_or_else(|| format!("there is no member {id}"))
    }

    /// One member takes in one thing; what follows is performed and written down.
    fn turn(&mut self, id: u64, heading: String, input: Option<Input>) -> Played {
        let now = self.now;
        let asked = match &input {
            Some(Input::Message { message, .. }) => Some(message.clone()),
            _ => None,
        };
        let dull = matches!(&input, Some(Input::Timer))
            || asked
                .as_ref()
                .is_some_and(|message| is_beat(&message.body) || is_bare(&message.body));
        let starts = input.is_none();
        let member = self.member(id)?;
        let before = member.raft.as_ref().map(|raft| raft.status(now));
        let (Some(turn), Some(before)) = (member.turn(now, input), before) else {
            self.transcript.event(&heading, &["is down".to_owned()]);
            return Ok(());
        };
        let plain = |effect: &Effect| match effect {
            Effect::Send { message, .. } => {
                let answer = matches!(message.body, Body::Appended { .. });
                is_beat(&message.body) || is_bare(&message.body) || answer
            }
            _ => false,
        };
        let untold = self.brief && dull && turn.effects.iter().all(plain);
        let mut followed = Vec::new();
        if turn.idle && !starts {
            let ignored = asked.as_ref().filter(|message| message.term > before.term);
            followed.push(match ignored.map(|message| &message.body) {
                Some(Body::Vote { .. }) => "ignores it: a leader may be alive".to_owned(),
                _ => "changes nothing".to_owned(),
            });
        }
        let mut effects = turn.effects;
        effects.sort_by_key(|effect| !matches!(effect, Effect::RoleChanged { .. }));
        let mut sent: Vec<(Message, usize, Vec<String>)> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    let name = self.send(id, to, message.clone())?;
                    match sent.iter_mut().find(|(other, _, _)| *other == message) {
                        Some((_, _, names)) => names.push(name),
                        None => {
                            sent.push((message, followed.len(), vec![name]));
                            followed.push(String::new());
                        }
                    }
                }
                Effect::SendLog(read) => {
                    let message = self.member(id)?.read_log(&read);
                    let name = self.send(id, read.to, message.clone())?;
                    followed.push(words::effect(&Effect::SendLog(read)));
                    followed.push(format!("sends {name}: {}", words::message(&message)));
                }
                effect => {
                    self.settle(&effect)?;
                    followed.push(words::effect(&effect));
                }
            }
        }
        for (message, at, names) in sent {
            let mut line = format!("sends {}: {}", names.join(" "), words::message(&message));
            if let Some(asked) = asked.as_ref().filter(|_| is_refusal(&message.body)) {
                line = format!("{line} ({})", words::refusal(&before, asked));
            }
            followed[at] = line;
        }
        if !untold {
            self.transcript.event(&heading, &followed);
        }
        if starts {
            // The others may still be about to be booted.
            return Ok(());
        }
        let views: Vec<_> = self.members.values().map(Member::view).collect();
        self.history.observe(&views)
    }

    /// Puts a message under way, and says what becomes of it.
    fn send(&mut self, from: u64, to: NodeRef, message: Message) -> Result<String, String> {
        let gate = self.gate(from, to.id.0);
        let from = self.member(from)?.me;
        if gate != Gate::Lost {
            self.network.push_back(Flight { from, to, message });
        }
        let to = words::name(to);
        Ok(match gate {
            Gate::Open => to,
            Gate::Held => format!("{to} (held)"),
            Gate::Lost => format!("{to} (lost)"),
        })
    }

    /// Proposals and reads come back, each once.
    fn settle(&mut self, effect: &Effect) -> Played {
        let mut back = Vec::new();
        match effect {
            Effect::Committed(committed) => {
                let ids = committed.iter().filter_map(|committed| committed.proposal);
                back.extend(ids.map(|id| format!("p{id}")));
            }
            Effect::Fate { id, fate } => {
                let (Fate::Refused(_) | Fate::Unknown { .. }) = fate;
                back.push(format!("p{id}"));
            }
            Effect::ChangeEnded { id, .. } => back.push(format!("p{id}")),
            Effect::ReadReady { id, .. } | Effect::ReadFailed { id, .. } => {
                back.push(format!("r{id}"));
            }
            _ => {}
        }
        match back.into_iter().find(|name| !self.open.remove(name)) {
            Some(name) => Err(format!("{name} came back a second time")),
            None => Ok(()),
        }
    }
}

impl Member {
    /// The append that the core asked the host to read and send.
    fn read_log(&self, read: &SendLog) -> Message {
        let first = read.head.prev.index.0 as usize;
        let mut bytes = 0;
        let mut entries: Vec<Entry> = Vec::new();
        assert!(
            first >= self.disk.base.0 as usize,
            "what is compacted is read"
        );
        for entry in &self.disk.log[first..read.last.0 as usize] {
            bytes += entry.body.len() as u64;
            if bytes > read.bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Message {
            term: read.term,
            body: Body::Append {
                head: read.head,
                entries,
            },
        }
    }
}

impl Flight {
    fn say(&self) -> String {
        let message = words::message(&self.message);
        let (from, to) = (words::name(self.from), words::name(self.to));
        format!("{from}->{to} {message}")
    }
}

fn is_beat(body: &Body) -> bool {
    matches!(body, Body::Beat { .. } | Body::BeatReply { .. })
}

/// An append that only asks.
fn is_bare(body: &Body) -> bool {
    matches!(body, Body::Append { entries, .. } if entries.is_empty())
}

fn is_refusal(body: &Body) -> bool {
    matches!(
        body,
        Body::PreVoteReply { granted: false, .. }
            | Body::VoteReply { granted: false }
            | Body::AppendRejected { .. }
    )
}

/// Whatever takes longer than this will never end.
const STEPS_MAX: usize = 10_000;
