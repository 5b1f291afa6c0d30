//! Operators: they make and delete topics, hand leadership over and have members come, go and stand down, as the client's administration
//! does: whoever leads is looked for, and asked until there is an answer.

use kontiki_wire::{GroupId, Refusal, Request, Response, Standing, TopicName, TopicSettings};

use crate::{
    event::Event,
    growth::{Nerve, Newcomer},
    history::{OrderId, Ordered},
    pipe::{Asker, Up},
    plan,
    world::World,
};

/// A topic of the story.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) group: Option<GroupId>,
    /// Somebody has asked for it to be deleted.
    pub(crate) is_deleted: bool,
    /// What is done with it once it is there.
    pub(crate) plan: plan::Topic,
}

/// Something that is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    what: What,
    id: Option<OrderId>,
    turn: u32,
    hint: Option<usize>,
    until: u64,
    maybe_done: bool,
    pub(crate) is_done: bool,
}

#[derive(Clone, Debug)]
enum What {
    Make { topic: usize },
    Delete { topic: usize },
    Transfer { topic: Option<usize>, to: usize },
    Join(Newcomer),
    Remove { name: String, nerve: Nerve },
    Stand { name: String, standing: Standing },
    Balance { on: bool },
}

/// How long a member may take for what the cluster has to agree on.
const AGREE_TIME_MAX: u64 = 3_000_000;
/// Between two attempts.
const RETRY: u64 = 100_000;
/// How long an operator tries, unless it must be.
const PATIENCE: u64 = 8_000_000;

impl Order {
    /// Whether a refusal is not taken for an answer; the next attempt is with force.
    fn insists(&mut self) -> bool {
        let What::Remove { nerve, .. } = &mut self.what else {
            return false;
        };
        if *nerve != Nerve::Yields || self.maybe_done {
            *nerve = Nerve::Forces;
        }
        *nerve == Nerve::Forces
    }
}

impl World {
    /// Orders the topics that the plan has.
    pub(crate) fn make_first_topics(&mut self) {
        let plan = self.plan.clone();
        for topic in &plan.topics {
            self.order_topic(topic.clone(), u64::MAX);
        }
    }

    /// Orders a topic that is not there yet.
    pub(crate) fn order_topic(&mut self, plan: plan::Topic, until: u64) {
        let topic = self.topics.len();
        let name: TopicName = format!("t{topic}").parse().expect("a plain name");
        self.topics.push(Topic {
            name: name.clone(),
            group: None,
            is_deleted: false,
            plan,
        });
        let id = self.history.order(self.time(), name, false);
        self.order(What::Make { topic }, Some(id), until);
    }

    /// Orders another topic, for a while.
    pub(crate) fn order_another_topic(&mut self, plan: plan::Topic) {
        let until = self.now + PATIENCE;
        self.order_topic(plan, until);
    }

    /// Orders a topic that may be there already.
    pub(crate) fn order_topic_again(&mut self, topic: usize) {
        let name = self.topics[topic].name.clone();
        let id = self.history.order(self.time(), name, false);
        let until = self.now + PATIENCE;
        self.order(What::Make { topic }, Some(id), until);
    }

    /// Orders that a topic be deleted.
    pub(crate) fn delete_topic(&mut self, topic: usize) {
        self.topics[topic].is_deleted = true;
        let name = self.topics[topic].name.clone();
        let id = self.history.order(self.time(), name, true);
        let until = self.now + PATIENCE;
        self.order(What::Delete { topic }, Some(id), until);
    }

    /// Orders that a member lead a topic, or the cluster's own group.
    pub(crate) fn transfer(&mut self, topic: Option<usize>, to: usize) {
        let until = self.now + PATIENCE;
        self.order(What::Transfer { topic, to }, None, until);
    }

    /// Orders that somebody become a member, which takes as long as it takes.
    pub(crate) fn join(&mut self, newcomer: Newcomer) {
        self.order(What::Join(newcomer), None, u64::MAX);
    }

    /// Orders that a member leave.
    pub(crate) fn remove(&mut self, name: String, nerve: Nerve) {
        self.order(What::Remove { name, nerve }, None, u64::MAX);
    }

    /// Orders that a member keep topics and vote, or not.
    pub(crate) fn order_standing(&mut self, name: String, standing: Standing) {
        // What was taken away for a while is given back, however long that takes.
        let until = match standing {
            Standing::Active => u64::MAX,
            _ => self.now + PATIENCE,
        };
        self.order(What::Stand { name, standing }, None, until);
    }

