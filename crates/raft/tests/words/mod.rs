//! How messages, entries and effects are said: one terse line each, in the field's words.

use kontiki_raft::{
    Body, ChangeEnd, ChangeRefused, Committed, Effect, Entry, Fate, Kind, Life, LogId, Membership,
    Message, Micros, NodeRef, Persist, Refused, Role, Status,
};

/// The first word of a message, by which a story picks it.
pub(crate) fn kind(message: &Message) -> &'static str {
    match message.body {
        Body::PreVote { .. } => "pre-vote",
        Body::PreVoteReply { .. } => "pre-vote-reply",
        Body::Vote { .. } => "vote",
        Body::VoteReply { .. } => "vote-reply",
        Body::Append { .. } => "append",
        Body::Appended { .. } => "appended",
        Body::AppendRejected { .. } => "rejected",
        Body::Beat { .. } => "beat",
        Body::BeatReply { .. } => "beat-reply",
        Body::Rest { .. } => "rest",
        Body::Resting { .. } => "resting",
        Body::TimeoutNow { .. } => "timeout-now",
        Body::Rejoin { .. } => "rejoin",
        Body::RejoinAt { .. } => "rejoin-at",
        Body::Removed { .. } => "removed",
        Body::Fetch { .. } => "fetch",
        Body::Fetching { .. } => "fetching",
        Body::Vouched { .. } => "vouched",
    }
}

/// A message.
pub(crate) fn message(message: &Message) -> String {
    let (kind, term) = (kind(message), message.term);
    let yes = |granted: bool| if granted { "yes" } else { "no" };
    let rest = match &message.body {
        Body::PreVote { round, last } => format!("round {round} log {last}"),
        Body::PreVoteReply { round, granted } => format!("round {round} {}", yes(*granted)),
        Body::Vote { last, transfer } => {
            let transfer = if *transfer { " transfer" } else { "" };
            format!("log {last}{transfer}")
        }
        Body::VoteReply { granted } => yes(*granted).to_owned(),
        Body::Append { head, entries } => {
            let (session, prev, commit) = (head.session.0, head.prev, head.commit);
            format!("s{session} prev {prev} commit {commit} [{}]", list(entries))
        }
        Body::Appended {
            session,
            matched,
            counts,
        } => {
            let counts = if *counts { "" } else { " not counting" };
            format!("s{} matched {matched}{counts}", session.0)
        }
        Body::AppendRejected {
            session,
            prev,
            hint,
        } => format!("s{} prev {prev} hint {hint}", session.0),
        Body::Beat { beat, commit } | Body::Rest { beat, commit } => {
            format!("#{beat} commit {commit}")
        }
        Body::BeatReply { beat } | Body::Resting { beat } => format!("#{beat}"),
        Body::TimeoutNow { need } => format!("need {need}"),
        Body::Rejoin { life } => format!("life {}", brief(*life)),
        Body::RejoinAt { life, index } => format!("life {} after {index}", brief(*life)),
        Body::Removed { upto } => format!("as of {upto}"),
        Body::Fetch { session, upto } => format!("s{} up to {upto}", session.0),
        Body::Fetching { session, arrived } => format!("s{} has {arrived}", session.0),
        Body::Vouched { had } => format!("{had}"),
    };
    format!("{kind} t{term} {rest}")
}

/// Enough of a run's number to tell it from another.
fn brief(life: Life) -> String {
    format!("{:04x}", life.0 >> 48)
}

/// Entries.
pub(crate) fn list<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    entries.join(", ")
}

/// An entry.
pub(crate) fn entry(entry: &Entry) -> String {
    let id = entry.id;
    match entry.kind {
        Kind::Noop => format!("{id} noop"),
        Kind::Config => match Membership::decode(&entry.body) {
            Some(read) => format!("{id} config {}", config(&read)),
            None => format!("{id} an unreadable config"),
        },
        _ if entry.body.is_empty() => id.to_string(),
        _ => format!("{id} {}", String::from_utf8_lossy(&entry.body)),
    }
}

