//! How whoever leads a group makes it be made of those who are to keep it: strangers become learners,
//! learners that have caught up become voters, and whoever is not wanted goes, by changes of the group's
//! configuration, one after the other. What is wanted is looked up in the cluster's state each time, so
//! that nothing need be remembered over a change of leaders.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{
    ChangeEnd, ChangeRefused, Input, Membership, Micros, NodeId, NodeRef, PeerStatus, ProposalId,
    ReadId, Status, VOTERS_MAX,
};
use kontiki_wire::{ClusterCommand, GroupId, Member, Standing};

use crate::{
    broker::Broker, chores::Chore, group::Group, homes::answers, input::Now, meter::Meter,
    newcomer::Newcomer, tickets::Sought,
};

/// A group led here that is not made of those who are to keep it yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steering {
    /// The change under way.
    proposed: Option<ProposalId>,
    /// Why the last one was not taken.
    refused: Option<ChangeRefused>,
    /// Since when those have been expected who are to vote and cannot yet.
    expected: BTreeMap<NodeRef, Micros>,
    /// How fast those who copy do so.
    meters: BTreeMap<NodeRef, Meter>,
    /// How those get on who were given the topic and may have nothing of it yet.
    newcomers: BTreeMap<NodeRef, Newcomer>,
}

impl Broker {
    /// Brings a group that is led here closer to what it is to be.
    pub(crate) fn steer(&mut self, now: Now, id: GroupId) {
        let group = self.groups.get(&id).filter(|group| group.leads());
        let (Some(group), Some(wanted)) = (group, self.wanted(id)) else {
            self.steering.remove(&id);
            return;
        };
        let status = group.status(now.monotonic);
        if id == GroupId::CLUSTER && !is_changing(&status) {
            self.drop_leavers(now, &status);
        }
        if is_reached(&status, &wanted) {
            self.steering.remove(&id);
            return self.reached(now, id);
        }
        self.later(now, Chore::Steer(id), STEER_AGAIN);
        self.steering.entry(id).or_default();
        self.measure(now.monotonic, id, &status);
        self.report_copies(now, id, &status);
        if id != GroupId::CLUSTER && !self.is_abreast(now, id) {
            return;
        }
        let steering = self.steering.entry(id).or_default();
        if is_changing(&status) || steering.proposed.is_some() {
            return;
        }
        let has_waited = steering.expect_voters(now.monotonic, &status, &wanted);
        let target = match id == GroupId::CLUSTER && has_waited {
            true => without_the_late(&status, &wanted, self.settings.raft.election_timeout),
            false => None,
        };
        let target = target.unwrap_or_else(|| next_step(&status, &wanted));
        if target == status.config {
            return;
        }
        let change = self.next_proposal();
        self.steering.entry(id).or_default().proposed = Some(change);
        let input = Input::Change {
            id: change,
            expect: status.config_index,
            target,
            force: false,
        };
        self.feed(now, id, input);
    }

    /// Looks how far those have come who copy a group.
    fn measure(&mut self, now: Micros, id: GroupId, status: &Status) {
        let log = self.groups.get(&id).and_then(Group::log);
        let (Some(log), Some(steering)) = (log, self.steering.get_mut(&id)) else {
            return;
        };
        let copies = |peer: &&PeerStatus| !status.config.is_voter(peer.peer);
        let lacks = status.peers.iter().filter(copies).map(|peer| {
            let meter = steering.meters.get(&peer.peer).copied();
            let has = log.bytes_at(peer.has());
            let meter = meter.map_or_else(|| Meter::new(now, has), |meter| meter.read(now, has));
            (peer.peer, meter)
        });
        steering.meters = lacks.collect();
    }

    /// How fast a peer copies a group that is led here, in bytes a second; 0 if that is not looked at.
    pub(crate) fn speed(&self, id: GroupId, peer: NodeRef) -> u64 {
        let meter = self.steering.get(&id).and_then(|it| it.meters.get(&peer));
        meter.map_or(0, |meter| meter.bytes_per_second)
    }