    /// Orders that topics and leaderships be spread evenly, or not.
    pub(crate) fn order_balance(&mut self, on: bool) {
        let until = self.now + PATIENCE;
        self.order(What::Balance { on }, None, until);
    }

    /// Members that are to come.
    pub(crate) fn newcomers(&self) -> usize {
        let joins = |order: &&Order| !order.is_done && matches!(order.what, What::Join(_));
        self.orders.iter().filter(joins).count()
    }

    /// Whether somebody is to come by this name.
    pub(crate) fn awaits(&self, name: &str) -> bool {
        let comes = |what: &What| matches!(what, What::Join(newcomer) if newcomer.name() == name);
        self.orders
            .iter()
            .any(|order| !order.is_done && comes(&order.what))
    }

    /// Whether a member is told how to stand.
    pub(crate) fn tells(&self, name: &str) -> bool {
        let tells = |what: &What| matches!(what, What::Stand { name: whom, .. } if whom == name);
        self.orders
            .iter()
            .any(|order| !order.is_done && tells(&order.what))
    }

    /// Whether a member is told to leave, or to keep no topics.
    pub(crate) fn goes(&self, name: &str) -> bool {
        let goes = |what: &What| match what {
            What::Remove { name: whom, .. } => whom == name,
            What::Stand {
                name: whom,
                standing,
            } => whom == name && *standing != Standing::Active,
            _ => false,
        };
        self.orders
            .iter()
            .any(|order| !order.is_done && goes(&order.what))
    }

    /// Whether a member is told how to stand by an order before this one.
    fn waits_its_turn(&self, number: usize) -> bool {
        let What::Stand { name, .. } = &self.orders[number].what else {
            return false;
        };
        let tells = |what: &What| matches!(what, What::Stand { name: whom, .. } if whom == name);
        let mut before = self.orders[..number].iter();
        before.any(|order| !order.is_done && tells(&order.what))
    }

    /// Somebody who is to be a member was answered; whether it is one.
    fn join_answered(&mut self, number: usize, response: Response) -> bool {
        if let Response::Admitted(member) | Response::Member(member) = &response {
            self.admitted(member);
            return true;
        }
        let token = self.chance.next();
        let taken_back = match &self.orders[number].what {
            What::Join(newcomer) => self.cluster().is_some_and(|it| newcomer.is_taken_back(it)),
            _ => false,
        };
        // As whoever is removed is told to. The cluster lets the old disk in no more, late word or not.
        let anew = taken_back.then(|| self.chance.next());
        if let What::Join(newcomer) = &mut self.orders[number].what {
            newcomer.answered(&response, token);
            anew.into_iter().for_each(|mark| newcomer.begin_anew(mark));
        }
        if let Response::Refused(Refusal::NotLeader { leader: Some(name) }) = response {
            self.orders[number].hint = self.named(&name);
        }
        false
    }

    fn order(&mut self, what: What, id: Option<OrderId>, until: u64) {
        let order = self.orders.len();
        self.orders.push(Order {
            what,
            id,
            turn: 0,
            hint: None,
            until,
            maybe_done: false,
            is_done: false,
        });
        let turn = 0;
        self.plan_in(1_000, Event::Operator { order, turn });
    }

    /// Whether somebody has asked for this group's topic to be deleted.
    pub(crate) fn is_deleted(&self, group: GroupId) -> bool {
        let of_group = |topic: &&Topic| topic.group == Some(group);
        self.topics
            .iter()
            .find(of_group)
            .is_some_and(|topic| topic.is_deleted)
    }

