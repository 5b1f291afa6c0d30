//! Lines from a file or stdin as records' values, read by a thread of its own: a line is handed on as
//! soon as it is there, many at a time when many are, and never more than a bound is in memory.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use kontiki_wire::limits::VALUE_BYTES_MAX;
use tokio::sync::mpsc;

use crate::exit::Failure;

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 << 10;
/// Blocks of lines that may wait to be appended.
const BLOCKS_WAITING_MAX: usize = 4;

/// Lines that were there together, without their ends (`\n` or `\r\n`); each shares the block's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The lines.
    pub(crate) lines: Vec<Bytes>,
    /// Bytes of the source that they took, their ends included.
    pub(crate) source_bytes: u64,
}

/// Blocks of lines, in order; the last item may be why there are no more.
pub(crate) struct Lines {
    blocks: mpsc::Receiver<Result<Block, Failure>>,
}

impl Lines {
    /// Reads `source`, called `name` in failures, on a thread of its own. The thread ends with the
    /// source, or at its next block once `self` is dropped.
    pub(crate) fn start(source: impl Read + Send + 'static, name: String) -> Result<Self, Failure> {
        let (send, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
        std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || {
                let mut splitter = Splitter::default();
                let mut source = source;
                loop {
                    let block = splitter.next(&mut source, &name);
                    let over = !matches!(block, Ok(Some(_)));
                    let gone = block
                        .transpose()
                        .is_some_and(|block| send.blocking_send(block).is_err());
                    if over || gone {
                        break;
                    }
                }
            })
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        Ok(Self { blocks })
    }

    /// The next lines, or `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Block>, Failure> {
        self.blocks.recv().await.transpose()
    }
}

/// Cuts what is read into lines.
#[derive(Default)]
struct Splitter {
    /// A line whose end has not been read yet.
    open: BytesMut,
    lines: u64,
    ended: bool,
}

impl Splitter {
    fn next(&mut self, source: &mut impl Read, name: &str) -> Result<Option<Block>, Failure> {
        while !self.ended {
            let start = self.open.len();
            self.open.resize(start + READ_BYTES, 0);
            let read = loop {
                match source.read(&mut self.open[start..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    self.ended = true;
                    return Err(Failure::new(format!("cannot read {name}: {error}")));
                }
            };
            self.open.truncate(start + read);
            self.ended = read == 0;
            let end = if self.ended {
                (!self.open.is_empty()).then_some(self.open.len())
            } else {
                self.open[start..]
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map(|at| start + at + 1)
            };
            let block = end.map(|end| self.cut(end, name)).transpose();
            if block.is_err() || self.open.len() > VALUE_BYTES_MAX + 1 {
                self.ended = true;
                return block.and_then(|_| Err(self.too_long(name, self.lines + 1)));
            }
            if let Some(block) = block? {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn cut(&mut self, end: usize, name: &str) -> Result<Block, Failure> {
        let mut left = self.open.split_to(end).freeze();
        let mut lines = Vec::new();
        while !left.is_empty() {
            let length = left
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(left.len());
            let mut line = left.split_to(length);
            if !left.is_empty() {
                let _ = left.split_to(1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
            }
            self.lines += 1;
            if line.len() > VALUE_BYTES_MAX {
                return Err(self.too_long(name, self.lines));
            }
            lines.push(line);
        }
        Ok(Block {
            lines,
            source_bytes: end as u64,
        })
    }

    fn too_long(&self, name: &str, line: u64) -> Failure {
        Failure::new(format!(
            "line {line} of {name} is longer than a record's value may be, {VALUE_BYTES_MAX} bytes"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the pieces one read at a time.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn split(pieces: &[&str]) -> (Vec<Vec<String>>, Option<String>) {
        let mut source = Pieces(
            pieces
                .iter()
                .map(|piece| piece.as_bytes().to_vec())
                .collect(),
        );
        let mut splitter = Splitter::default();
        let mut blocks = Vec::new();
        loop {
            match splitter.next(&mut source, "x") {
                Ok(Some(block)) => blocks.push(
                    block
                        .lines
                        .iter()
                        .map(|line| String::from_utf8_lossy(line).into_owned())
                        .collect(),
                ),
                Ok(None) => return (blocks, None),
                Err(failure) => return (blocks, Some(failure.to_string())),
            }
        }
    }

    #[test]
    fn lines_go_on_as_soon_as_they_are_whole() {
        let (blocks, failure) = split(&["one\ntwo\nth", "ree\n\nfour\r\n", "five"]);
        assert_eq!(failure, None);
        assert_eq!(
            blocks,
            [vec!["one", "two"], vec!["three", "", "four"], vec!["five"]]
        );
    }

    #[test]
    fn nothing_is_no_line() {
        assert_eq!(split(&[]), (vec![], None));
        assert_eq!(split(&["\n"]), (vec![vec![String::new()]], None));
    }

    #[test]
    fn a_carriage_return_without_a_line_end_is_data() {
        assert_eq!(split(&["a\rb\n", "c\r"]).0, [vec!["a\rb"], vec!["c\r"]]);
    }

    #[test]
    fn a_line_past_the_bound_is_refused_by_its_number_and_memory_stays_bounded() {
        let piece = "x".repeat(READ_BYTES);
        let mut pieces = vec!["first\n"];
        pieces.extend([piece.as_str(); 100]);
        let (blocks, failure) = split(&pieces);
        assert_eq!(blocks, [vec!["first"]]);
        assert!(failure.unwrap().starts_with("line 2 of x is longer"));
    }

    #[test]
    fn a_line_of_exactly_the_bound_passes_and_one_more_byte_does_not() {
        let most = "x".repeat(VALUE_BYTES_MAX);
        let pieces: Vec<&str> = most
            .as_bytes()
            .chunks(READ_BYTES)
            .map(|piece| std::str::from_utf8(piece).unwrap())
            .collect();
        let with = |end| [&pieces[..], &[end]].concat();
        assert_eq!(split(&with("\r\n")), (vec![vec![most.clone()]], None));
        assert_eq!(split(&pieces), (vec![vec![most.clone()]], None));
        assert!(split(&with("x\n")).1.is_some());
        assert!(split(&with("x")).1.is_some());
    }

    #[tokio::test]
    async fn the_thread_hands_on_blocks_and_the_failure() {
        let mut lines =
            Lines::start(Pieces(vec![b"a\nb\n".to_vec(), b"c".to_vec()]), "x".into()).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().source_bytes, 4);
        assert_eq!(lines.next().await.unwrap().unwrap().lines, ["c"]);
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