/// A configuration: voters, the outgoing half after a slash, learners after a plus.
pub(crate) fn config(config: &Membership) -> String {
    let join = |set: &std::collections::BTreeSet<NodeRef>| {
        let names: Vec<_> = set.iter().map(|node| name(*node)).collect();
        names.join(" ")
    };
    let mut text = join(&config.voters);
    if config.is_joint() {
        text = format!("{text} / {}", join(&config.outgoing));
    }
    if !config.learners.is_empty() {
        text = format!("{text} + {}", join(&config.learners));
    }
    if !config.next_learners.is_empty() {
        text = format!("{text} + later {}", join(&config.next_learners));
    }
    text
}

/// A member: its number, and a stroke for each disk that it had before.
pub(crate) fn name(node: NodeRef) -> String {
    let strokes = node.incarnation.0.saturating_sub(1) as usize;
    format!("{}{}", node.id, "'".repeat(strokes))
}

/// A write.
pub(crate) fn write(write: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard) = write.hard {
        let vote = hard
            .vote
            .map_or_else(|| "none".into(), |vote| vote.to_string());
        let recovering = if hard.recovering { " recovering" } else { "" };
        parts.push(format!("t{} vote {vote}{recovering}", hard.term));
    }
    if let Some(from) = write.truncate_from {
        parts.push(format!("cut from {from} on"));
    }
    if !write.append.is_empty() {
        parts.push(list(&write.append));
    }
    format!("w{} {}", write.seq, parts.join("; "))
}

