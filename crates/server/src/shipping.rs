//! Gives a peer the log of a group as it lies in files: read in order, ahead of the network by a few pieces,
//! on a connection of its own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kontiki_storage::{Log, Storage};
use kontiki_transport::{Error, FrameReader, FrameWriter};
use kontiki_wire::{FrameKind, Inquiry, SHIPPED_BYTES_MAX, Stock, encode_frame};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    budget::Budget,
    limits::{OPENING_MAX, REQUEST_BYTES_MAX, SHIPMENTS_MAX, SHIPPED_AHEAD_MAX},
};

/// Serves those who fetch.
#[derive(Clone)]
pub(crate) struct Shipping {
    storage: Storage,
    budget: Arc<Budget>,
    under_way: Arc<Semaphore>,
}

impl Shipping {
    pub(crate) fn new(storage: Storage, budget: Arc<Budget>) -> Self {
        Self {
            storage,
            budget,
            under_way: Arc::new(Semaphore::new(SHIPMENTS_MAX)),
        }
    }

    /// Serves one stream; says why it ended.
    pub(crate) async fn serve(&self, mut writer: FrameWriter, mut reader: FrameReader) -> String {
        match self.ship(&mut writer, &mut reader).await {
            Ok(()) => {
                writer.finish();
                writer.stopped().await;
                "all was shipped".to_owned()
            }
            Err(why) => why,
        }
    }

    async fn ship(&self, writer: &mut FrameWriter, reader: &mut FrameReader) -> Result<(), String> {
        let Ok(_place) = self.under_way.try_acquire() else {
            return Err("as many logs as may are being shipped".to_owned());
        };
        let asked = timeout(OPENING_MAX, reader.next(REQUEST_BYTES_MAX)).await;
        let asked = asked.map_err(|_| "it does not say what it wants".to_owned())?;
        let asked = asked.map_err(said)?;
        let asked = asked.filter(|frame| frame.kind == FrameKind::Ship);
        let asked = asked.ok_or("it wants something else than a log")?;
        let asked = Inquiry::decode(&asked).map_err(|malformed| malformed.to_string())?;
        let log = self.storage.known_log(asked.group);
        let mut out = BytesMut::new();
        stock(asked, log.as_ref()).encode(&mut out);
        writer.write(out.freeze()).await.map_err(said)?;
        let mut pieces = read_ahead(log, asked);
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            writer.write(shipped(&piece)).await.map_err(said)?;
            self.budget.took_file(piece.len() as u64).await;
        }
        // Nothing tells the end of it from a log that broke off but a piece without a byte.
        writer.write(shipped(&[])).await.map_err(said)
    }
}

/// What there is to fetch of a log.
pub(crate) fn stock(asked: Inquiry, log: Option<&Log>) -> Stock {
    let stocked = log.map(|log| log.stocked(asked.first));
    let stocked = stocked.unwrap_or_default();
    Stock {
        asked,
        last: stocked.last,
        bytes: stocked.bytes,
    }
}

/// Reads the log piece by piece while those before are on their way.
fn read_ahead(log: Option<Log>, asked: Inquiry) -> mpsc::Receiver<Result<Bytes, String>> {
    let (pieces, read) = mpsc::channel(SHIPPED_AHEAD_MAX);
    spawn_blocking(move || {
        let Some(mut shipment) = log.map(|log| log.ship(asked.first)) else {
            return;
        };
        loop {
            let piece = match shipment.next(SHIPPED_BYTES_MAX) {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => Err(error.to_string()),
            };
            let failed = piece.is_err();
            // Whoever has gone needs no more.
            if pieces.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    read
}

fn shipped(piece: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Shipped, piece, &mut out);
    out.freeze()
}

fn said(error: Error) -> String {
    error.to_string()
}
