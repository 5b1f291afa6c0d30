//! A client's stream of requests: one after the other, each answered before the next is read.
//!
//! Requests are taken at a pace, in turn from each connection that has any: whoever asks without end
//! waits for himself, in his streams' flow control.

use std::sync::Arc;

use crate::{
    limits::REQUEST_BYTES_MAX,
    permission::{Bearer, Wish, permit},
    renewals::Turn,
    service::{Ended, Service, unheard},
    walk,
};
use bytes::BytesMut;
use kontiki_raft::Index;
use kontiki_transport::{Certificate, FrameReader, FrameWriter, Revoked, Role};
use kontiki_wire::{
    Offset, Refusal, Request, Response, Revocation, Rotation, TopicName, Whom, limits::OUTDATED_MAX,
};
use tokio::{sync::Mutex, task::spawn_blocking};

/// The place of one connection among those who ask: it is held while its next request waits, and shared
/// by all its streams.
pub(crate) type Asker = Arc<Mutex<()>>;

/// Serves the stream until the client finishes it.
pub(crate) async fn serve(
    service: &Service,
    (asker, bearer): (&Asker, &Bearer),
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Ended {
    loop {
        if let Err(ended) = serve_one(service, (asker, bearer), writer, reader).await {
            return ended;
        }
    }
}

async fn serve_one(
    service: &Service,
    (asker, bearer): (&Asker, &Bearer),
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
    let response = match permit(bearer, Wish::of_request(&request), service.auto_create) {
        Err(refusal) => Response::Refused(refusal),
        Ok(()) => answer(service, bearer, request).await,
    };
    let mut out = BytesMut::new();
    response.encode(&mut out);
    service.unsent.write(writer, out.freeze()).await?;
    Ok(())
}

async fn answer(service: &Service, bearer: &Bearer, request: Request) -> Response {
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
        Request::CreateToken(token) if token.role == Role::Node && !token.topics.is_empty() => {
            Response::Refused(Refusal::Unfit {
                why: "a member keeps what the cluster places on it: no token confines it to topics"
                    .to_owned(),
            })
        }
        Request::Revoke(whom) if is_own(bearer, &whom) => Response::Refused(Refusal::Unfit {
            why: "that is the certificate with which this is asked: have another operator's ask it"
                .to_owned(),
        }),
        Request::Renew => renew(service, bearer)
            .await
            .unwrap_or_else(Response::Refused),
        Request::MakeSuccessors => make_successors(service, bearer)
            .await
            .unwrap_or_else(Response::Refused),
        Request::Outdated => Response::Outdated(outdated(service, bearer)),
        Request::Metadata | Request::Topics => {
            let mut response = service.ask(request).await;
            if let Response::Metadata { topics, .. } = &mut response {
                topics.retain(|topic| bearer.reaches(&topic.name));
            }
            response
        }
        request => service.ask(request).await,
    }
}

/// Whether somebody would cut off itself.
fn is_own(bearer: &Bearer, whom: &Whom) -> bool {
    let revocation = Revocation {
        whom: whom.clone(),
        at: MICROS_OF_LATER,
        until: u64::MAX,
    };
    Revoked::new(&[revocation]).has(&bearer.certificate)
}

/// After every certificate there is: the year 9999.
const MICROS_OF_LATER: u64 = 253_370_764_800_000_000;

/// Another certificate for a client. What was taken back while this member was parted from the others it does not
/// know: it signs for nobody until it does.
async fn renew(service: &Service, bearer: &Bearer) -> Result<Response, Refusal> {
    let (signing, shown) = (&service.signing, &bearer.certificate);
    let authorities = signing.authorities()?;
    // Before anything is signed: who gets what the old one has signed does not believe that it has renewed. Others may
    // have been put there by hand since any were replaced.
    let new = authorities.nodes.fingerprint();
    let rotation = signing.rotation().filter(Rotation::is_signing);
    let handover = rotation.map(|rotation| rotation.to.nodes);
    let handover = handover.filter(|handover| handover.new == new);
    let by = authorities.clients.certificate_pem();
    let is_good = |kept: &str| {
        let kept = Certificate::from_pem(kept);
        kept.is_ok_and(|kept| signing.check(&kept).is_ok())
    };
    let certificate = match service.renewals.turn(shown, by, is_good).await {
        Turn::Again(certificate) => {
            signing.check(shown)?;
            certificate
        }
        Turn::New(mut place) => {
            place.spend();
            if let Err(refusal) = service.confirm().await {
                place.free();
                return Err(refusal);
            }
            let certificate = signing.renew(shown).await?;
            place.give(&certificate);
            certificate
        }
        Turn::Busy => return Err(Refusal::Busy),
    };
    Ok(Response::Renewed {
        certificate,
        handover,
    })
}

/// The clients that are connected here and would be cut off with the authorities that are being replaced; the one that
/// asks knows of itself.
fn outdated(service: &Service, bearer: &Bearer) -> Vec<String> {
    let rotation = service.signing.rotation().filter(Rotation::is_under_way);
    let clients = rotation.map(|rotation| {
        let new = &rotation.to.clients.authority;
        service
            .present
            .not_signed_by(new, &bearer.certificate.identity)
    });
    clients.into_iter().flatten().take(OUTDATED_MAX).collect()
}

/// The authorities that are to take the place of those that sign, made here if this member signs. Those of which the
/// cluster knows already are the ones.
async fn make_successors(service: &Service, bearer: &Bearer) -> Result<Response, Refusal> {
    let signing = &service.signing;
    let vault = Arc::clone(signing.vault()?);
    signing.authorities()?;
    if let Some(known) = signing.rotation().filter(Rotation::is_under_way) {
        return match vault.has(&known) {
            true => Ok(Response::Successors(Box::new(known.to))),
            false => Err(Refusal::Unavailable {
                why: "this member does not have the authorities that are to sign".to_owned(),
            }),
        };
    }
    let cluster = bearer.certificate.identity.cluster;
    let made = spawn_blocking(move || vault.successors(cluster)).await;
    let unfit = |why: String| Refusal::Unfit { why };
    let made = made.map_err(|error| unfit(error.to_string()))?;
    let made = made.map_err(|error| unfit(format!("no authorities can be made: {error}")))?;
    Ok(Response::Successors(Box::new(made)))
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