    /// Looks how those get on who are to copy a topic, and tells the cluster what it does not know of that.
    fn report_copies(&mut self, now: Now, id: GroupId, status: &Status) {
        let (Some(topic), Some(steering)) = (self.cluster.topic_of(id), self.steering.get_mut(&id))
        else {
            return;
        };
        let placement = topic.placement;
        let is_new = |peer: &&PeerStatus| {
            let member = peer.peer.id.0;
            topic.coming.contains(&member) && topic.replicas.contains(&member)
        };
        let (mut newcomers, mut reports) = (BTreeMap::new(), Vec::new());
        for peer in status.peers.iter().filter(is_new) {
            let known = steering.newcomers.get(&peer.peer).copied();
            let mut newcomer = known.unwrap_or_else(|| Newcomer::new(now.monotonic, peer));
            newcomer.look(now.monotonic, peer);
            let member = peer.peer.id.0;
            if let Some(stuck) = newcomer.is_stuck(now.monotonic, peer)
                && stuck != topic.stuck.contains(&member)
                && newcomer.is_to_be_told(now.monotonic)
            {
                reports.push(ClusterCommand::ReportCopy {
                    group: id,
                    placement,
                    member,
                    stuck,
                });
            }
            newcomers.insert(peer.peer, newcomer);
        }
        steering.newcomers = newcomers;
        for report in reports {
            self.hand_over(now, report);
        }
    }

    /// A newcomer asks how much there is of a log, or asks so again while it fetches it.
    pub(crate) fn inquired(&mut self, now: Now, from: NodeRef, id: GroupId) {
        let steering = self.steering.get_mut(&id);
        if let Some(newcomer) = steering.and_then(|it| it.newcomers.get_mut(&from)) {
            newcomer.moves(now.monotonic);
        }
    }

    /// Whether the cluster's state, as applied here, is one that knows of every placement on which another
    /// leader of this group can have acted: who acts on an older one calls back a member that has been told to
    /// drop its replica. Whoever led the group before has acted before this node began to lead it. What was
    /// committed then is applied here if since then there was time enough for whoever led the cluster's own
    /// group without a quorum to step down, and for this node to hear nothing of it, and if it hears a leader now and
    /// has applied all that it has heard to be committed.
    fn is_abreast(&self, now: Now, id: GroupId) -> bool {
        let (Some(group), Some(own)) = (self.groups.get(&id), self.groups.get(&GroupId::CLUSTER))
        else {
            return false;
        };
        let led = now.monotonic.since(group.led_since);
        let own = own.status(now.monotonic);
        led.0 >= ABREAST * self.settings.raft.election_timeout.0
            && own.leader.is_some()
            && !own.recovering
            && self.cluster.applied().index >= own.commit
    }

    /// A change of a group's configuration has ended.
    pub(crate) fn change_ended(
        &mut self,
        now: Now,
        id: GroupId,
        change: ProposalId,
        end: ChangeEnd,
    ) {
        let steering = self.steering.get_mut(&id);
        let Some(steering) = steering.filter(|it| it.proposed == Some(change)) else {
            return;
        };
        steering.proposed = None;
        match end {
            ChangeEnd::Done { .. } => {
                steering.refused = None;
                self.soon(now, Chore::Steer(id));
            }
            ChangeEnd::Refused(refused) => steering.refused = Some(refused),
            ChangeEnd::Unknown { .. } => {
                self.steering.remove(&id);
            }
        }
    }

    /// A group is made of those who are to keep it. The cluster is told, again and again until its state
    /// shows it.
    fn reached(&mut self, now: Now, id: GroupId) {
        let topic = self.cluster.topic_of(id).filter(|topic| !topic.settled);
        let Some(placement) = topic.map(|topic| topic.placement) else {
            return;
        };
        self.later(now, Chore::Steer(id), TELL_AGAIN);
        // A leader that was deposed does not know it at once: what it takes for the configuration may be
        // that no more. So a quorum confirms that it leads, and then it looks once more.
        let read = ReadId(self.next_proposal().0);
        self.tickets
            .wait_for_read(read, id, Sought::Settled(placement), None);
        self.feed(now, id, Input::Read { id: read });
    }

    /// A quorum has confirmed that this node led the group when it was thought to be as it is to be.
    pub(crate) fn confirm_settled(&mut self, now: Now, id: GroupId, placement: u64) {
        let topic = self.cluster.topic_of(id);
        let unsettled = topic.is_some_and(|topic| !topic.settled && topic.placement == placement);
        let group = self.groups.get(&id).filter(|group| group.leads());
        let (Some(group), Some(wanted), true) = (group, self.wanted(id), unsettled) else {
            return;
        };
        if is_reached(&group.status(now.monotonic), &wanted) {
            let settled = ClusterCommand::Settled {
                group: id,
                placement,
            };
            self.hand_over(now, settled);
        }
    }

    /// Members that leave, that keep nothing, and that the cluster's own group does without.
    fn drop_leavers(&mut self, now: Now, status: &Status) {
        let members = self.cluster.state().members.iter();
        let leavers = members.filter(|member| {
            member.standing == Standing::Leaving
                && self.cluster.kept_by(member.id) == 0
                && !status.config.names(member.node())
        });
        let leavers: Vec<u64> = leavers.map(|member| member.id).collect();
        for member in leavers {
            self.propose_for_nobody(now, &ClusterCommand::DropMember { member });
            self.later(now, Chore::Steer(GroupId::CLUSTER), TELL_AGAIN);
        }
    }

