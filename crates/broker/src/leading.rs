//! How topics come to be led by those who are to lead them: whoever leads one that another is to lead hands
//! it over, when that one has been there for a while and has all of it. One after the other, so that no
//! more than one topic at a time has a moment without a leader.

use kontiki_raft::{Input, Micros, NodeId};
use kontiki_wire::{ClusterCommand, GroupId, Standing, Topic};

use crate::{broker::Broker, chores::Chore, input::Now};

impl Broker {
    /// This node leads a topic, or what is known of who is to lead it has changed.
    pub(crate) fn look_who_is_to_lead(&mut self, now: Now, id: GroupId) {
        if self.is_led_instead(id).is_some() {
            self.later(now, Chore::Lead, LOOK_AGAIN);
        }
    }

    /// Whoever leads a topic here is this node, and somebody else is to, nor has a person just chosen this one.
    fn is_led_instead(&self, id: GroupId) -> Option<&Topic> {
        let me = self.settings.me.id.0;
        let group = self.groups.get(&id).filter(|group| group.leads());
        let group = group.filter(|_| self.chosen.get(&id) != Some(&self.settings.me.id));
        let topic = self.cluster.topic_of(id).filter(|_| group.is_some())?;
        (topic.preferred != me && topic.replicas.contains(&topic.preferred)).then_some(topic)
    }

    /// Hands one topic over to whom is to lead it, if there is one and it is fit.
    pub(crate) fn hand_back(&mut self, now: Now) {
        self.reluctant
            .retain(|_, since| now.monotonic.since(*since) < RELUCTANT);
        if !self.cluster.state().balance || self.retiring {
            return;
        }
        if !self.is_led(now) {
            // Nobody can say now whom persons have chosen.
            return self.later(now, Chore::Lead, LOOK_AGAIN);
        }
        let led = self.groups.keys().copied();
        let led: Vec<GroupId> = led
            .filter(|id| self.is_led_instead(*id).is_some())
            .collect();
        if led.is_empty() {
            return;
        }
        let fit = led.into_iter().find_map(|id| {
            let to = self.is_led_instead(id)?.preferred;
            self.is_fit(now.monotonic, id, to)
                .then_some((id, NodeId(to)))
        });
        self.later(
            now,
            Chore::Lead,
            if fit.is_some() { PACE } else { LOOK_AGAIN },
        );
        if let Some((id, to)) = fit {
            self.reluctant.insert(id, now.monotonic);
            self.tickets.begin_transfer(id, to);
            self.feed(now, id, Input::Transfer { to });
        }
    }

    /// Whether a group can be handed over to a member without a long moment in between, and is likely to
    /// stay there.
    fn is_fit(&self, now: Micros, id: GroupId, to: u64) -> bool {
        let (Some(group), Some(topic)) = (self.groups.get(&id), self.cluster.topic_of(id)) else {
            return false;
        };
        let calm = |since: Micros| now.since(since) >= STEADY;
        let there = self.open_since.get(&NodeId(to));
        let quiet = topic.settled
            && !self.reluctant.contains_key(&id)
            && self.tickets.transfer_to(id).is_none()
            && calm(group.led_since)
            && there.is_some_and(|since| calm(*since));
        if !quiet || self.cluster.standing(to) != Some(Standing::Active) {
            return false;
        }
        let status = group.status(now);
        let patience = self.settings.raft.election_timeout;
        let mut peers = status.peers.iter();
        let votes = |node| status.config.voters.contains(&node) && !status.config.is_joint();
        peers.any(|peer| {
            let answers = peer.heard.is_some_and(|ago| ago <= patience);
            let able = peer.counts && peer.streaming && peer.caught_up && answers;
            peer.peer.id.0 == to && able && votes(peer.peer)
        })
    }

    /// A person has handed a topic over: from now on it is to be led by that member first.
    pub(crate) fn prefer(&mut self, now: Now, id: GroupId, to: NodeId) {
        self.chosen.insert(id, to);
        self.tell_choices(now);
    }

    /// Tells the cluster whom persons have handed topics over to, again and again until its state shows it, or
    /// somebody else leads.
    pub(crate) fn tell_choices(&mut self, now: Now) {
        let chosen = std::mem::take(&mut self.chosen).into_iter();
        let commands = chosen.filter_map(|(id, to)| Some((id, to, self.untold(id, to)?)));
        let commands: Vec<_> = commands.collect();
        if !commands.is_empty() {
            self.later(now, Chore::Choice, TELL_AGAIN);
        }
        for (id, to, command) in commands {
            self.chosen.insert(id, to);
            self.hand_over(now, command);
        }
    }

    /// What the cluster is to agree on for a topic to be led by this member first, unless it has, or that one
    /// does not lead it after all.
    fn untold(&self, id: GroupId, to: NodeId) -> Option<ClusterCommand> {
        let (group, topic) = (self.groups.get(&id)?, self.cluster.topic_of(id)?);
        let leader = match group.leads() {
            true => Some(self.settings.me.id),
            false => group.other_leader().map(|other| other.id),
        };
        let overtaken = leader.is_some_and(|leader| leader != to);
        let known = topic.preferred == to.0 || !topic.replicas.contains(&to.0);
        (!overtaken && !known).then_some(ClusterCommand::Prefer {
            group: id,
            preferred: to.0,
            expect: topic.placement,
        })
    }
}

/// What the cluster does not know yet it is told again after this.
const TELL_AGAIN: Micros = Micros(1_000_000);
/// Between two hand-overs.
const PACE: Micros = Micros(1_000_000);
/// Who is not fit yet is looked at again after this.
const LOOK_AGAIN: Micros = Micros(5_000_000);
/// Somebody has been there for a while after this.
const STEADY: Micros = Micros(10_000_000);
/// A hand-over that has not come about is not tried again for so long.
const RELUCTANT: Micros = Micros(30_000_000);
