//! One client's connection: its streams are opened, authorised and served, each in a task of its own.

use std::sync::Arc;

use bytes::BytesMut;
use kontiki_transport::{Connection, Endpoint, FrameReader, FrameWriter, Precedence};
use kontiki_wire::{ClientStream, FrameKind, Malformed};
use tokio::{task::JoinSet, time::timeout};
use tracing::debug;

use crate::{
    delivery,
    limits::{FAREWELL_MAX, OPENING_MAX, REQUEST_BYTES_MAX, STREAMS_PER_CONNECTION_MAX},
    permission::{Bearer, Wish, permit},
    production,
    requests::{self, Asker},
    service::{Ended, Service},
};

/// Accepts clients until the endpoint is closed; how many at a time is the endpoint's to bound.
pub(crate) async fn accept(endpoint: Endpoint, service: Service) {
    let mut sessions = JoinSet::new();
    let among = endpoint.precedence().clone();
    loop {
        tokio::select! {
            connection = endpoint.accept() => match connection {
                Some(connection) => {
                    let session = serve(connection, service.clone(), among.clone());
                    sessions.spawn(among.after(session))
                }
                None => return,
            },
            Some(_) = sessions.join_next() => continue,
        };
    }
}

/// Serves one connection. Ends its streams with it.
async fn serve(connection: Connection, service: Service, among: Precedence) {
    let identity = connection.identity().clone();
    debug!(client = %identity, address = %connection.remote_address(), "session begins");
    let mut streams = JoinSet::new();
    let asker = Asker::default();
    let bearer = Bearer {
        certificate: Arc::new(connection.certificate().clone()),
    };
    let _stay = service.present.enter(Arc::clone(&bearer.certificate));
    let reason = loop {
        tokio::select! {
            opened = connection.accept() => match opened {
                Ok((writer, reader)) if streams.len() < STREAMS_PER_CONNECTION_MAX => {
                    let (asker, bearer) = (asker.clone(), bearer.clone());
                    let stream = Stream { writer, reader, bearer, asker };
                    streams.spawn(among.after(stream.serve(service.clone())));
                }
                // Both halves end when they are dropped.
                Ok(_) => debug!(client = %identity, "too many streams"),
                Err(error) => break error,
            },
            Some(_) = streams.join_next() => {}
        }
    };
    debug!(client = %identity, %reason, "session ends");
}

struct Stream {
    writer: FrameWriter,
    reader: FrameReader,
    bearer: Bearer,
    asker: Asker,
}

impl Stream {
    async fn serve(mut self, service: Service) {
        let opened = self.open(&service).await;
        // A stream of requests may stay open for as long as its client, with nothing under way.
        let _guard = match &opened {
            Ok(ClientStream::Requests) | Err(_) => None,
            Ok(_) => Some(service.stream()),
        };
        let ended = match opened {
            Ok(kind) => self.dispatch(kind, &service).await,
            Err(ended) => ended,
        };
        if let Ended::With(end) = ended {
            let mut out = BytesMut::new();
            end.encode(&mut out);
            // A client that has gone does not hear why.
            let _ = self.writer.write(out.freeze()).await;
        }
        self.writer.finish();
        // Not before the client has heard it is the stream over: to close a connection is to lose what
        // is on the way.
        let _ = timeout(FAREWELL_MAX, self.writer.stopped()).await;
    }

    /// What the stream is for, once it is permitted.
    async fn open(&mut self, service: &Service) -> Result<ClientStream, Ended> {
        let frame = match timeout(OPENING_MAX, self.reader.next(REQUEST_BYTES_MAX)).await {
            Ok(frame) => frame?.ok_or(Ended::Silently)?,
            Err(_) => {
                return Err(Ended::from(Malformed::Inconsistent {
                    what: "a stream opens with what it is for, and nothing came",
                }));
            }
        };
        if frame.kind != FrameKind::Open {
            return Err(Ended::from(Malformed::Inconsistent {
                what: "a stream opens with what it is for, and something else came",
            }));
        }
        let stream = ClientStream::decode(&frame)?;
        permit(&self.bearer, Wish::of_stream(&stream), service.auto_create)?;
        match &stream {
            ClientStream::Requests => {}
            ClientStream::Produce { epoch, .. } => service.check_epoch(*epoch)?,
            ClientStream::Subscribe(subscribe) | ClientStream::SubscribeIfFew(subscribe) => {
                service.check_epoch(subscribe.epoch)?;
            }
        }
        Ok(stream)
    }

    async fn dispatch(&mut self, kind: ClientStream, service: &Service) -> Ended {
        let Self {
            writer,
            reader,
            bearer,
            asker,
        } = self;
        match kind {
            ClientStream::Requests => {
                requests::serve(service, (asker, bearer), writer, reader).await
            }
            ClientStream::Produce { topic, .. } => {
                production::serve(service, &topic, writer, reader).await
            }
            ClientStream::Subscribe(subscribe) => {
                // Nothing more is said on it.
                reader.stop(0);
                delivery::serve(service, &subscribe, false, writer).await
            }
            ClientStream::SubscribeIfFew(subscribe) => {
                reader.stop(0);
                delivery::serve(service, &subscribe, true, writer).await
            }
        }
    }
}
