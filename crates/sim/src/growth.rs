//! Members that come and go: who is to be one, what faults make of those who are, and what all of it is to
//! come to in the end.

use kontiki_raft::{Incarnation, NodeId, NodeRef};
use kontiki_wire::{
    Admission, ClusterCommand, ClusterState, GroupId, Member as Known, Request, Response, Role,
    Standing, TokenId, TokenSpec, Versions, Whom,
};

use crate::{
    chance::Chance,
    damage::Harm,
    event::Event,
    faults::{Fault, Kind},
    injury::Injury,
    member::Member,
    pipe::Up,
    plan::MEMBERS_MAX,
    world::World,
};

/// Somebody who is to be a member.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    name: String,
    incarnation: Incarnation,
    token: TokenId,
    has_token: bool,
}

/// What somebody does whose order is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nerve {
    /// Takes it for an answer.
    Yields,
    /// Goes on in spite of it.
    Insists,
    /// Has been refused, and goes on.
    Forces,
}

/// How long a token admits somebody.
const TOKEN_SECONDS: u64 = 3_600;
/// A process that was just admitted starts within this.
const STARTS_WITHIN: u64 = 500_000;

impl Newcomer {
    /// Somebody with an empty disk.
    pub(crate) fn new(name: String, chance: &mut Chance) -> Self {
        Self {
            name,
            incarnation: Incarnation(chance.next()),
            token: TokenId(chance.next()),
            has_token: false,
        }
    }

    /// How it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is to be asked for next.
    pub(crate) fn asks(&self) -> Up {
        if !self.has_token {
            return Up::Ask(Request::CreateToken(TokenSpec {
                id: self.token,
                hash: [7; 32],
                role: Role::Node,
                topics: Vec::new(),
                life_seconds: TOKEN_SECONDS,
            }));
        }
        Up::Command(ClusterCommand::Admit(Admission {
            token: self.token,
            name: self.name.clone(),
            incarnation: self.incarnation.0,
            address: format!("clients of {}", self.incarnation),
            peer_address: format!("peers of {}", self.incarnation),
            versions: Versions::MINE,
        }))
    }

    /// What came of that. Whoever cannot be admitted with this token, since the clocks have leapt over its
    /// end or its name is not free yet, comes again with another.
    pub(crate) fn answered(&mut self, response: &Response, token: u64) {
        match response {
            Response::Token(_) => self.has_token = true,
            Response::Refused(refusal) if !refusal.is_retryable() => {
                self.has_token = false;
                self.token = TokenId(token);
            }
            _ => {}
        }
    }

    /// Whether it was admitted, and removed before it heard of that: the cluster has taken back its key.
    pub(crate) fn is_taken_back(&self, state: &ClusterState) -> bool {
        let key = Whom::Key(self.incarnation.0);
        state.trust.revoked.iter().any(|one| one.whom == key)
    }

    /// It comes with another disk, as empty as the one before.
    pub(crate) fn begin_anew(&mut self, incarnation: u64) {
        self.incarnation = Incarnation(incarnation);
    }
}

impl World {
    /// The cluster's state as somebody has it who has the latest.
    pub(crate) fn cluster(&self) -> Option<&ClusterState> {
        let hosts = self.members.iter().filter_map(|one| one.host.as_ref());
        let latest = hosts.max_by_key(|host| host.broker.state(GroupId::CLUSTER).map(|(at, _)| at));
        latest.map(|host| host.broker.cluster())
    }

    /// Somebody is a member from now on, and soon starts its process.
    pub(crate) fn admitted(&mut self, known: &Known) {
        let me = NodeRef {
            id: NodeId(known.id),
            incarnation: Incarnation(known.incarnation),
        };
        if self.numbered(me).is_some() {
            return;
        }
        let number = self.members.len();
        let chance = self.chance.fork(known.id);
        let member = Member::joined(me, known.name.clone(), chance);
        self.members.push(member);
        self.network.grow();
        let name = &known.name;
        self.trace
            .tell(self.now, || format!("{name} is member {}", me.id));
        let delay = self.chance.between(0, STARTS_WITHIN);
        self.plan_in(delay, Event::Start { member: number });
    }

    /// A change of who is a member begins.
    pub(crate) fn change_members(
        &mut self,
        fault: Fault,
        chance: &mut Chance,
        injury: &mut Injury,
    ) -> Option<String> {
        let state = self.cluster()?;
        let active: Vec<Known> = self.staying(state).cloned().collect();
        let coming = state.members.len() + self.newcomers();
        match fault.kind {
            Kind::MemberJoined if coming < MEMBERS_MAX => {
                self.last_name += 1;
                let name = format!("n{}", self.last_name);
                self.join(Newcomer::new(name.clone(), chance));
                Some(name)
            }
            Kind::MemberRemoved if self.may_go(active.iter()) => {
                let name = chance.pick(&active).name.clone();
                let nerve = match chance.permille(500) {
                    true => Nerve::Insists,
                    false => Nerve::Yields,
                };
                self.remove(name.clone(), nerve);
                Some(name)
            }
            Kind::MemberReplaced if self.can_spare_one(active.len()) => {
                let known = chance.pick(&active).clone();
                let mut injuries = self.injuries.values();
                let stays = injuries.any(|injury| injury.has_stood_down(&known.name));
                if self.awaits(&known.name) || stays || self.tells(&known.name) {
                    // Of two who come by one name, the second would wait for ever.
                    return None;
                }
                let number = self.numbered(known.node())?;
                self.end_process(number, true);
                self.members[number].held_down += 1;
                injury.hold_down(number);
                // Its name is to be free, whatever is missed.
                self.remove(known.name.clone(), Nerve::Insists);
                self.join(Newcomer::new(known.name.clone(), chance));
                Some(known.name)
            }
            _ => None,
        }
    }