    /// What a group is to be made of; `None` if that is not known.
    fn wanted(&self, id: GroupId) -> Option<Membership> {
        if id == GroupId::CLUSTER {
            return Some(self.wanted_of_cluster());
        }
        let topic = self.cluster.topic_of(id)?;
        let members = topic
            .replicas
            .iter()
            .filter_map(|id| self.cluster.member(*id));
        let wanted = Membership::of(members.map(Member::node));
        (!wanted.voters.is_empty()).then_some(wanted)
    }

    /// Everybody but those who leave and keep nothing any more: the first few as voters, those who stay
    /// before those who leave, and the others as learners, those who are demoted among them.
    fn wanted_of_cluster(&self) -> Membership {
        let leaves = |member: &&Member| member.standing == Standing::Leaving;
        let votes = |member: &&&Member| member.standing != Standing::Demoted;
        let members = self.cluster.state().members.iter();
        let mut members: Vec<&Member> = members
            .filter(|member| !leaves(member) || self.cluster.kept_by(member.id) > 0)
            .collect();
        members.sort_by_key(|member| (!votes(&member), leaves(member)));
        let may_vote = members.iter().filter(votes).count().max(1);
        let most = CLUSTER_VOTERS_MAX.min(members.len());
        let (voters, learners) = members.split_at(may_vote.min(most));
        Membership {
            learners: learners.iter().map(|member| member.node()).collect(),
            ..Membership::of(voters.iter().map(|member| member.node()))
        }
    }

    /// Who is to keep a group that is led here, while others do, and what that waits for.
    pub(crate) fn waits(&self, id: GroupId, status: &Status) -> (Vec<String>, Option<String>) {
        let Some(wanted) = self.wanted(id) else {
            return (Vec::new(), None);
        };
        let settled = self.cluster.topic_of(id).is_none_or(|topic| topic.settled);
        let reached = is_reached(status, &wanted);
        if reached && settled {
            return (Vec::new(), None);
        }
        let names = wanted.members().into_iter();
        let names = names.map(|node| self.cluster.name(node.id)).collect();
        let sentence = match reached {
            true => "the cluster's own group is to take note of it".to_owned(),
            false => self.obstacles(id, status, &wanted),
        };
        (names, Some(sentence))
    }

    fn obstacles(&self, id: GroupId, status: &Status, wanted: &Membership) -> String {
        let timeout = self.settings.raft.election_timeout;
        let name = |node: NodeId| self.cluster.name(node);
        let mut said: Vec<String> = Vec::new();
        for node in wanted.members() {
            if wanted.learners.contains(&node) && status.config.voters.contains(&node) {
                said.push(format!("{} has a vote still", name(node.id)));
                continue;
            }
            let counts = !wanted.voters.contains(&node) || status.config.voters.contains(&node);
            if counts && status.config.names(node) {
                continue;
            }
            let lacks = |peer: &PeerStatus| status.last.index.0.saturating_sub(peer.matched.0);
            let topic = self.cluster.topic_of(id);
            let is_stuck = topic.is_some_and(|topic| topic.stuck.contains(&node.id.0));
            said.push(match peer_of(status, node) {
                None => format!("{} is to become a learner", name(node.id)),
                Some(_) if is_stuck => format!(
                    "{} gets nowhere: see that it and {}, which leads, reach each other where peers do, and what \
                     both log, or let another member join",
                    name(node.id),
                    name(status.me.id)
                ),
                Some(peer) if peer.heard.is_none_or(|ago| ago > timeout) => {
                    format!("{} does not answer", name(node.id))
                }
                Some(peer) if !peer.counts => format!("{} is recovering", name(node.id)),
                Some(peer) if !peer.caught_up => {
                    format!("{} lacks {} entries", name(node.id), lacks(peer))
                }
                Some(_) => format!("{} is to become a voter", name(node.id)),
            });
        }
        let unwanted = status.config.members().into_iter();
        let unwanted = unwanted.filter(|node| !wanted.names(*node));
        said.extend(unwanted.map(|node| format!("{} is still counted", name(node.id))));
        if is_changing(status) {
            said.push("a change is not committed yet".to_owned());
        }
        let refused = self.steering.get(&id).and_then(|it| it.refused.as_ref());
        said.extend(refused.and_then(words));
        said.join("; ")
    }
}

