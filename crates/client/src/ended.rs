//! Why a producer's stream ends, and what follows from it.

use std::{sync::Arc, time::Duration};

use kontiki_transport::Error;
use kontiki_wire::{Frame, Refusal, StreamEnd};
use tokio::time::sleep;

use crate::flight::Remedy;

/// How long the answers to the rest of a stream are waited for after a refusal.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_millis(200);

/// Why a stream ended.
pub(crate) enum Ended {
    /// Everything is done, and nothing more will come.
    Done,
    /// It broke.
    Lost(Arc<str>),
    /// The member owes an answer, and another one is said to lead.
    Moved,
    /// A batch's time is over.
    Expired,
    /// A refusal, and nothing more is to be waited for.
    Refused(Remedy),
    /// The stream was refused as a whole, before anything on it was taken.
    NotOpened(Remedy),
}

/// A member that ends a stream says why on its other half: that is waited for, it is the better
/// reason.
pub(crate) async fn unwritable(why: &Error) -> Ended {
    sleep(DRAIN_TIME_MAX).await;
    Ended::Lost(why.to_string().into())
}

pub(crate) fn ended_by_member() -> Ended {
    Ended::Lost("the member ended the stream".into())
}

/// The last frame of a stream.
pub(crate) fn end_of_stream(frame: &Frame, answered: bool, before: Option<Remedy>) -> Ended {
    let refusal = match StreamEnd::decode(frame) {
        Ok(StreamEnd::Refused(refusal)) => refusal,
        Ok(StreamEnd::Deleted { .. }) => return Ended::Refused(Remedy::NoSuchTopic),
        Ok(StreamEnd::Moving) => return Ended::Refused(Remedy::Elsewhere(None)),
        Ok(StreamEnd::Reached | StreamEnd::Crowded) => return ended_by_member(),
        Err(why) => return Ended::Lost(format!("the member sent {why}").into()),
    };
    let remedy = match &refusal {
        Refusal::NotLeader { leader } => Remedy::Elsewhere(leader.clone()),
        Refusal::NoSuchTopic { .. } => Remedy::NoSuchTopic,
        Refusal::NotPermitted { what } => Remedy::NotPermitted(what.clone()),
        Refusal::Recovered { epoch } => Remedy::Recovered(*epoch),
        Refusal::Busy => Remedy::Again(refusal.to_string()),
        _ if refusal.is_retryable() => Remedy::Later(refusal.to_string()),
        _ => Remedy::Reject(refusal.to_string()),
    };
    let remedy = match before {
        Some(before) => before.or(remedy),
        None => remedy,
    };
    // These are decided before anything is read from the stream.
    let decided_first = matches!(
        refusal,
        Refusal::NotPermitted { .. } | Refusal::NoSuchTopic { .. } | Refusal::Recovered { .. }
    );
    if decided_first && !answered {
        Ended::NotOpened(remedy)
    } else {
        Ended::Refused(remedy)
    }
}