/// Entries that were committed, with the proposals they end.
pub(crate) fn committed(committed: &[Committed]) -> String {
    let said = committed.iter().map(|c| match c.proposal {
        Some(id) => format!("{} (p{id})", entry(&c.entry)),
        None => entry(&c.entry),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Any effect that goes nowhere.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Persist(persist) => format!("writes {}", write(persist)),
        Effect::Send { to, message: sent } => format!("sends {to}: {}", message(sent)),
        Effect::SendLog(read) => {
            let first = read.head.prev.index.next();
            format!("reads {first}..{} for {}", read.last, read.to)
        }
        Effect::Committed(entries) => format!("commits {}", committed(entries)),
        Effect::Fate { id, fate } => match fate {
            Fate::Refused(why) => format!("p{id} refused: {}", refused(why)),
            Fate::Unknown { leader } => format!("p{id} unknown: leadership lost{}", ask(*leader)),
        },
        Effect::ReadReady { id, index } => format!("r{id} may be answered at {index}"),
        Effect::ReadFailed { id, refused: why } => format!("r{id} failed: {}", refused(why)),
        Effect::RoleChanged { term, role, why } => {
            let why = if why.is_empty() { "a later term" } else { why };
            format!("{} in t{term}: {why}", self::role(role))
        }
        Effect::Forgot => "has forgotten, and so has its disk".into(),
        Effect::TransferEnded { failed } => match failed {
            Some(why) => format!("transfer failed: {why}"),
            None => "transfer done".into(),
        },
        Effect::ChangeEnded { id, end } => match end {
            ChangeEnd::Done { index } => format!("p{id} done: in force since {index}"),
            ChangeEnd::Refused(why) => format!("p{id} refused: {}", change_refused(why)),
            ChangeEnd::Unknown { leader } => {
                format!("p{id} unknown: leadership lost{}", ask(*leader))
            }
        },
        Effect::ConfigChanged {
            index,
            config,
            committed,
        } => {
            let committed = if *committed { ", committed" } else { "" };
            format!("config of {index}: {}{committed}", self::config(config))
        }
        Effect::Fetch {
            leader,
            after,
            upto,
        } => {
            format!("fetches {after} to {upto} for {}", name(*leader))
        }
        Effect::Install { seq, stretch } => {
            let (base, last, applied) = (stretch.base, stretch.last, stretch.applied);
            format!("writes w{seq} all from {base} to {last}, state of {applied}")
        }
        Effect::StretchRefused { why } => format!("does not take it: {why}"),
        Effect::Removed { index } => format!("learns that it was left out as of {index}"),
        Effect::Halt { reason } => format!("halts: {reason}"),
    }
}

/// What a member knows.
pub(crate) fn status(status: &Status) -> String {
    let Status {
        term,
        last,
        durable,
        commit,
        ..
    } = status;
    let me = format!("{} {} in t{term}", status.me, role(&status.role));
    let recovering = match (status.recovering, status.home) {
        (false, _) => String::new(),
        (true, None) => " recovering".into(),
        (true, Some(home)) => format!(" recovering until {home}"),
    };
    let mut text = format!("{me}{recovering}, log {last} durable {durable} commit {commit}");
    for peer in &status.peers {
        let pace = if peer.streaming {
            "streaming"
        } else {
            "probing"
        };
        let mut counts = if peer.counts { "" } else { " not counting" }.to_owned();
        if let Some(index) = peer.fetched {
            counts = format!("{counts} fetched {index}");
        }
        text = format!(
            "{text}; {} matched {} {pace}{counts}",
            peer.peer, peer.matched
        );
    }
    text
}

/// Why a member refused what a message asked, by the paper's rules and by what it knew before.
pub(crate) fn refusal(before: &Status, asked: &Message) -> String {
    let (term, last) = (before.term, before.last);
    let behind = |log: LogId| format!("its log ends at {log}, mine at {last}");
    match &asked.body {
        _ if asked.term < term => format!("it is in t{}, I am in t{term}", asked.term),
        Body::PreVote { last: log, .. } | Body::Vote { last: log, .. } if *log < last => {
            behind(*log)
        }
        Body::PreVote { .. } => "a leader may be alive".into(),
        Body::Vote { .. } => "my vote is given".into(),
        Body::Append { head, .. } if head.prev.index > last.index => {
            format!("my log ends at {last}")
        }
        Body::Append { head, .. } => format!("my {} is another", head.prev.index),
        _ => "I lack what is committed".into(),
    }
}

/// A time, in milliseconds.
pub(crate) fn time(at: Micros) -> String {
    format!("{}.{:03} ms", at.0 / 1_000, at.0 % 1_000)
}

fn role(role: &Role) -> String {
    match role {
        Role::Follower { leader: None } => "follower".into(),
        Role::Follower { leader: Some(of) } => format!("follower of {of}"),
        Role::PreCandidate => "pre-candidate".into(),
        Role::Candidate => "candidate".into(),
        Role::Leader => "leader".into(),
    }
}

fn refused(refused: &Refused) -> String {
    match refused {
        Refused::NotLeader { leader } => format!("not the leader{}", ask(*leader)),
        Refused::Transferring { to } => format!("transferring to {to}"),
        Refused::Busy => "busy".into(),
        Refused::NotMember => "not a member".into(),
        Refused::Unsound => "unsound".into(),
    }
}

fn change_refused(refused: &ChangeRefused) -> String {
    match refused {
        ChangeRefused::Closed(refused) => self::refused(refused),
        ChangeRefused::Unsettled => "nothing of this term is committed yet".into(),
        ChangeRefused::UnderWay { index } => format!("the change of {index} is under way"),
        ChangeRefused::Outdated { index } => format!("the configuration is that of {index}"),
        ChangeRefused::Invalid { why } => (*why).into(),
        ChangeRefused::Stranger { node } => format!("{} is no learner", name(*node)),
        ChangeRefused::Behind {
            node,
            matched,
            last,
        } => format!("{} is at {matched} of {last}", name(*node)),
        ChangeRefused::TooMany { stay, least } => {
            format!("only {stay} voters would stay, {least} must")
        }
        ChangeRefused::Silent { answering, least } => {
            format!("only {answering} voters answer, {least} must")
        }
    }
}

fn ask(leader: Option<NodeRef>) -> String {
    leader.map_or_else(String::new, |leader| format!(", ask {leader}"))
}