    /// Somebody is to keep no topics for a while, or to have no vote either; who.
    pub(crate) fn stand_down(&mut self, kind: Kind, chance: &mut Chance) -> Option<String> {
        let state = self.cluster()?;
        if !self.may_go(self.staying(state)) {
            return None;
        }
        let active = self.staying(state);
        let active: Vec<String> = active.map(|member| member.name.clone()).collect();
        let name = chance.pick(&active).clone();
        if self.awaits(&name) {
            // Whoever is told how to stand does not leave, and leaves its name to nobody.
            return None;
        }
        let standing = match kind {
            Kind::MemberDemoted => Standing::Demoted,
            _ => Standing::Draining,
        };
        self.order_standing(name.clone(), standing);
        Some(name)
    }

    /// A topic that may move: who leads it, who may be given it, and the name of one who is to keep it no more.
    pub(crate) fn draw_move(&self, chance: &mut Chance) -> Option<(usize, usize, String)> {
        let state = self.cluster()?;
        let active: Vec<&Known> = self.staying(state).collect();
        if !self.may_go(self.staying(state)) || state.topics.is_empty() {
            return None;
        }
        let topic = chance.pick(&state.topics);
        let leader = (0..self.members.len()).find(|number| self.leads(*number, topic.group))?;
        let keeps = |member: &&Known| topic.keepers().any(|id| id == member.id);
        let (keepers, others): (Vec<&Known>, Vec<&Known>) = active.into_iter().partition(keeps);
        let leader_id = self.members[leader].me.id.0;
        let leavers = keepers.into_iter().filter(|member| member.id != leader_id);
        let leavers: Vec<&Known> = leavers.collect();
        if leavers.is_empty() || others.is_empty() {
            return None;
        }
        let newcomer = self.numbered(chance.pick(&others).node())?;
        let leaver = chance.pick(&leavers).name.clone();
        (!self.awaits(&leaver)).then_some((leader, newcomer, leaver))
    }

    fn leads(&self, number: usize, group: GroupId) -> bool {
        let member = &self.members[number];
        let status = member.host.as_ref();
        let status = status.map(|host| host.broker.status(member.clock.now(self.now)));
        let mut groups = status.into_iter().flat_map(|status| status.groups);
        groups.any(|one| one.group == group && one.leader.as_ref() == Some(&member.name))
    }

    /// Members that are active and are not about to be otherwise.
    fn staying<'a>(&self, state: &'a ClusterState) -> impl Iterator<Item = &'a Known> {
        let active = state.members.iter();
        let active = active.filter(|member| member.standing == Standing::Active);
        active.filter(|member| !self.goes(&member.name))
    }

    /// Whether one of them may go.
    fn may_go<'a>(&self, mut staying: impl Iterator<Item = &'a Known>) -> bool {
        match self.plan.harm {
            Harm::None => staying.nth(1).is_some(),
            // Without the one that goes and the one that may have lost what it had, a majority is left, of those
            // who could be given something already.
            Harm::Segments | Harm::Memory(_) => {
                staying.filter(|member| self.is_ready(member)).count() >= 4
            }
        }
    }

    /// Whether a member runs and has heard that it is one.
    fn is_ready(&self, member: &Known) -> bool {
        let number = self.numbered(member.node());
        let host = number.and_then(|number| self.members[number].host.as_ref());
        host.is_some_and(|host| {
            let mut known = host.broker.cluster().members.iter();
            known.any(|one| one.id == member.id)
        })
    }

    /// Whether one of so many active members may be gone for long.
    fn can_spare_one(&self, active: usize) -> bool {
        let dead = self.injuries.values().any(Injury::holds_down);
        self.plan.harm == Harm::None && active >= 3 && !dead
    }

    /// What of the members and of where topics are kept is not yet as it was asked for.
    pub(crate) fn unplaced(&self) -> Option<String> {
        let Some(state) = self.cluster() else {
            return Some("nobody runs".to_owned());
        };
        for member in &self.members {
            let is_member = state.members.iter().any(|one| one.id == member.me.id.0);
            if is_member == member.is_out {
                let id = member.me.id;
                return Some(match is_member {
                    true => format!("{} ({id}) is a member and was told otherwise", member.name),
                    false => format!("{} ({id}) has not heard that it is out", member.name),
                });
            }
        }
        let mut members = state.members.iter();
        if let Some(member) = members.find(|member| member.standing == Standing::Leaving) {
            return Some(format!("{} leaves", member.name));
        }
        let active = state.members.iter();
        let active = active.filter(|member| member.standing == Standing::Active);
        let homes = active.count().max(1);
        state.topics.iter().find_map(|topic| {
            let least = usize::from(topic.settings.replicas).min(homes);
            let placed = topic.settled && topic.leaving.is_empty() && topic.replicas.len() >= least;
            (!placed).then(|| format!("topic {} is kept by {:?}", topic.name, topic.replicas))
        })
    }
}
