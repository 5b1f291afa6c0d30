//! What one member holds of a topic: read from that member alone, by the bare protocol, since a client
//! reads from whichever member serves it best.

use std::{net::SocketAddr, path::Path};

use bytes::{Bytes, BytesMut};
use kontiki_sim::history::Piece;
use kontiki_transport::{Credentials, Endpoint, Expect, Plane};
use kontiki_wire::{
    Batch, ClientStream, Deliver, FrameKind, From, GroupId, Offset, StreamEnd, Subscribe,
    TopicName, Until, limits::CLIENT_FRAME_BYTES_MAX,
};

/// What a member has: batches, as what they say and as they are.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) pieces: Vec<Piece>,
    bytes: Vec<Bytes>,
}

impl Held {
    /// Where the bytes of two begin to differ, if they do: the offset, or the lesser end.
    pub(crate) fn differs(&self, other: &Self) -> Option<u64> {
        let pairs = self.bytes.iter().zip(&other.bytes);
        let same = pairs.take_while(|(one, other)| one == other).count();
        let next = |held: &Self| held.pieces.get(same).map(|piece| piece.offset);
        next(self).or_else(|| next(other))
    }
}

/// One who reads from members of his choice.
pub(crate) struct Examiner {
    endpoint: Endpoint,
    topic: TopicName,
    group: GroupId,
}

impl Examiner {
    /// With the certificate in `cluster`'s folder for operators. To be called within a runtime.
    pub(crate) fn new(cluster: &Path, topic: TopicName, group: GroupId) -> Self {
        let read = |name: &str| {
            std::fs::read_to_string(cluster.join("operator").join(name)).expect("the operator's")
        };
        let credentials = Credentials::from_pem(
            &read("operator.pem"),
            &read("operator.key"),
            &read("node-ca.pem"),
            "",
        );
        let credentials = credentials.expect("the operator's certificate");
        Self {
            endpoint: Endpoint::dialer(Plane::Clients, &credentials).expect("a socket"),
            topic,
            group,
        }
    }

    /// All that the member has from the first record to `end`, which it is to reach, or why not.
    pub(crate) async fn read(
        &self,
        member: &str,
        address: SocketAddr,
        end: u64,
    ) -> Result<Held, String> {
        let expect = Expect::Node(member.to_owned());
        let connection = self.endpoint.connect(address, expect).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let (mut writer, mut reader) = connection.open().await.map_err(|e| e.to_string())?;
        let mut out = BytesMut::new();
        let subscribe = Subscribe {
            topic: self.topic.clone(),
            group: Some(self.group),
            epoch: None,
            from: From::Offset(Offset(0)),
            until: Until::Offset(Offset(end)),
        };
        ClientStream::Subscribe(subscribe).encode(&mut out);
        writer
            .write(out.freeze())
            .await
            .map_err(|e| e.to_string())?;
        let mut held = Held::default();
        loop {
            let frame = reader.next(CLIENT_FRAME_BYTES_MAX).await;
            let frame = frame
                .map_err(|error| error.to_string())?
                .ok_or("the member ended the stream without a word")?;
            if frame.kind == FrameKind::End {
                return match StreamEnd::decode(&frame) {
                    Ok(StreamEnd::Reached) => Ok(held),
                    other => Err(format!("{other:?}")),
                };
            }
            let deliver = Deliver::decode(&frame).map_err(|error| error.to_string())?;
            for delivered in deliver.batches {
                let batch = Batch::verify(delivered.batch).map_err(|error| error.to_string())?;
                let piece = Piece::of(delivered.offset.0, &batch);
                held.pieces.push(piece.map_err(|error| error.to_string())?);
                held.bytes.push(batch.bytes().clone());
            }
        }
    }
}

#[test]
fn members_differ_from_the_first_batch_that_is_not_the_same_to_the_byte() {
    let held = |batches: &[&'static str]| Held {
        pieces: (0..batches.len() as u64)
            .map(|nth| Piece {
                offset: nth * 10,
                stamp: None,
                records: Vec::new(),
            })
            .collect(),
        bytes: batches.iter().copied().map(Bytes::from).collect(),
    };
    let whole = held(&["one", "two", "three"]);
    assert_eq!(whole.differs(&whole.clone()), None);
    assert_eq!(whole.differs(&held(&["one", "twO", "three"])), Some(10));
    assert_eq!(whole.differs(&held(&["one", "two"])), Some(20));
    assert_eq!(held(&["one", "two"]).differs(&whole), Some(20));
}
