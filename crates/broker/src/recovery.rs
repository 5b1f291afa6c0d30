//! Groups in which this node may have forgotten promises: that all of them are when one is, and what is
//! said of each: why, from whom it copies, and what it waits for.

use kontiki_raft::{Hard, Index, Input, Membership, Micros, NodeId, Persist, Status, WriteSeq};
use kontiki_wire::GroupId;

use crate::{broker::Broker, input::Now};

/// Sentences in one status; of more groups only the number is told.
const SENTENCES_MAX: usize = 16;

impl Broker {
    /// One group was found to have lost what was durable: all of them share the journal that kept it, and
    /// a vote that it has lost nobody else can tell of. Of those that are no Rafts now the disk is told
    /// here, so that whoever starts them later knows.
    pub(crate) fn forget(&mut self, now: Now) {
        let mut idle = Vec::new();
        for (id, mending) in &mut self.mending {
            if !std::mem::replace(&mut mending.forgot, true) {
                idle.push((*id, mending.hard));
            }
        }
        for (id, boot) in &mut self.parked {
            if !std::mem::replace(&mut boot.boot.forgot, true) {
                idle.push((*id, boot.boot.hard));
            }
        }
        for fetching in self.fetching.values_mut() {
            fetching.forgot = true;
        }
        for (id, hard) in idle.into_iter().filter(|(_, hard)| !hard.recovering) {
            let persist = Persist {
                // No Raft waits for it.
                seq: WriteSeq(0),
                hard: Some(Hard {
                    recovering: true,
                    ..hard
                }),
                truncate_from: None,
                append: Vec::new(),
                commit: Index(0),
            };
            self.outbox.persist(id, persist);
        }
        self.feed_all(now, &Input::Forgot);
    }

    /// One sentence for each group in which this node is recovering, or which it mends.
    pub(crate) fn recovering(&self, now: Micros) -> Vec<String> {
        let copying = self.groups.iter().filter_map(|(id, group)| {
            let status = group.status(now);
            status.recovering.then(|| self.sentence(*id, &status))
        });
        let mut recovering = self.mending_sentences().into_iter().chain(copying);
        let mut sentences: Vec<_> = recovering.by_ref().take(SENTENCES_MAX).collect();
        let more = recovering.count();
        if more > 0 {
            sentences.push(format!("and {more} more topics"));
        }
        sentences
    }

    /// A group as people know it.
    pub(crate) fn group_words(&self, id: GroupId) -> String {
        match self.cluster.topic_of(id) {
            Some(topic) => format!("topic {}", topic.name),
            None if id == GroupId::CLUSTER => "the cluster's own group".to_owned(),
            None => format!("group {id}"),
        }
    }

    fn sentence(&self, id: GroupId, status: &Status) -> String {
        let me = self.cluster.name(status.me.id);
        let what = self.group_words(id);
        let why = self.settings.damage.as_deref();
        let why = why.unwrap_or("it may have forgotten what it promised");
        let way = match (status.leader, status.home) {
            _ if !spares(&status.config, status.me.id) => format!(
                "there is no majority without it to say what was promised, so its lost files must be \
                 put back, or {what} made anew"
            ),
            (None, _) => {
                "it waits for a leader, and a majority of the others, none of which may be \
                          recovering, must be up to have one"
                    .to_owned()
            }
            (Some(leader), None) => {
                let leader = self.cluster.name(leader.id);
                format!("it copies from {leader} and does not vote until {leader} says when it may")
            }
            (Some(leader), Some(home)) => format!(
                "it copies from {} and does not vote until entry {home} is committed without it",
                self.cluster.name(leader.id)
            ),
        };
        format!("{me} is recovering {what}: {why}; {way}")
    }
}

/// Whether the others are a majority, of both halves if it is joint, without this one.
fn spares(config: &Membership, me: NodeId) -> bool {
    [&config.voters, &config.outgoing].into_iter().all(|half| {
        let others = half.iter().filter(|node| node.id != me).count();
        half.is_empty() || others * 2 > half.len()
    })
}

#[cfg(test)]
mod tests {
    use kontiki_raft::{Incarnation, NodeRef};

    use super::*;

    #[test]
    fn majority_without_one_takes_three() {
        let node = |id| NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(id),
        };
        let of = |count| Membership::of((1..=count).map(node));
        let spared = (1..=5).map(|count| spares(&of(count), NodeId(1)));
        assert_eq!(spared.collect::<Vec<_>>(), [false, false, true, true, true]);
        let joint = Membership {
            outgoing: of(2).voters,
            ..of(3)
        };
        assert!(!spares(&joint, NodeId(1)));
        assert!(spares(&of(2), NodeId(9)), "one who does not vote is spared");
    }
}
