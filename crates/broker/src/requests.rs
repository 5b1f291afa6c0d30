//! Requests of the control plane: answered from what this node knows, or carried through the log.

use kontiki_raft::{NodeId, ReadId};
use kontiki_wire::{
    ClusterCommand, ClusterState, GroupId, Member, Refusal, Request, Response, Standing, Token,
    Topic, TopicInfo, TopicName, TopicSettings,
    limits::{CONTROL_BYTES_MAX, TOPICS_MAX},
};

use crate::{
    broker::Broker,
    catalogue::{check_settings, too_many_topics},
    cluster::no_such_topic,
    homes::{Homes, LATE_AFTER, answers},
    input::{Now, Ticket},
    placement::Placement,
    planted::{Planted, plants},
    tickets::Sought,
};

/// What a request comes to now.
#[allow(
    clippy::large_enum_variant,
    reason = "it is handed on once, and kept nowhere"
)]
enum Outcome {
    Answered(Response),
    /// The ticket was left where its answer will be found.
    Waits,
}

/// Where a member goes whose copies may be missed.
#[derive(Clone, Copy)]
enum Going {
    /// It stays a member, and may take them again.
    Aside,
    /// It is a member no more; another may have come to take its place.
    ForGood { with: Option<u64> },
}

impl Broker {
    /// Takes a request.
    pub(crate) fn request(&mut self, now: Now, ticket: Ticket, request: Request) {
        self.check(|broker| broker.tickets.open(ticket));
        let outcome = match request {
            _ if self.tickets.count() > TICKETS_MAX => Err(Refusal::Busy),
            Request::Metadata => Ok(Outcome::Answered(self.metadata())),
            Request::Members => Ok(Outcome::Answered(self.members_alone())),
            Request::Topic { name } => self.describe(now, ticket, name),
            Request::Topics => self.list(now, ticket, Sought::Topics),
            Request::Status => Ok(Outcome::Answered(Response::Status(self.status(now)))),
            Request::CreateTopic { name, settings } => self.create(now, ticket, name, settings),
            Request::DeleteTopic { name } => self.delete(now, ticket, name),
            Request::TransferLeader { topic, to } => self.transfer(now, ticket, topic, &to),
            Request::EditTopic { name, settings } => self.edit(now, ticket, &name, settings),
            Request::RemoveMember { name, force } => {
                self.remove_member(now, ticket, &name, None, force)
            }
            Request::ReplaceMember { name, with, force } => {
                self.remove_member(now, ticket, &name, Some(&with), force)
            }
            Request::SetStanding {
                name,
                standing,
                force,
            } => self.stand(now, ticket, &name, standing, force),
            Request::SetBalance { on } => {
                self.command(now, ticket, &ClusterCommand::SetBalance { on }, None)
            }
            Request::CreateToken(spec) => {
                self.command(now, ticket, &ClusterCommand::CreateToken(spec), None)
            }
            Request::RevokeToken { id } => {
                self.command(now, ticket, &ClusterCommand::RevokeToken { id }, None)
            }
            Request::Tokens => self.list(now, ticket, Sought::Tokens),
            Request::Finalize => self.finalize(now, ticket),
            Request::Recoveries => self.list(now, ticket, Sought::Recoveries),
            Request::Trust => self.list(now, ticket, Sought::Trust),
            Request::Revoke(whom) => self.command(now, ticket, &ClusterCommand::Revoke(whom), None),
            Request::Rotate(rotate) => {
                self.command(now, ticket, &ClusterCommand::Rotate(rotate), None)
            }
            // The log and its times are the host's; so is everything of a newer version.
            _ => Err(Refusal::Unavailable {
                why: "this is not answered by whoever decides".to_owned(),
            }),
        };
        self.come_to(ticket, outcome);
    }

    fn come_to(&mut self, ticket: Ticket, outcome: Result<Outcome, Refusal>) {
        let response = match outcome {
            Ok(Outcome::Waits) => return,
            Ok(Outcome::Answered(response)) => response,
            Err(refusal) => Response::Refused(refusal),
        };
        self.check(|broker| broker.tickets.answer(ticket, response, &mut broker.outbox));
    }

