//! Short histories of one promise, for its tests. All of it is about group 1.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_broker::{Effect, GroupBoot, GroupWrite, Input, Placed, StreamId, Ticket, Writes};
use kontiki_raft::{
    Body, Boot, Entry, Hard, Incarnation, Index, Kind, LogId, Membership, Message, Micros, NodeId,
    NodeRef, Persist, Role, Session, Term, WriteSeq,
};
use kontiki_wire::{
    Acknowledged, BatchBuilder, GroupId, GroupMessage, MemberRef, Offset, PeerLane, ProducerId,
    Record, Request, Response, Topic, TopicSettings, entry_checksum,
};

use crate::invariants::{Ledger, Observation, Promise, Sighting};

/// A grant of a vote.
pub(super) const GRANT: Body = Body::VoteReply { granted: true };
/// A candidate with an empty log.
pub(super) const VOTE: Body = Body::Vote {
    last: LogId::ORIGIN,
    transfer: false,
};

/// A candidate whose log ends there.
pub(super) fn vote(index: u64, term: u64) -> Body {
    Body::Vote {
        last: id(index, term),
        transfer: false,
    }
}

/// An acknowledgement.
pub(super) fn appended(matched: u64) -> Body {
    Body::Appended {
        session: Session(1),
        matched: Index(matched),
        counts: true,
    }
}

const GROUP: GroupId = GroupId(1);
const STREAM: StreamId = StreamId(1);

fn id(index: u64, term: u64) -> LogId {
    LogId {
        term: Term(term),
        index: Index(index),
    }
}

/// A member.
pub(super) fn node(id: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(id),
    }
}

fn entry(index: u64, term: u64, time: u64, body: &'static str) -> Entry {
    Entry {
        id: id(index, term),
        kind: Kind::Batch,
        time: Micros(time),
        checksum: entry_checksum(body.as_bytes()),
        body: Bytes::from(body),
    }
}

fn persist(seq: u64) -> Persist {
    Persist {
        seq: WriteSeq(seq),
        hard: None,
        truncate_from: None,
        append: Vec::new(),
        commit: Index(0),
    }
}

fn found(boot: Boot) -> GroupBoot {
    GroupBoot {
        group: GROUP,
        boot,
        checkpoint: None,
        missing: Vec::new(),
        damage: String::new(),
    }
}

fn ends(member: u64, last: u64, terms: &[(u64, u64)]) -> Boot {
    let terms = terms
        .iter()
        .map(|(index, term)| (Index(*index), Term(*term)));
    Boot {
        terms: terms.collect(),
        last: Index(last),
        ..empty(member)
    }
}

fn empty(member: u64) -> Boot {
    Boot {
        fresh: false,
        ..Boot::born(node(member), Membership::default())
    }
}

/// One promise, and the ledger it is held against.
#[derive(Clone, Default)]
pub(super) struct Trial<P> {
    promise: P,
    ledger: Ledger,
    /// The present moment.
    pub(super) at: u64,
}

type Verdict = Result<(), String>;

impl<P: Promise> Trial<P> {
    pub(super) fn see(&mut self, member: u64, what: &Observation<'_>) -> Verdict {
        let seen = Sighting {
            at: Micros(self.at),
            member: node(member),
            what,
        };
        self.promise.observe(seen, &self.ledger)?;
        self.ledger.observe(seen);
        Ok(())
    }

    pub(super) fn does(&mut self, member: u64, effect: &Effect) -> Verdict {
        self.see(member, &Observation::Does { effect })
    }

    pub(super) fn takes(&mut self, member: u64, input: &Input) -> Verdict {
        self.see(member, &Observation::Took { input })
    }

    pub(super) fn dies(&mut self, member: u64) -> Verdict {
        self.see(member, &Observation::Died)
    }

    pub(super) fn harmed(&mut self, member: u64) -> Verdict {
        self.see(member, &Observation::Harmed)
    }

    pub(super) fn halts(&mut self, member: u64) -> Verdict {
        let reason = String::new();
        self.does(member, &Effect::Halt { reason })
    }

    pub(super) fn leads(&mut self, member: u64, term: u64) -> Verdict {
        let effect = Effect::RoleChanged {
            group: GROUP,
            term: Term(term),
            role: Role::Leader,
            why: "",
        };
        self.does(member, &effect)
    }

    pub(super) fn says(&mut self, member: u64, to: u64, term: u64, body: Body) -> Verdict {
        let message = Message {
            term: Term(term),
            body,
        };
        let effect = Effect::Send {
            to: node(to),
            lane: PeerLane::Log,
            messages: vec![GroupMessage {
                group: GROUP,
                message,
            }],
        };
        self.does(member, &effect)
    }

