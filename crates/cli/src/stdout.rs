//! Stdout for streams of records: a thread of its own writes, so that a reader that pauses (`| less`)
//! stops neither the runtime nor a Ctrl-C.

use std::{
    io::{self, Write},
    thread::JoinHandle,
};

use tokio::sync::mpsc;

use crate::exit::Failure;

/// Bytes collected before they are handed to the writing thread, unless a flush comes first.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait for the writing thread.
const CHUNKS_WAITING_MAX: usize = 4;

/// Buffered stdout. What was not flushed when it is dropped is lost: call [`Self::finish`].
pub(crate) struct Stdout {
    buffer: Vec<u8>,
    chunks: mpsc::Sender<Vec<u8>>,
    writer: JoinHandle<io::Result<()>>,
}

impl Stdout {
    /// Starts the writing thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::to(io::stdout())
    }

    fn to(mut target: impl Write + Send + 'static) -> Result<Self, Failure> {
        let (chunks, mut waiting) = mpsc::channel::<Vec<u8>>(CHUNKS_WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                while let Some(chunk) = waiting.blocking_recv() {
                    target.write_all(&chunk)?;
                    target.flush()?;
                }
                Ok(())
            })
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            buffer: Vec::with_capacity(CHUNK_BYTES),
            chunks,
            writer,
        })
    }

    /// The bytes collected so far; append to them, then call [`Self::pass`].
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Hands the bytes on if there are enough of them to be worth it.
    pub(crate) async fn pass(&mut self) -> Result<(), Failure> {
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Hands on all bytes collected so far. Waits while the writing thread is behind.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        // The thread ends early only because a write failed, and `finish` says how.
        if self.chunks.send(chunk).await.is_err() {
            Err(Failure::reader_gone())
        } else {
            Ok(())
        }
    }

    /// Writes what is left and says how the writing went.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        let _ = self.flush().await;
        drop(self.chunks);
        let writer = self.writer;
        let ended = tokio::task::spawn_blocking(move || writer.join()).await;
        match ended {
            Ok(Ok(written)) => Ok(written?),
            _ => Err(Failure::new("the thread that writes stdout died")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::exit::Exit;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn everything_arrives_in_order() {
        let target = Shared::default();
        let mut stdout = Stdout::to(target.clone()).unwrap();
        let mut expected = Vec::new();
        for number in 0..50_000_u32 {
            let line = format!("{number}\n");
            expected.extend_from_slice(line.as_bytes());
            stdout.buffer().extend_from_slice(line.as_bytes());
            stdout.pass().await.unwrap();
        }
        stdout.finish().await.unwrap();
        assert_eq!(*target.0.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_ends_it_quietly() {
        let mut stdout = Stdout::to(Closed).unwrap();
        let failure = loop {
            stdout.buffer().extend_from_slice(b"more\n");
            if let Err(failure) = stdout.flush().await {
                break failure;
            }
            tokio::task::yield_now().await;
        };
        assert!(failure.is_silent());
        assert_eq!(stdout.finish().await.unwrap_err().exit(), Exit::Done);
    }
}