impl Steering {
    /// Takes note of who is expected, and says whether nobody is who has not been for long.
    fn expect_voters(&mut self, now: Micros, status: &Status, wanted: &Membership) -> bool {
        let ready = ready(status, wanted);
        let late = wanted.voters.difference(&ready);
        let since = |node| self.expected.get(node).copied().unwrap_or(now);
        let expected = late.map(|node| (*node, since(node))).collect();
        self.expected = expected;
        let mut expected = self.expected.values();
        expected.all(|since| now.since(*since) >= LATE_AFTER)
    }
}

/// Whether a group is made of exactly those who are to keep it, for good.
fn is_reached(status: &Status, wanted: &Membership) -> bool {
    !is_changing(status) && status.config == *wanted
}

fn is_changing(status: &Status) -> bool {
    status.config.is_joint() || status.config_index > status.commit
}

fn peer_of(status: &Status, node: NodeRef) -> Option<&PeerStatus> {
    status.peers.iter().find(|peer| peer.peer == node)
}

/// Those wanted as voters who count already, or can at once.
fn ready(status: &Status, wanted: &Membership) -> BTreeSet<NodeRef> {
    let is_ready = |node: &&NodeRef| {
        status.config.voters.contains(node)
            || peer_of(status, **node).is_some_and(|peer| peer.caught_up)
    };
    wanted.voters.iter().filter(is_ready).copied().collect()
}

/// The wanted configuration with those as learners who cannot count yet, so that who is to go need not wait
/// for somebody who may never come. `None` unless half of the wanted count then, and most of those answer.
fn without_the_late(status: &Status, wanted: &Membership, patience: Micros) -> Option<Membership> {
    let voters = ready(status, wanted);
    let answering = voters
        .iter()
        .filter(|node| answers(status, node.id.0, patience));
    let goes_on = answering.count() > voters.len() / 2;
    let is_enough = voters.len() >= wanted.voters.len().div_ceil(2);
    let reduced = Membership {
        learners: wanted.members().difference(&voters).copied().collect(),
        ..Membership::of(voters)
    };
    (goes_on && is_enough).then(|| next_step(status, &reduced))
}

/// The next configuration on the way to the wanted one. Who is unwanted counts until all that are wanted
/// can, so that on the way nothing is kept by fewer.
fn next_step(status: &Status, wanted: &Membership) -> Membership {
    let now = &status.config;
    let all = wanted.members();
    let strangers = all.iter().any(|node| !now.names(*node));
    if strangers {
        let learners = all.difference(&now.voters).copied().collect();
        return Membership {
            learners,
            ..Membership::of(now.voters.iter().copied())
        };
    }
    let ready = ready(status, wanted);
    let mut voters = match ready == wanted.voters {
        true => ready,
        false => ready.union(&now.voters).copied().collect(),
    };
    // Of those who count now, half must stay.
    let least = now.voters.len().div_ceil(2);
    let mut spare = now.voters.difference(&wanted.voters);
    while voters.intersection(&now.voters).count() < least
        && let Some(stays) = spare.next()
    {
        voters.insert(*stays);
    }
    if voters.len() > VOTERS_MAX {
        voters.clone_from(&now.voters);
    }
    Membership {
        learners: all.difference(&voters).copied().collect(),
        voters,
        ..Membership::default()
    }
}

/// What a refusal adds to what is seen without it.
fn words(refused: &ChangeRefused) -> Option<String> {
    Some(match refused {
        ChangeRefused::Silent { answering, least } => {
            format!("of the voters that there would be {answering} answer, and {least} must")
        }
        ChangeRefused::TooMany { stay, least } => {
            format!("of the voters that there are {stay} would stay, and {least} must")
        }
        ChangeRefused::Invalid { why } => format!("it would be {why}"),
        ChangeRefused::Closed(_)
        | ChangeRefused::Unsettled
        | ChangeRefused::UnderWay { .. }
        | ChangeRefused::Outdated { .. }
        | ChangeRefused::Stranger { .. }
        | ChangeRefused::Behind { .. } => return None,
    })
}

/// Voters of the cluster's own group: more make it slower, and no safer.
const CLUSTER_VOTERS_MAX: usize = 7;
/// Election timeouts after which a leader without its quorum has stepped down, one of its followers has noticed,
/// and one more for clocks that differ.
const ABREAST: u64 = 4;
/// What could not be changed is tried again after this.
const STEER_AGAIN: Micros = Micros(250_000);
/// Who is to vote and could not for so long keeps nobody any more in the cluster's own group who is to go.
const LATE_AFTER: Micros = Micros(10_000_000);
/// What the cluster does not know yet it is told again after this.
const TELL_AGAIN: Micros = Micros(1_000_000);