    /// A member hears another.
    pub(super) fn hears(&mut self, member: u64, from: u64, term: u64, body: Body) -> Verdict {
        let message = Message {
            term: Term(term),
            body,
        };
        let input = Input::Peer {
            from: node(from),
            messages: vec![GroupMessage {
                group: GROUP,
                message,
            }],
        };
        self.takes(member, &input)
    }

    fn persists(&mut self, member: u64, persist: Persist) -> Verdict {
        let effect = Effect::Persist(Writes {
            seq: persist.seq.0,
            writes: vec![GroupWrite {
                group: GROUP,
                persist,
            }],
        });
        self.does(member, &effect)
    }

    /// Entries, each given by its index and term.
    pub(super) fn writes(&mut self, member: u64, seq: u64, entries: &[(u64, u64)]) -> Verdict {
        let append = entries
            .iter()
            .map(|(index, term)| entry(*index, *term, 0, "a"));
        let append = append.collect();
        self.persists(
            member,
            Persist {
                append,
                ..persist(seq)
            },
        )
    }

    /// A configuration of term 1.
    pub(super) fn configures(
        &mut self,
        member: u64,
        seq: u64,
        index: u64,
        config: &Membership,
    ) -> Verdict {
        let append = vec![Entry {
            kind: Kind::Config,
            body: config.encode(),
            ..entry(index, 1, 0, "a")
        }];
        self.persists(
            member,
            Persist {
                append,
                ..persist(seq)
            },
        )
    }

    /// The same, with other bodies.
    pub(super) fn writes_other(
        &mut self,
        member: u64,
        seq: u64,
        entries: &[(u64, u64)],
    ) -> Verdict {
        let append = entries
            .iter()
            .map(|(index, term)| entry(*index, *term, 0, "b"));
        let append = append.collect();
        self.persists(
            member,
            Persist {
                append,
                ..persist(seq)
            },
        )
    }

    /// Entries of term 1, each given by its index and time.
    pub(super) fn writes_at(&mut self, member: u64, seq: u64, entries: &[(u64, u64)]) -> Verdict {
        let append = entries
            .iter()
            .map(|(index, time)| entry(*index, 1, *time, "a"));
        let append = append.collect();
        self.persists(
            member,
            Persist {
                append,
                ..persist(seq)
            },
        )
    }

    pub(super) fn cuts(
        &mut self,
        member: u64,
        seq: u64,
        from: u64,
        entries: &[(u64, u64)],
    ) -> Verdict {
        let append = entries
            .iter()
            .map(|(index, term)| entry(*index, *term, 0, "a"));
        let append = append.collect();
        self.persists(
            member,
            Persist {
                append,
                truncate_from: Some(Index(from)),
                ..persist(seq)
            },
        )
    }

    pub(super) fn writes_hard(
        &mut self,
        member: u64,
        seq: u64,
        term: u64,
        vote: Option<u64>,
    ) -> Verdict {
        let hard = Hard {
            term: Term(term),
            vote: vote.map(node),
            recovering: false,
        };
        self.persists(
            member,
            Persist {
                hard: Some(hard),
                ..persist(seq)
            },
        )
    }

    pub(super) fn synced(&mut self, member: u64, upto: u64) -> Verdict {
        self.takes(member, &Input::Persisted { upto })
    }

    /// Starts with a log that ends at `last` and has these runs of terms.
    pub(super) fn starts(&mut self, member: u64, last: u64, terms: &[(u64, u64)]) -> Verdict {
        let groups = [found(ends(member, last, terms))];
        self.see(member, &Observation::Started { groups: &groups })
    }

    /// Starts with a log in which these configurations stand.
    pub(super) fn starts_with(
        &mut self,
        member: u64,
        last: u64,
        terms: &[(u64, u64)],
        configs: BTreeMap<Index, Membership>,
    ) -> Verdict {
        let boot = Boot {
            configs,
            ..ends(member, last, terms)
        };
        let groups = [found(boot)];
        self.see(member, &Observation::Started { groups: &groups })
    }

    /// Starts with a log that lacks an entry.
    pub(super) fn starts_damaged(&mut self, member: u64, last: u64) -> Verdict {
        let mut damaged = found(ends(member, last, &[(1, 1)]));
        damaged.missing = vec![(Index(1), Index(1))];
        let groups = [damaged];
        self.see(member, &Observation::Started { groups: &groups })
    }

