//! Asking members what they answer from memory, so that a dead one costs little.

use std::{sync::Arc, time::Duration};

use kontiki_wire::{Request, Response, TopicName};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    backoff::Backoff,
    connections::{Member, NoAnswer},
};

/// How long one member's answer is waited for before the next is asked as well.
pub(crate) const HEDGE_AFTER: Duration = Duration::from_millis(100);
/// How long a member may take for what it answers from memory; one that takes longer and gives no sign of life
/// meanwhile is taken for dead, and its connections set aside.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_millis(600);
/// Between two probes for the successor of a silent leader: quick for as long as an election takes,
/// then ever slower, because then many clients ask and members have other things to do.
pub(crate) const PROBES: Backoff =
    Backoff::new(Duration::from_millis(40), Duration::from_secs(1)).steady_for(12);
/// How long one probe may take, dialling included.
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);

/// Asks what a member answers from memory. A refusal that may be none elsewhere is no answer.
pub(crate) async fn ask(
    member: &Member,
    request: &Request,
    deadline: Instant,
) -> Result<Response, NoAnswer> {
    match member.ask(request, ANSWER_TIME_MAX, deadline).await? {
        Response::Refused(refusal) if refusal.is_retryable() => {
            Err(NoAnswer::new(format_args!("{}: {refusal}", member.name())))
        }
        response => Ok(response),
    }
}

/// Asks one member after the other, the next whenever the last has not answered for a moment or has
/// failed. The first answer counts.
pub(crate) async fn ask_hedged(
    members: Vec<Arc<Member>>,
    request: &Request,
    deadline: Instant,
) -> Result<Response, NoAnswer> {
    let mut waiting = members.into_iter();
    let mut asked = JoinSet::new();
    let mut last = NoAnswer::new("no member is known");
    loop {
        if let Some(member) = waiting.next() {
            let request = request.clone();
            asked.spawn(async move { ask(&member, &request, deadline).await });
        } else if asked.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(answer) = asked.join_next() => match answer {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(why)) => last = why,
                Err(why) => last = NoAnswer::new(why),
            },
            () = sleep(HEDGE_AFTER) => {}
        }
    }
}

/// Somebody waits in vain for what a member owes: finds out apart from that whether it lives.
pub(crate) fn examine(member: &Arc<Member>, topic: &TopicName) {
    if !member.suspect() {
        return;
    }
    let (member, name) = (Arc::clone(member), topic.clone());
    tokio::spawn(async move {
        let deadline = Instant::now() + PROBE_TIME_MAX;
        let request = Request::Topic { name };
        // That it does not answer is noted by whom it was asked.
        let _ = member.ask(&request, ANSWER_TIME_MAX, deadline).await;
        member.was_examined();
    });
}

/// Asks a member until it names a leader that is not the silent one. The silent one is asked too. Says so if it
/// cannot know, and others have to be asked.
pub(crate) async fn probe(
    member: Arc<Member>,
    topic: TopicName,
    silent: String,
    ask_others: watch::Sender<bool>,
) -> String {
    let request = Request::Topic { name: topic };
    let mut probes = PROBES;
    loop {
        let next = Instant::now() + probes.delay();
        let deadline = Instant::now() + PROBE_TIME_MAX;
        let keeps = match ask(&member, &request, deadline).await {
            Ok(Response::Topic(info)) => {
                if let Some(leader) = info.leader.filter(|leader| *leader != silent) {
                    return leader;
                }
                info.replicas
                    .iter()
                    .any(|keeper| **keeper == **member.name())
            }
            _ => false,
        };
        if !keeps && **member.name() != *silent {
            ask_others.send_replace(true);
        }
        sleep_until(next).await;
    }
}

/// Why a response is not the answer to what was asked.
pub(crate) fn unexpected(response: &Response) -> NoAnswer {
    match response {
        Response::Refused(refusal) => NoAnswer::new(refusal),
        _ => NoAnswer::new("a member gave an answer to another question"),
    }
}
