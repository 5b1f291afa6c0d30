//! A client's stream of requests: one after the other, each answered before the next is read.
//!
//! Requests are taken at a pace, in turn from each connection that has any: whoever asks without end
//! waits for himself, in his streams' flow control.

use std::sync::Arc;

use crate::{
    limits::REQUEST_BYTES_MAX,
    permission::{Act, permit},
    service::{Ended, Service, unheard},
    walk,
};
use bytes::BytesMut;
use kontiki_raft::Index;
use kontiki_transport::{FrameReader, FrameWriter, Role};
use kontiki_wire::{Offset, Refusal, Request, Response, TopicName};
use tokio::sync::Mutex;

/// The place of one connection among those who ask: it is held while its next request waits, and shared
/// by all its streams.
pub(crate) type Asker = Arc<Mutex<()>>;

/// Serves the stream until the client finishes it.
pub(crate) async fn serve(
    service: &Service,
    (asker, role): (&Asker, Role),
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Ended {
    loop {
        if let Err(ended) = serve_one(service, (asker, role), writer, reader).await {
            return ended;
        }
    }
}

async fn serve_one(
    service: &Service,
    (asker, role): (&Asker, Role),
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), Ended> {
    let frame = reader
        .next(REQUEST_BYTES_MAX)
        .await?
        .ok_or(Ended::Silently)?;
    let request = Request::decode(&frame)?;
    let waiting = asker.lock().await;
    service.requests.turn().await;
    drop(waiting);
    let response = match permit(role, Act::of_request(&request), service.auto_create) {
        Err(refusal) => Response::Refused(refusal),
        Ok(()) => answer(service, request).await,
    };
    let mut out = BytesMut::new();
    response.encode(&mut out);
    service.unsent.write(writer, out.freeze()).await?;
    Ok(())
}

async fn answer(service: &Service, request: Request) -> Response {
    match request {
        Request::OffsetAt { topic, time } => match offset_at(service, &topic, time).await {
            Ok(offset) => Response::Offset(offset),
            Err(refusal) => Response::Refused(refusal),
        },
        Request::Walk {
            group,
            first,
            last,
            digest,
        } => walk::walk(service, group, (Index(first), Index(last)), digest).await,
        Request::CreateToken(token) if !token.topics.is_empty() => {
            Response::Refused(Refusal::Unfit {
                why: "nobody holds clients to patterns of topics yet: make a token without them, and its \
                      bearer may do to every topic what its role may"
                    .to_owned(),
            })
        }
        request => service.ask(request).await,
    }
}

async fn offset_at(service: &Service, name: &TopicName, time: u64) -> Result<Offset, Refusal> {
    let topic = service.topic(name).await?;
    // Before it is known an offset would lie too early, and nobody could tell.
    let watermark = topic.watermark.known().ok_or_else(unheard)?;
    let Some(log) = topic.log().cloned() else {
        return Ok(watermark);
    };
    let found = service.read(move || log.offset_at(time)).await?;
    Ok(found.unwrap_or(watermark).min(watermark))
}
