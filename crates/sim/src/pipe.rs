//! A client's way to a member: what is sent arrives in order and once, as long as both ends live.

use std::collections::VecDeque;

use kontiki_wire::{
    Answer, Batch, ClusterCommand, Deliver, Request, Response, StreamEnd, Subscribe, TopicName,
};

use crate::event::Life;

/// Whose way it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// A producer's stream.
    Producer(usize),
    /// A subscription.
    Consumer(usize),
    /// A question, asked for somebody.
    Ask(Asker),
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A producer that looks for the leader.
    Producer(usize, u32),
    /// A reader of a topic's end.
    Reader(usize),
    /// An operator with an order.
    Operator(usize, u32),
}

/// What a client says.
#[derive(Debug)]
pub(crate) enum Up {
    Append {
        topic: TopicName,
        batch: Batch,
    },
    Subscribe(Subscribe),
    Ask(Request),
    /// What somebody asks for who is to be a member.
    Command(ClusterCommand),
    /// Deliveries up to here have been taken.
    Taken,
}

/// What a member says.
#[derive(Debug)]
pub(crate) enum Down {
    Answer(Answer),
    Deliver(Deliver),
    Response(Box<Response>),
    End(StreamEnd),
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) end: End,
    pub(crate) member: usize,
    pub(crate) life: Life,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    /// Whether an arrival is planned, upwards and downwards.
    pub(crate) planned: (bool, bool),
}

impl Pipe {
    pub(crate) fn new(end: End, member: usize, life: Life) -> Self {
        Self {
            end,
            member,
            life,
            up: VecDeque::new(),
            down: VecDeque::new(),
            planned: (false, false),
        }
    }
}