    pub(crate) fn metadata(&self) -> Response {
        let topics = self.cluster.state().topics.iter();
        self.metadata_of(topics.map(|topic| self.topic_info(topic)).collect())
    }

    fn members_alone(&self) -> Response {
        self.metadata_of(Vec::new())
    }

    fn metadata_of(&self, topics: Vec<TopicInfo>) -> Response {
        let state = self.cluster.state();
        Response::Metadata {
            cluster: self.settings.cluster,
            members: state.members.clone(),
            topics,
            auto_create: state.auto_create,
            turnover: state.trust.turnover(),
        }
    }

    /// A follower says what it knows. A leader is asked for the topic's end, which must be as new as
    /// any acknowledgement: it may have been deposed, or not know yet what its predecessor committed,
    /// so a quorum confirms it first (dissertation §6.4).
    fn describe(&mut self, now: Now, ticket: Ticket, name: TopicName) -> Result<Outcome, Refusal> {
        let Some(topic) = self.topic(&name) else {
            return Err(self.unheard_of(&name));
        };
        if self.lead(topic.group).is_err() {
            return Ok(Outcome::Answered(Response::Topic(topic)));
        }
        Ok(self.read(now, topic.group, Sought::Topic(name), ticket))
    }

    /// The list that a member has may lack what the others have agreed on while it was away. So only
    /// the leader answers, once a quorum has confirmed that it is the leader still.
    fn list(&mut self, now: Now, ticket: Ticket, sought: Sought) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        Ok(self.read(now, GroupId::CLUSTER, sought, ticket))
    }

    /// The tokens that had not expired when a command last looked.
    pub(crate) fn tokens(&self) -> Response {
        let tokens = self.cluster.state().tokens.iter();
        let good = tokens.filter(|token| !token.revoked);
        Response::Tokens(good.map(Token::info).collect())
    }

    fn read(&mut self, now: Now, group: GroupId, sought: Sought, ticket: Ticket) -> Outcome {
        let id = ReadId(self.next_proposal().0);
        self.tickets.wait_for_read(id, group, sought, Some(ticket));
        self.feed(now, group, kontiki_raft::Input::Read { id });
        Outcome::Waits
    }

    fn create(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: TopicName,
        settings: TopicSettings,
    ) -> Result<Outcome, Refusal> {
        if let Some(topic) = self.topic(&name)
            && !plants(Planted::CreateReplaces)
        {
            return Ok(Outcome::Answered(Response::Exists(topic)));
        }
        check_settings(&settings)?;
        if self.cluster.state().topics.len() >= TOPICS_MAX {
            return Err(too_many_topics());
        }
        if listed_bytes(self.cluster.state()) > LISTED_BYTES_MAX {
            return Err(Refusal::TooLarge {
                what: "the list of all topics with the names of their members".to_owned(),
                limit: LISTED_BYTES_MAX as u64,
            });
        }
        self.lead(GroupId::CLUSTER)?;
        let replicas = usize::from(settings.replicas);
        let members = self.homes(now.monotonic).for_newborn(replicas);
        let mut loads = self.cluster.loads().clone();
        self.tickets.add_to(&mut loads);
        let placement = loads.place(&members, replicas);
        let placement = placement.ok_or_else(|| Refusal::Unavailable {
            why: "the cluster has no member yet that keeps topics and has its own log".to_owned(),
        })?;
        let command = ClusterCommand::CreateTopic {
            name,
            settings,
            replicas: placement.replicas.clone(),
            preferred: placement.preferred,
        };
        self.command(now, ticket, &command, Some(placement))
    }

    fn delete(&mut self, now: Now, ticket: Ticket, name: TopicName) -> Result<Outcome, Refusal> {
        // Only the leader is sure to know the latest topics.
        self.lead(GroupId::CLUSTER)?;
        let group = self.group(&name).ok_or_else(|| no_such_topic(&name))?;
        let command = ClusterCommand::DeleteTopic { name, group };
        self.command(now, ticket, &command, None)
    }

    fn edit(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        check_settings(&settings)?;
        let group = self.group(name).ok_or_else(|| no_such_topic(name))?;
        let command = ClusterCommand::EditTopic { group, settings };
        self.command(now, ticket, &command, None)
    }

    fn remove_member(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &str,
        with: Option<&str>,
        force: bool,
    ) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        self.nobody_else_is_being_sent_away(now)?;
        let member = self.member_named(name)?;
        let with = with.map(|with| self.member_named(with)).transpose()?;
        self.cluster
            .spares(member)
            .map_err(|why| Refusal::Unfit { why })?;
        if !force {
            self.answers_without(now, member)?;
            let homes = self.homes(now.monotonic);
            if homes.would_miss(member) {
                self.has_homes_without(now, &homes, member, Going::ForGood { with })?;
            }
        }
        let command = ClusterCommand::SetStanding {
            member,
            standing: Standing::Leaving,
        };
        self.command(now, ticket, &command, None)
    }

    /// Refuses, for a moment, while another is being sent away, which is not applied yet: two that go at once
    /// would each be judged as if the other stayed. Of what was proposed in earlier terms nobody here knows
    /// until all of it is applied.
    fn nobody_else_is_being_sent_away(&self, now: Now) -> Result<(), Refusal> {
        let own = self.groups.get(&GroupId::CLUSTER);
        let term = own.map(|own| own.status(now.monotonic).term);
        let is_new = term.is_some_and(|term| term > self.cluster.applied().term);
        match is_new || self.tickets.sends_somebody_away() {
            true => Err(Refusal::Unavailable {
                why: "whether another member goes is being agreed on: try again in a moment"
                    .to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Refuses if too few of the members that would be left answer for them to go on at once.
    fn answers_without(&self, now: Now, leaver: u64) -> Result<(), Refusal> {
        let Some(group) = self.groups.get(&GroupId::CLUSTER) else {
            return Ok(());
        };
        let status = group.status(now.monotonic);
        let timeout = self.settings.raft.election_timeout;
        let heard = |id: NodeId| answers(&status, id.0, timeout);
        // Who is on the way out votes still, and is not counted on.
        let stays = |id: NodeId| self.cluster.standing(id.0).is_some_and(Standing::votes);
        let voters = status.config.voters.iter().map(|voter| voter.id);
        let left: Vec<NodeId> = voters.filter(|id| id.0 != leaver && stays(*id)).collect();
        let silent: Vec<String> = left
            .iter()
            .filter(|id| !heard(**id))
            .map(|id| self.cluster.name(*id))
            .collect();
        if left.is_empty() || (left.len() - silent.len()) * 2 > left.len() {
            return Ok(());
        }
        Err(Refusal::Unfit {
            why: format!(
                "without {} a majority of {} members would have to answer, and {} do not: bring \
                 them back first, or remove those that do not come back; to go on in spite of it (`--force`) is \
                 to risk that nothing can be agreed on until they do",
                self.cluster.name(NodeId(leaver)),
                left.len(),
                silent.join(", ")
            ),
        })
    }

    fn stand(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &str,
        standing: Standing,
        force: bool,
    ) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        if standing != Standing::Active {
            self.nobody_else_is_being_sent_away(now)?;
        }
        let member = self.member_named(name)?;
        let unfit = |why| Refusal::Unfit { why };
        if standing == Standing::Leaving {
            return Err(unfit("a member is removed, not told to leave".to_owned()));
        }
        if !standing.votes() {
            self.cluster.spares(member).map_err(unfit)?;
        }
        if !force {
            let homes = self.homes(now.monotonic);
            match standing {
                Standing::Active | Standing::Leaving => {}
                Standing::Draining => self.has_homes_without(now, &homes, member, Going::Aside)?,
                Standing::Demoted => {
                    self.answers_without(now, member)?;
                    self.has_homes_without(now, &homes, member, Going::Aside)?;
                }
            }
        }
        let command = ClusterCommand::SetStanding { member, standing };
        self.command(now, ticket, &command, None)
    }

    /// Refuses if nobody could take the topics of this member, or some would be kept by fewer than now, or than
    /// before the one came that takes its place.
    fn has_homes_without(
        &self,
        now: Now,
        homes: &Homes,
        member: u64,
        going: Going,
    ) -> Result<(), Refusal> {
        let kept = self.cluster.kept_by(member);
        if kept == 0 {
            return Ok(());
        }
        if homes.answering.iter().any(|home| *home != member) {
            return self.is_kept_by_as_many_without(now, homes, member, going);
        }
        let name = self.cluster.name(NodeId(member));
        Err(Refusal::Unfit {
            why: format!(
                "nobody else is active and answers who could take the topics that {name} keeps: bring another \
                 back or let one join first; to go on in spite of it (`--force`) is to have it wait until somebody \
                 comes, and topics stay where they are until then"
            ),
        })
    }

    /// Refuses if a topic of this member would be kept by fewer than now: one disk more that is lost might then be
    /// one too many, which nobody has asked for.
    fn is_kept_by_as_many_without(
        &self,
        now: Now,
        homes: &Homes,
        member: u64,
        going: Going,
    ) -> Result<(), Refusal> {
        let with = match going {
            Going::Aside => None,
            Going::ForGood { with } => with,
        };
        let topics = self.cluster.state().topics.iter();
        let kept = topics.filter(|topic| topic.replicas.contains(&member));
        let poorer = kept.filter_map(|topic| {
            let homes = self.homes_for(topic, homes);
            let (left, now) = homes.copies(topic, member, with);
            (left < now).then_some((topic, left, now))
        });
        let poorer: Vec<_> = poorer.collect();
        let Some((topic, left, now_kept)) = poorer.first() else {
            return Ok(());
        };
        let more = match poorer.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more with fewer than now"),
        };
        let (name, topic) = (self.cluster.name(NodeId(member)), &topic.name);
        let advice = self.advice(now, member, going);
        Err(Refusal::Unfit {
            why: format!(
                "without {name} topic {topic} would be kept by {left} in place of {now_kept} members{more}: {advice}, \
                 or say that fewer are enough (`kontiki topic edit {topic} --replicas {left}`); to go on in spite of \
                 it (`--force`) is to do with fewer copies until somebody comes"
            ),
        })
    }

    /// What to do first about copies that would be missed.
    fn advice(&self, now: Now, member: u64, going: Going) -> String {
        let name = self.cluster.name(NodeId(member));
        let done = match going {
            Going::Aside => return "let another join or bring one back first".to_owned(),
            Going::ForGood { with: None } => format!(
                "let another join first, which can take its place (`kontiki member replace {name} --with NAME`), or \
                 bring one back"
            ),
            Going::ForGood { with: Some(with) } => format!(
                "{with} makes up for that only if it joined after {name} and answers; let another join first, or \
                 bring one back",
                with = self.cluster.name(NodeId(with))
            ),
        };
        if self.is_heard(now, member) {
            return done;
        }
        let patience = LATE_AFTER.0 / 1_000_000;
        format!(
            "{done}, or wait: {name} does not answer, and after {patience} s of silence is not missed"
        )
    }

    fn is_heard(&self, now: Now, member: u64) -> bool {
        let timeout = self.settings.raft.election_timeout;
        let group = self.groups.get(&GroupId::CLUSTER);
        group.is_some_and(|group| answers(&group.status(now.monotonic), member, timeout))
    }

    fn member_named(&self, name: &str) -> Result<u64, Refusal> {
        let member = self.cluster.member_named(name);
        member
            .map(|member| member.id)
            .ok_or_else(|| self.cluster.no_such_member(name))
    }

    fn finalize(&mut self, now: Now, ticket: Ticket) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        let command = self.finalizing()?;
        self.command(now, ticket, &command, None)
    }

    /// Proposes a command to the cluster's own group; the ticket is answered with its outcome.
    fn command(
        &mut self,
        now: Now,
        ticket: Ticket,
        command: &ClusterCommand,
        placement: Option<Placement>,
    ) -> Result<Outcome, Refusal> {
        self.lead(GroupId::CLUSTER)?;
        self.propose(now, command, Some(ticket), placement);
        Ok(Outcome::Waits)
    }

    fn transfer(
        &mut self,
        now: Now,
        ticket: Ticket,
        topic: Option<TopicName>,
        to: &str,
    ) -> Result<Outcome, Refusal> {
        let members = &self.cluster.state().members;
        let every: Vec<u64> = members.iter().map(|member| member.id).collect();
        let (group, candidates) = match &topic {
            None => (GroupId::CLUSTER, &every),
            Some(name) => {
                let topic = self.cluster.topic(name);
                let topic = topic.ok_or_else(|| no_such_topic(name))?;
                (topic.group, &topic.replicas)
            }
        };
        let target = self.cluster.member_named(to);
        let target = target.filter(|member: &&Member| candidates.contains(&member.id));
        let Some(target) = target.map(|member| NodeId(member.id)) else {
            let known = candidates.iter().map(|id| self.cluster.name(NodeId(*id)));
            return Err(Refusal::NoSuchMember {
                name: to.to_owned(),
                known: known.collect(),
            });
        };
        self.lead(group)?;
        match self.tickets.transfer_to(group) {
            None if target == self.settings.me.id => {
                // It leads because another one does not answer, maybe: now it is to.
                if group != GroupId::CLUSTER {
                    self.prefer(now, group, target);
                }
                return Ok(Outcome::Answered(Response::Done));
            }
            None => {
                self.tickets.wait_for_transfer(group, target, ticket);
                self.feed(now, group, kontiki_raft::Input::Transfer { to: target });
            }
            Some(same) if same == target => self.tickets.wait_for_transfer(group, target, ticket),
            Some(other) => {
                let why = format!("leadership is being handed to {}", self.cluster.name(other));
                return Err(Refusal::Unavailable { why });
            }
        }
        Ok(Outcome::Waits)
    }

    /// A topic that this node does not know. After a start its state is that of its last checkpoint,
    /// and which later commands are committed only a leader tells: until then nothing is certain.
    fn unheard_of(&self, name: &TopicName) -> Refusal {
        match self.lead(GroupId::CLUSTER) {
            Err(Refusal::NotLeader { leader: None }) => Refusal::Unavailable {
                why: "the cluster has no leader that is known here, and without one this member \
                      does not know every topic"
                    .to_owned(),
            },
            _ => no_such_topic(name),
        }
    }

    /// Refuses if this node does not lead the group.
    fn lead(&self, id: GroupId) -> Result<(), Refusal> {
        let leader = match self.groups.get(&id) {
            Some(group) if group.leads() => return Ok(()),
            Some(group) => group.other_leader().map(|leader| leader.id),
            None if self.mending.contains_key(&id) => None,
            None => {
                let topic = self.cluster.topic_of(id);
                topic.map(|topic| NodeId(topic.preferred))
            }
        };
        let leader = leader.map(|leader| self.cluster.name(leader));
        Err(Refusal::NotLeader { leader })
    }
}

/// What the answer to [`Request::Metadata`] takes at most. It must fit one response: without it nobody
/// can list topics.
fn listed_bytes(state: &ClusterState) -> usize {
    let names = state.members.iter().map(|member| member.name.len());
    let name_bytes = TEXT_HEAD_BYTES + names.max().unwrap_or(0);
    let topic_bytes = |topic: &Topic| {
        let names = topic.replicas.len() + 1;
        LISTED_TOPIC_BYTES + topic.name.as_str().len() + names * name_bytes
    };
    state.topics.iter().map(topic_bytes).sum()
}

/// More than a listed topic takes without names.
const LISTED_TOPIC_BYTES: usize = 64;
/// More than a text takes beside its bytes.
const TEXT_HEAD_BYTES: usize = 9;
/// Leaves room for the members, and for the topics that are being made at the moment.
const LISTED_BYTES_MAX: usize = CONTROL_BYTES_MAX - (256 << 10);

/// Requests that wait at once, for a command, a transfer or a quorum; their senders wait with them, so few do.
const TICKETS_MAX: usize = 1024;