    /// One attempt.
    pub(crate) fn give_order(&mut self, number: usize, turn: u32) {
        let order = &self.orders[number];
        if order.turn != turn || order.is_done {
            return;
        }
        if self.waits_its_turn(number) {
            let order = number;
            self.plan_in(RETRY, Event::Operator { order, turn });
            return;
        }
        let order = &mut self.orders[number];
        if self.now > order.until {
            let how = if order.maybe_done {
                Ordered::Unknown
            } else {
                Ordered::Failed
            };
            self.order_done(number, how);
            return;
        }
        order.turn += 1;
        let turn = order.turn;
        let hint = order.hint.take();
        let what = order.what.clone();
        let member = hint.unwrap_or_else(|| self.chance.below(self.members.len()));
        let asked = match what {
            What::Join(newcomer) => newcomer.asks(),
            What::Remove { name, nerve } => Up::Ask(Request::RemoveMember {
                name,
                force: nerve == Nerve::Forces,
            }),
            What::Stand { name, standing } => Up::Ask(Request::SetStanding {
                name,
                standing,
                // Who goes on in spite of a refusal bears what may come of it.
                force: false,
            }),
            What::Balance { on } => Up::Ask(Request::SetBalance { on }),
            What::Make { topic } => Up::Ask(Request::CreateTopic {
                name: self.topics[topic].name.clone(),
                settings: TopicSettings {
                    replicas: self.topics[topic].plan.replicas,
                },
            }),
            What::Delete { topic } => Up::Ask(Request::DeleteTopic {
                name: self.topics[topic].name.clone(),
            }),
            What::Transfer { topic, to } => Up::Ask(Request::TransferLeader {
                topic: topic.map(|topic| self.topics[topic].name.clone()),
                to: self.members[to].name.clone(),
            }),
        };
        let asker = Asker::Operator(number, turn);
        let pipe = self.question(asker, member, asked, AGREE_TIME_MAX);
        if pipe.is_none() {
            self.plan_in(
                RETRY,
                Event::Operator {
                    order: number,
                    turn,
                },
            );
        }
    }

    /// A member has answered, or has not.
    pub(crate) fn order_answered(&mut self, number: usize, turn: u32, response: Option<Response>) {
        let order = &mut self.orders[number];
        if order.turn != turn || order.is_done {
            return;
        }
        match response {
            None => order.maybe_done = true,
            Some(response) if matches!(order.what, What::Join(_)) => {
                if self.join_answered(number, response) {
                    self.order_done(number, Ordered::Existed(GroupId::CLUSTER));
                    return;
                }
            }
            Some(Response::Refused(refusal)) if refusal.is_retryable() => {
                order.maybe_done |= !refusal.certainly_nothing_happened();
                if let Refusal::NotLeader { leader: Some(name) } = refusal {
                    let hint = self.named(&name);
                    self.orders[number].hint = hint;
                }
            }
            // Who does not know whether an earlier attempt is under way goes on, too. With force it is refused while
            // too many others stand down.
            Some(Response::Refused(Refusal::Unfit { .. })) if order.insists() => {}
            Some(Response::Topic(info)) => {
                // An earlier attempt cannot have made it: then it would be there already.
                self.order_done(number, Ordered::Made(info.group));
                return;
            }
            Some(Response::Exists(info)) => {
                let how = if order.maybe_done {
                    Ordered::Made(info.group)
                } else {
                    Ordered::Existed(info.group)
                };
                self.order_done(number, how);
                return;
            }
            Some(Response::Done | Response::Member(_)) => {
                self.order_done(number, Ordered::Removed);
                return;
            }
            Some(Response::Refused(Refusal::NoSuchTopic { .. })) if order.maybe_done => {
                self.order_done(number, Ordered::Removed);
                return;
            }
            Some(response) => {
                let what = &order.what;
                self.trace
                    .tell(self.now, || format!("{what:?} is answered {response:?}"));
                let how = if order.maybe_done {
                    Ordered::Unknown
                } else {
                    Ordered::Failed
                };
                self.order_done(number, how);
                return;
            }
        }
        let delay = RETRY / 2 + self.chance.around(RETRY);
        self.plan_in(
            delay,
            Event::Operator {
                order: number,
                turn,
            },
        );
    }

    fn order_done(&mut self, number: usize, how: Ordered) {
        let at = self.time();
        let order = &mut self.orders[number];
        order.is_done = true;
        if let Some(id) = order.id {
            self.history.order_ended(at, id, how);
        }
        let what = order.what.clone();
        self.trace.tell(at.0, || format!("{what:?} is {how:?}"));
        if let (What::Make { topic }, Ordered::Made(group) | Ordered::Existed(group)) = (what, how)
        {
            self.begin_topic(topic, group);
        }
    }

    /// A topic is there: what is to be done with it begins.
    fn begin_topic(&mut self, topic: usize, group: GroupId) {
        let it = &mut self.topics[topic];
        if it.group.is_some() {
            return;
        }
        it.group = Some(group);
        let name = it.name.clone();
        let plan = it.plan.clone();
        for load in plan.producers {
            self.produce(name.clone(), group, load);
        }
        for _ in 0..plan.consumers {
            self.consume(name.clone(), group);
        }
        for _ in 0..plan.readers {
            self.read_tail(name.clone(), group);
        }
    }
}
