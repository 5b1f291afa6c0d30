//! A client in its barest form: frames over a connection, without routing or retries.

use bytes::{Bytes, BytesMut};
use kontiki_transport::{Connection, FrameReader, FrameWriter};
use kontiki_wire::{
    Acknowledged, Answer, Batch, BatchBuilder, ClientStream, Deliver, Frame, FrameKind, From,
    GroupId, Offset, Produced, ProducerId, Record, Request, Response, StreamEnd, Subscribe,
    TopicName, Until, decode, encode, encode_frame, limits,
};
use tokio::time::timeout;

use crate::cluster::PATIENCE;

pub(crate) struct Caller {
    pub(crate) connection: Connection,
}

impl Caller {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub(crate) async fn open(&self, stream: &ClientStream) -> (FrameWriter, FrameReader) {
        let (mut writer, reader) = self.connection.open().await.unwrap();
        let mut out = BytesMut::new();
        stream.encode(&mut out);
        writer.write(out.freeze()).await.unwrap();
        (writer, reader)
    }

    pub(crate) async fn request(&self, request: Request) -> Response {
        let (mut writer, mut reader) = self.open(&ClientStream::Requests).await;
        let mut out = BytesMut::new();
        encode_frame(FrameKind::Request, &encode(&request), &mut out);
        writer.write(out.freeze()).await.unwrap();
        let frame = next(&mut reader).await.expect("a response");
        assert_eq!(frame.kind, FrameKind::Response);
        decode("a response", &frame.payload, limits::CONTROL_BYTES_MAX).unwrap()
    }

    pub(crate) async fn produce(&self, topic: &TopicName) -> Producing {
        let topic = topic.clone();
        let (writer, reader) = self
            .open(&ClientStream::Produce { topic, epoch: None })
            .await;
        Producing {
            writer,
            reader,
            id: ProducerId(u128::from(getrandom::u64().unwrap())),
            sequence: 0,
        }
    }

    pub(crate) async fn subscribe(
        &self,
        topic: &TopicName,
        from: From,
        until: Until,
    ) -> Subscription {
        self.resume(topic, None, from, until).await
    }

    pub(crate) async fn resume(
        &self,
        topic: &TopicName,
        group: Option<GroupId>,
        from: From,
        until: Until,
    ) -> Subscription {
        let subscribe = Subscribe {
            topic: topic.clone(),
            group,
            epoch: None,
            from,
            until,
        };
        self.subscription(&ClientStream::Subscribe(subscribe)).await
    }

    /// A subscription to all that comes, if the member has few of the topic.
    pub(crate) async fn follow_if_few(&self, topic: &TopicName) -> Subscription {
        let subscribe = Subscribe {
            topic: topic.clone(),
            group: None,
            epoch: None,
            from: From::Latest,
            until: Until::Forever,
        };
        let stream = ClientStream::SubscribeIfFew(subscribe);
        self.subscription(&stream).await
    }

    async fn subscription(&self, stream: &ClientStream) -> Subscription {
        let (writer, reader) = self.open(stream).await;
        Subscription {
            reader,
            _writer: writer,
            watermark: None,
        }
    }
}

pub(crate) struct Producing {
    writer: FrameWriter,
    reader: FrameReader,
    id: ProducerId,
    sequence: u64,
}

impl Producing {
    /// Sends one batch without waiting.
    pub(crate) async fn send(&mut self, values: &[&str]) {
        let mut builder = BatchBuilder::new(256);
        for value in values {
            let record = Record {
                timestamp: 1,
                value: Bytes::copy_from_slice(value.as_bytes()),
                ..Record::default()
            };
            builder.push(&record).unwrap();
        }
        let batch = builder.finish(self.id, 0, self.sequence);
        self.sequence += values.len() as u64;
        self.send_batch(&batch).await;
    }

    pub(crate) async fn send_batch(&mut self, batch: &Batch) {
        let mut out = BytesMut::new();
        Produced::encode_header(batch, &mut out);
        let mut pieces = [out.freeze(), batch.bytes().clone()];
        self.writer.write_all(&mut pieces).await.unwrap();
    }

    pub(crate) async fn answers(&mut self) -> Vec<Answer> {
        let frame = next(&mut self.reader).await.expect("an answer");
        assert_eq!(frame.kind, FrameKind::Acknowledge);
        Acknowledged::decode(&frame).unwrap()
    }

    pub(crate) async fn end(&mut self) -> StreamEnd {
        let frame = next(&mut self.reader).await.expect("an end");
        StreamEnd::decode(&frame).unwrap()
    }

    /// Sends one batch and waits for its answer.
    pub(crate) async fn append(&mut self, values: &[&str]) -> Answer {
        self.send(values).await;
        let mut answers = self.answers().await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }
}

pub(crate) struct Subscription {
    reader: FrameReader,
    _writer: FrameWriter,
    pub(crate) watermark: Option<Offset>,
}

impl Subscription {
    /// The next records, or how it ended.
    pub(crate) async fn next(&mut self) -> Result<Vec<(Offset, String)>, StreamEnd> {
        let frame = next(&mut self.reader).await.expect("a delivery or an end");
        if frame.kind == FrameKind::End {
            return Err(StreamEnd::decode(&frame).unwrap());
        }
        let deliver = Deliver::decode(&frame).unwrap();
        self.watermark = Some(deliver.watermark);
        let mut got = Vec::new();
        for delivered in deliver.batches {
            let batch = Batch::verify(delivered.batch).unwrap();
            for (record, at) in batch.records().zip(delivered.offset.0..) {
                let value = String::from_utf8(record.unwrap().value.to_vec()).unwrap();
                got.push((Offset(at), value));
            }
        }
        Ok(got)
    }

    /// Exactly so many records more.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<(Offset, String)> {
        let mut got = Vec::new();
        while got.len() < count {
            got.extend(self.next().await.expect("more records"));
        }
        assert_eq!(got.len(), count);
        got
    }

    /// All that is still to come, and how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<(Offset, String)>, StreamEnd) {
        let mut got = Vec::new();
        loop {
            match self.next().await {
                Ok(more) => got.extend(more),
                Err(end) => return (got, end),
            }
        }
    }
}

async fn next(reader: &mut FrameReader) -> Option<Frame> {
    let frame = timeout(PATIENCE, reader.next(limits::CLIENT_FRAME_BYTES_MAX)).await;
    frame.expect("a frame in time").unwrap()
}
