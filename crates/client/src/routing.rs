//! Whom to ask: the members, who leads which topic, and asking in such a way that a dead member
//! costs little. What a member says of a leader is a hint; the leader itself has the last word.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kontiki_transport::Expect;
use kontiki_wire::{
    ClusterId, MemberInfo, Refusal, Request, Response, TopicInfo, TopicName, TopicSettings,
    Turnover, limits::TOPICS_MAX,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    asking::{ANSWER_TIME_MAX, HEDGE_AFTER, PROBES, ask, ask_hedged, probe, unexpected},
    backoff::{Backoff, shuffle},
    connections::{Member, NoAnswer, dial},
    dialler::Dialler,
};

/// How long a member may take for what the cluster has to agree on.
const AGREE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a topic may be without a leader before one makes do with what the others know.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of asking everybody.
const ROUNDS: Backoff = Backoff::new(Duration::from_millis(30), Duration::from_millis(500));
/// How long members that are connected may take to name a leader before the others are dialled.
const FAR_AFTER: Duration = Duration::from_millis(250);
/// How long a freshly made topic may be unknown to some members.
const UNKNOWN_TOPIC_GRACE: Duration = Duration::from_millis(300);

/// Why there is no way to a topic.
#[derive(Clone, Debug)]
pub(crate) enum NoRoute {
    /// Nobody knows the topic.
    NoSuchTopic,
    /// The certificate does not permit it.
    NotPermitted(Arc<str>),
    /// The client was closed.
    Closed,
    /// Nobody who could says so before the deadline.
    NoAnswer(NoAnswer),
}

impl NoRoute {
    /// A member answered with a refusal, or with what was not asked.
    pub(crate) fn refused(response: &Response) -> Self {
        match response {
            Response::Refused(Refusal::NoSuchTopic { .. }) => Self::NoSuchTopic,
            Response::Refused(Refusal::NotPermitted { what }) => {
                Self::NotPermitted(what.as_str().into())
            }
            other => Self::NoAnswer(unexpected(other)),
        }
    }
}

/// What all handles of a client know of the cluster.
pub(crate) struct Routing {
    dialler: Dialler,
    cluster: ClusterId,
    seeds: Vec<String>,
    known: Mutex<Known>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Known {
    members: BTreeMap<String, Arc<Member>>,
    infos: Vec<MemberInfo>,
    auto_create: bool,
    /// What a member has told last of authorities that take the place of others.
    turnover: Option<Turnover>,
    /// The latest life of the cluster that a member has told of.
    epoch: Option<u64>,
    routes: HashMap<TopicName, Arc<Route>>,
}

/// What is known of one topic's leader.
#[derive(Default)]
struct Route {
    leader: Mutex<Option<String>>,
    /// Held by the one who probes; the others wait for what it finds.
    probing: tokio::sync::Mutex<()>,
}

impl Route {
    fn leader(&self) -> Option<String> {
        lock(&self.leader).clone()
    }
}

/// What `Metadata` and `Topics` say.
pub(crate) struct Metadata {
    pub(crate) members: Vec<MemberInfo>,
    pub(crate) topics: Vec<TopicInfo>,
}

impl Routing {
    pub(crate) fn new(dialler: Dialler, cluster: ClusterId, seeds: Vec<String>) -> Self {
        Self {
            dialler,
            cluster,
            seeds,
            known: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends all connections; from now on there is no route anywhere.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.dialler.endpoint.close("the client is done").await;
    }

    pub(crate) fn auto_create(&self) -> bool {
        lock(&self.known).auto_create
    }

    /// What a member has told last of authorities that take the place of others.
    pub(crate) fn turnover(&self) -> Option<Turnover> {
        lock(&self.known).turnover
    }

    /// The authorities that members' certificates chain to now, as PEM.
    pub(crate) fn node_roots_pem(&self) -> String {
        let credentials = self.dialler.endpoint.credentials();
        let credentials = credentials.borrow();
        credentials.node_roots_pem()
    }

    /// The latest life of the cluster that a member has told of.
    pub(crate) fn epoch(&self) -> Option<u64> {
        lock(&self.known).epoch
    }

    fn lives(&self, info: &TopicInfo) {
        let mut known = lock(&self.known);
        known.epoch = known.epoch.max(Some(info.epoch));
    }

    pub(crate) fn member(&self, name: &str) -> Option<Arc<Member>> {
        lock(&self.known).members.get(name).cloned()
    }

    /// All known members in random order, those first that are connected and give no cause for doubt.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<_> = lock(&self.known).members.values().cloned().collect();
        shuffle(&mut members);
        members.sort_by_key(|member| !member.is_well());
        members
    }