    /// What its peers gave makes the log whole.
    pub(super) fn mended(&mut self, member: u64, last: u64, terms: &[(u64, u64)]) -> Verdict {
        let whole = found(ends(member, last, terms));
        self.takes(member, &Input::Mended(Box::new(whole)))
    }

    /// The same, with a log in which these configurations stand.
    pub(super) fn mended_with(
        &mut self,
        member: u64,
        last: u64,
        terms: &[(u64, u64)],
        configs: BTreeMap<Index, Membership>,
    ) -> Verdict {
        let whole = found(Boot {
            configs,
            ..ends(member, last, terms)
        });
        self.takes(member, &Input::Mended(Box::new(whole)))
    }

    /// Starts as one that may have forgotten promises.
    pub(super) fn starts_forgetful(&mut self, member: u64) -> Verdict {
        let mut boot = empty(member);
        boot.forgot = true;
        let groups = [found(boot)];
        self.see(member, &Observation::Started { groups: &groups })
    }

    pub(super) fn starts_without(&mut self, member: u64) -> Verdict {
        self.see(member, &Observation::Started { groups: &[] })
    }

    /// Takes up the topic.
    pub(super) fn keeps(&mut self, member: u64, replicas: &[u64]) -> Verdict {
        let founder = |id: &u64| MemberRef {
            id: *id,
            incarnation: *id,
        };
        let topic = Topic::founded(
            "t".parse().unwrap(),
            GROUP,
            TopicSettings { replicas: 3 },
            replicas.iter().map(founder).collect(),
            replicas[0],
        );
        self.does(member, &Effect::TopicMade(topic))
    }

    /// Applies entries of one record each, at the offset before their index.
    pub(super) fn applies(&mut self, member: u64, indices: &[u64]) -> Verdict {
        let places: Vec<_> = indices.iter().map(|index| (*index, index - 1, 1)).collect();
        self.places(member, &places)
    }

    /// Applies entries, each given by its index, its offset and its records.
    pub(super) fn places(&mut self, member: u64, places: &[(u64, u64, u32)]) -> Verdict {
        let end = places.last().map_or(0, |last| last.1 + u64::from(last.2));
        self.raises(member, places, end)
    }

    /// The same, and this is the watermark then.
    pub(super) fn raises(
        &mut self,
        member: u64,
        places: &[(u64, u64, u32)],
        watermark: u64,
    ) -> Verdict {
        let placed = places.iter().map(|(index, offset, count)| Placed {
            index: Index(*index),
            offset: Offset(*offset),
            count: *count,
        });
        let effect = Effect::Applied {
            group: GROUP,
            placed: placed.collect(),
            watermark: Offset(watermark),
        };
        self.does(member, &effect)
    }

    pub(super) fn checkpoints(&mut self, member: u64, index: u64, state: &'static [u8]) -> Verdict {
        let effect = Effect::Checkpoint {
            group: GROUP,
            at: id(index, 1),
            state: Bytes::from_static(state),
        };
        self.does(member, &effect)
    }

    pub(super) fn has(&mut self, member: u64, index: u64, state: &'static [u8]) -> Verdict {
        let state = &Bytes::from_static(state);
        let at = id(index, 1);
        self.see(
            member,
            &Observation::Has {
                group: GROUP,
                at,
                state,
            },
        )
    }

    /// A producer asks.
    pub(super) fn asks(&mut self, member: u64, sequence: u64, count: u32) -> Verdict {
        let mut builder = BatchBuilder::new(64);
        for _ in 0..count {
            builder.push(&Record::default()).unwrap();
        }
        let input = Input::Append {
            stream: STREAM,
            group: GROUP,
            batch: builder.finish(ProducerId(1), 0, sequence),
        };
        self.takes(member, &input)
    }

    pub(super) fn acknowledges(&mut self, member: u64, sequence: u64, offset: u64) -> Verdict {
        let effect = Effect::Answer {
            stream: STREAM,
            answer: Ok(Acknowledged {
                sequence,
                offset: Offset(offset),
                time: 0,
            }),
        };
        self.does(member, &effect)
    }

    pub(super) fn requests(&mut self, member: u64, ticket: u64) -> Verdict {
        let input = Input::Request {
            ticket: Ticket(ticket),
            request: Request::Metadata,
        };
        self.takes(member, &input)
    }

    pub(super) fn responds(&mut self, member: u64, ticket: u64) -> Verdict {
        let effect = Effect::Respond {
            ticket: Ticket(ticket),
            response: Response::Done,
        };
        self.does(member, &effect)
    }
}