    /// Asks any member for the members, and takes note.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<(), NoRoute> {
        let mut response = self.ask_in_rounds(&Request::Members, deadline).await?;
        if is_of_earlier_build(&response) {
            response = self.ask_in_rounds(&Request::Metadata, deadline).await?;
        }
        self.note(response).map_err(NoRoute::NoAnswer)?;
        Ok(())
    }

    /// Members and topics as any member knows them.
    pub(crate) async fn metadata(&self, deadline: Instant) -> Result<Metadata, NoRoute> {
        let response = self.ask_in_rounds(&Request::Metadata, deadline).await?;
        self.note(response).map_err(NoRoute::NoAnswer)
    }

    /// Members and topics as the leader of the cluster's own group knows them, confirmed by a quorum:
    /// every topic that was made by now is among them.
    pub(crate) async fn topics(&self, deadline: Instant) -> Result<Metadata, NoRoute> {
        let response = self.ask_any(&Request::Topics, deadline).await?;
        self.note(response).map_err(NoRoute::NoAnswer)
    }

    fn note(&self, response: Response) -> Result<Metadata, NoAnswer> {
        let Response::Metadata {
            cluster,
            members,
            topics,
            auto_create,
            turnover,
        } = response
        else {
            return Err(unexpected(&response));
        };
        if cluster != self.cluster {
            return Err(NoAnswer::new(format_args!(
                "a member says that its cluster is {cluster}, its certificate that it is {}",
                self.cluster
            )));
        }
        let mut known = lock(&self.known);
        known.auto_create = auto_create;
        known.turnover = turnover;
        known
            .members
            .retain(|name, _| members.iter().any(|info| info.name == *name));
        for info in &members {
            let member = known
                .members
                .entry(info.name.clone())
                .or_insert_with(|| Arc::new(Member::new(&info.name, self.dialler.clone())));
            member.found_at(&info.address, true);
        }
        known.infos.clone_from(&members);
        Ok(Metadata { members, topics })
    }

    /// Makes sure that the members have been asked for once.
    async fn know_members(&self, deadline: Instant) -> Result<(), NoRoute> {
        if lock(&self.known).infos.is_empty() {
            self.refresh(deadline).await?;
        }
        Ok(())
    }

    /// Asks any member, the next one too whenever the last has not answered for a moment, in rounds
    /// until the deadline. What a member cannot answer now is asked elsewhere.
    pub(crate) async fn ask_any(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, NoRoute> {
        self.know_members(deadline).await?;
        self.ask_in_rounds(request, deadline).await
    }

    async fn ask_in_rounds(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, NoRoute> {
        let mut rounds = ROUNDS;
        let mut last = NoAnswer::new("no member answers");
        loop {
            if self.is_closed() {
                return Err(NoRoute::Closed);
            }
            match timeout_at(deadline, self.ask_round(request, deadline)).await {
                Ok(Ok(response)) => return Ok(response),
                // Who never reached a member is not at the right place, or is not who may be there.
                Ok(Err(why)) if why.strangers && self.members().is_empty() => {
                    return Err(NoRoute::NoAnswer(why));
                }
                Ok(Err(why)) => last = why,
                // The round that the deadline cuts short knows less than the one before it.
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(NoRoute::NoAnswer(last));
            }
            rounds.wait(deadline).await;
        }
    }

    async fn ask_round(&self, request: &Request, deadline: Instant) -> Result<Response, NoAnswer> {
        match ask_hedged(self.members(), request, deadline).await {
            Ok(response) => Ok(response),
            // Who is slow is no quicker when dialled by address.
            Err(why) if self.members().iter().any(|member| member.lives()) => Err(why),
            // They may all have moved, or none was ever known.
            Err(_) => {
                let member = self.find_by_address(deadline).await?;
                ask(&member, request, deadline).await
            }
        }
    }

    /// Reaches whoever is at one of the addresses the user gave, and asks it for the others.
    async fn find_by_address(&self, deadline: Instant) -> Result<Arc<Member>, NoAnswer> {
        let mut seeds = self.seeds.clone();
        shuffle(&mut seeds);
        let link = dial(&self.dialler, &seeds, &Expect::AnyNode, deadline).await?;
        let member = Arc::new(Member::new(link.member(), self.dialler.clone()));
        member.found_at(&link.address(), false);
        member.adopt(link);
        let mut members = ask(&member, &Request::Members, deadline).await?;
        if is_of_earlier_build(&members) {
            members = ask(&member, &Request::Metadata, deadline).await?;
        }
        let mut known = lock(&self.known);
        // So that the connection is kept if the member says that it is one.
        known
            .members
            .insert(member.name().to_string(), Arc::clone(&member));
        drop(known);
        self.note(members)?;
        Ok(member)
    }

    /// Asks one request of every member at once, each within `time`; answers come in any order.
    pub(crate) async fn ask_all(
        &self,
        request: &Request,
        time: Duration,
    ) -> Vec<(Arc<Member>, Result<Response, NoAnswer>)> {
        let deadline = Instant::now() + time;
        let mut asked = JoinSet::new();
        for member in self.members() {
            let request = request.clone();
            asked.spawn(async move {
                let answer = member.ask(&request, time, deadline).await;
                (member, answer)
            });
        }
        let mut answers = Vec::with_capacity(asked.len());
        while let Some(answer) = asked.join_next().await {
            answers.extend(answer);
        }
        answers
    }

    /// The member that is believed to lead a topic.
    pub(crate) async fn leader(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<Arc<Member>, NoRoute> {
        let route = self.route(topic);
        let mut rounds = PROBES;
        loop {
            if route.leader().is_none()
                && let Some(leader) = self.named_leader(topic, deadline).await?
            {
                self.hint(topic, &leader);
            }
            if let Some(name) = route.leader() {
                match self.find(&name, deadline).await? {
                    Some(member) => return Ok(member),
                    None => self.doubt(topic, &name),
                }
            }
            if Instant::now() >= deadline {
                let why = "the topic has no leader at the moment";
                return Err(NoRoute::NoAnswer(NoAnswer::new(why)));
            }
            rounds.wait(deadline).await;
        }
    }

    /// Who is said to lead a topic. A member that does not keep it knows no more than who does.
    async fn named_leader(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<Option<String>, NoRoute> {
        let info = self.topic(topic, deadline).await?;
        if info.leader.is_some() {
            return Ok(info.leader);
        }
        let request = Request::Topic {
            name: topic.clone(),
        };
        let mut asked = JoinSet::new();
        for keeper in self.find_all(&info.replicas, deadline).await {
            let (request, route) = (request.clone(), self.route(topic));
            asked.spawn(async move {
                match ask(&keeper, &request, deadline).await {
                    Ok(Response::Topic(info)) => {
                        // Whoever waited may look again by now, and finds it there.
                        let mut known = lock(&route.leader);
                        *known = known.take().or_else(|| info.leader.clone());
                        info.leader
                    }
                    _ => None,
                }
            });
        }
        // The next round comes soon: one that is silent holds nobody up.
        let until = deadline.min(Instant::now() + HEDGE_AFTER);
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            if let Ok(Some(leader)) = answer {
                return Ok(Some(leader));
            }
        }
        asked.detach_all();
        Ok(None)
    }

    /// The member of this name, asking for the members anew if it is not known.
    async fn find(&self, name: &str, deadline: Instant) -> Result<Option<Arc<Member>>, NoRoute> {
        if let Some(member) = self.member(name) {
            return Ok(Some(member));
        }
        self.refresh(deadline).await?;
        Ok(self.member(name))
    }

    /// Those of these members that are known, asking for the members anew if any is not.
    pub(crate) async fn find_all(&self, names: &[String], deadline: Instant) -> Vec<Arc<Member>> {
        let known = || names.iter().filter_map(|name| self.member(name)).collect();
        let members: Vec<_> = known();
        if members.len() == names.len() || self.refresh(deadline).await.is_err() {
            return members;
        }
        known()
    }

    /// Some member has named the leader of a topic.
    pub(crate) fn hint(&self, topic: &TopicName, leader: &str) {
        *lock(&self.route(topic).leader) = Some(leader.to_owned());
    }

    /// This member does not lead the topic, or does not answer: forget that it was thought to.
    pub(crate) fn doubt(&self, topic: &TopicName, member: &str) {
        let route = self.route(topic);
        let mut leader = lock(&route.leader);
        if leader.as_deref() == Some(member) {
            *leader = None;
        }
    }

    fn route(&self, topic: &TopicName) -> Arc<Route> {
        let mut known = lock(&self.known);
        if known.routes.len() >= TOPICS_MAX && !known.routes.contains_key(topic) {
            known.routes.clear();
        }
        Arc::clone(known.routes.entry(topic.clone()).or_default())
    }

    /// A topic as any member knows it. Only when all who answer have not heard of it for a while is
    /// there none.
    pub(crate) async fn topic(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<TopicInfo, NoRoute> {
        let request = Request::Topic {
            name: topic.clone(),
        };
        let grace = deadline.min(Instant::now() + UNKNOWN_TOPIC_GRACE);
        let mut rounds = ROUNDS;
        loop {
            match self.ask_any(&request, deadline).await? {
                Response::Topic(info) => {
                    self.lives(&info);
                    return Ok(info);
                }
                Response::Refused(Refusal::NoSuchTopic { .. }) => {
                    if let Some(info) = self.topic_of_most(&request).await {
                        return Ok(info);
                    }
                    // Whether topics are made on first use may have changed.
                    self.refresh(deadline).await?;
                    if Instant::now() >= grace || self.auto_create() {
                        return Err(NoRoute::NoSuchTopic);
                    }
                    rounds.wait(grace).await;
                }
                other => return Err(NoRoute::refused(&other)),
            }
        }
    }

    /// A topic as the member knows it that is furthest ahead.
    async fn topic_of_most(&self, request: &Request) -> Option<TopicInfo> {
        let answers = self.ask_all(request, ANSWER_TIME_MAX).await;
        answers
            .into_iter()
            .filter_map(|(_, answer)| match answer {
                Ok(Response::Topic(info)) => Some(info),
                _ => None,
            })
            .max_by_key(|info| info.next)
    }

    /// Asks the leader of a topic, or if it does not answer any member.
    pub(crate) async fn ask_leader_or_any(
        &self,
        topic: &TopicName,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, NoRoute> {
        let leader = self.route(topic).leader();
        if let Some(member) = leader.and_then(|name| self.member(&name)) {
            let soon = deadline.min(Instant::now() + ANSWER_TIME_MAX);
            if let Ok(response) = ask(&member, request, soon).await {
                return Ok(response);
            }
        }
        self.ask_any(request, deadline).await
    }

    /// A topic as its leader knows it, confirmed by a quorum: its end is as new as any acknowledgement.
    /// If nobody leads it for longer than an election takes, as the member that is furthest ahead knows
    /// it, and then without a leader.
    pub(crate) async fn topic_at_leader(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<TopicInfo, NoRoute> {
        let patience = deadline.min(Instant::now() + LEADER_PATIENCE);
        let (mut info, confirmed) = self.topic_within(topic, patience, deadline).await?;
        if !confirmed {
            info.leader = None;
        }
        Ok(info)
    }

    /// A topic as its leader knows it, confirmed by a quorum, or nothing.
    pub(crate) async fn topic_confirmed(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<TopicInfo, NoRoute> {
        match self.topic_within(topic, deadline, deadline).await? {
            (info, true) => Ok(info),
            _ => Err(NoRoute::NoAnswer(NoAnswer::new("nobody leads the topic"))),
        }
    }

    /// A topic, once its leader has answered or patience is at its end, and whether it was the leader.
    async fn topic_within(
        &self,
        topic: &TopicName,
        patience: Instant,
        deadline: Instant,
    ) -> Result<(TopicInfo, bool), NoRoute> {
        let mut rounds = ROUNDS;
        let mut known = self.topic_once(topic, deadline).await?;
        while !known.1 && Instant::now() < patience {
            tokio::time::sleep(rounds.delay()).await;
            known = match self.topic_once(topic, deadline).await {
                // The deadline cut this round short, and the one before has told what there is to know.
                Err(NoRoute::NoAnswer(_)) => known,
                told => told?,
            };
        }
        Ok(known)
    }

    /// One try at the above, and whether it was the leader that answered.
    async fn topic_once(
        &self,
        topic: &TopicName,
        deadline: Instant,
    ) -> Result<(TopicInfo, bool), NoRoute> {
        let request = Request::Topic {
            name: topic.clone(),
        };
        let mut info = self.topic(topic, deadline).await?;
        if info.leader.is_none() {
            info = self.topic_of_most(&request).await.unwrap_or(info);
        }
        let Some(leader) = info.leader.clone() else {
            return Ok((info, false));
        };
        self.hint(topic, &leader);
        let Some(member) = self.find(&leader, deadline).await? else {
            return Ok((info, false));
        };
        let deadline = deadline.min(Instant::now() + ANSWER_TIME_MAX);
        match ask(&member, &request, deadline).await {
            Ok(Response::Topic(at_leader)) => {
                let leads = at_leader.leader.as_ref() == Some(&leader);
                Ok((at_leader, leads))
            }
            _ => Ok((self.topic_of_most(&request).await.unwrap_or(info), false)),
        }
    }

    /// Looks for another leader of a topic while `silent` owes an answer, and returns when somebody
    /// has named one. Of all who look for the same, one asks. Members that are not connected are dialled where those
    /// that are, the silent one apart, do not keep the topic or have not named a leader for a while: often one is
    /// silent because all have much to do.
    pub(crate) async fn successor(&self, topic: &TopicName, silent: &str) {
        let route = self.route(topic);
        let _probing = route.probing.lock().await;
        if route.leader().is_some_and(|leader| leader != silent) {
            return;
        }
        let members = self.members();
        let is_near = |member: &Arc<Member>| member.lives() && **member.name() != *silent;
        let ask_far = watch::Sender::new(!members.iter().any(is_near));
        let mut probes = JoinSet::new();
        for member in members {
            let is_far = !member.lives();
            let mut far = ask_far.subscribe();
            let (topic, silent, ask_far) = (topic.clone(), silent.to_owned(), ask_far.clone());
            probes.spawn(async move {
                if is_far {
                    // Whether it was said or has taken too long is the same.
                    let _ = timeout(FAR_AFTER, far.wait_for(|far| *far)).await;
                }
                probe(member, topic, silent, ask_far).await
            });
        }
        while let Some(found) = probes.join_next().await {
            if let Ok(leader) = found {
                self.hint(topic, &leader);
                return;
            }
        }
        // Without a member to ask there is nothing to find.
        std::future::pending().await
    }

    /// Makes a topic unless there is one.
    pub(crate) async fn ensure_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
        deadline: Instant,
    ) -> Result<(), NoRoute> {
        let request = Request::CreateTopic {
            name: name.clone(),
            settings,
        };
        let (response, _) = self
            .ask_leader(None, &request, deadline)
            .await
            .map_err(|unanswered| unanswered.why)?;
        match response {
            Response::Topic(info) | Response::Exists(info) => {
                self.lives(&info);
                if let Some(leader) = info.leader {
                    self.hint(name, &leader);
                }
                Ok(())
            }
            other => Err(NoRoute::refused(&other)),
        }
    }

    /// Asks what only the leader of a topic, or of the cluster's own group, can answer: one member at
    /// a time, following hints. Also says whether an earlier attempt may have been done unheard.
    pub(crate) async fn ask_leader(
        &self,
        topic: Option<&TopicName>,
        request: &Request,
        deadline: Instant,
    ) -> Result<(Response, bool), Unanswered> {
        let mut rounds = ROUNDS;
        let mut hint = topic.and_then(|topic| self.route(topic).leader());
        let mut maybe_done = false;
        loop {
            if let (None, Some(topic)) = (&hint, topic) {
                // Whether there is such a topic is for a member to say.
                hint = self.named_leader(topic, deadline).await.ok().flatten();
            }
            let member = self.hinted_or_any(hint.take(), deadline).await;
            let member = member.map_err(|why| Unanswered { why, maybe_done })?;
            let last = match member.ask(request, AGREE_TIME_MAX, deadline).await {
                Ok(Response::Refused(Refusal::NotLeader { leader: Some(name) }))
                    if name != **member.name() =>
                {
                    hint = Some(name);
                    NoAnswer::new("the leader changes")
                }
                Ok(Response::Refused(refusal)) if refusal.is_retryable() => {
                    maybe_done |= !refusal.certainly_nothing_happened();
                    NoAnswer::new(format_args!("{}: {refusal}", member.name()))
                }
                Ok(response) => return Ok((response, maybe_done)),
                Err(why) => {
                    maybe_done |= why.sent;
                    why
                }
            };
            if Instant::now() >= deadline {
                return Err(Unanswered {
                    why: NoRoute::NoAnswer(last),
                    maybe_done,
                });
            }
            rounds.wait(deadline).await;
        }
    }

    async fn hinted_or_any(
        &self,
        hint: Option<String>,
        deadline: Instant,
    ) -> Result<Arc<Member>, NoRoute> {
        if let Some(name) = hint
            && let Some(member) = self.find(&name, deadline).await?
        {
            return Ok(member);
        }
        self.refresh(deadline).await?;
        self.members()
            .into_iter()
            .next()
            .ok_or_else(|| NoRoute::NoAnswer(NoAnswer::new("the cluster has no member")))
    }
}

/// Whether a member does not know the question that was asked: it has no shorter answer than that to `Metadata`.
fn is_of_earlier_build(response: &Response) -> bool {
    matches!(response, Response::Refused(Refusal::Malformed { .. }))
}

/// A request that only a leader answers has no answer.
pub(crate) struct Unanswered {
    pub(crate) why: NoRoute,
    /// Whether an attempt may have been done all the same.
    pub(crate) maybe_done: bool,
}

/// Nothing that is done under these locks can leave things half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
