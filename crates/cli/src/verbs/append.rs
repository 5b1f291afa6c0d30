//! `kontiki append`: lines in, records out, as many on their way as the producer's buffer holds.

use std::{
    collections::VecDeque,
    fs::File,
    future::{Future, poll_fn},
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    pin::Pin,
    task::Poll,
};

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    lines::{Block, Lines},
    output::{Counted, bytes_bar},
    signals::Signals,
    verbs::topic::unknown_topic,
};
use bytes::Bytes;
use indicatif::ProgressBar;
use kontiki_client::{AppendError, Appended, Header, Producer, Record, Ticket, TopicName};
use serde::Serialize;

/// Records that may wait for their acknowledgement; the producer bounds their bytes besides.
const TICKETS_MAX: usize = 64 << 10;
/// Files from this size on get a progress bar.
const PROGRESS_BYTES_MIN: u64 = 4 << 20;

/// What to append, and where
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic; in a cluster of `kontiki dev` it is made on first use
    topic: TopicName,

    /// Read lines from this file instead of stdin
    #[arg(short, long)]
    file: Option<PathBuf>,

    /// Give every record this key
    #[arg(short, long)]
    key: Option<String>,

    /// Give every record this header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<Header>,
}

/// What came of it; the names are part of the command line's contract.
#[derive(Serialize)]
struct Summary<'a> {
    topic: &'a str,
    first_offset: Option<u64>,
    last_offset: Option<u64>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Does it.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    let source = Source::open(args.file.as_deref(), invocation)?;
    let mut lines = Lines::start(source.reader, source.name.clone())?;
    let client = invocation.connect().await?;
    let template = Record {
        timestamp: 0,
        key: args.key.map(Bytes::from),
        headers: args.headers,
        value: Bytes::new(),
    };
    let mut appending = Appending {
        producer: client.topic(args.topic.as_str())?.producer(),
        template,
        waiting: VecDeque::new(),
        tally: Tally::default(),
        progress: source.progress,
    };
    let read = appending.run(&mut lines).await;
    appending.progress.finish_and_clear();
    let tally = appending.tally;
    let ended = match tally.failure {
        Some((1, AppendError::NoSuchTopic { .. })) => {
            Err(unknown_topic(&client, &args.topic).await)
        }
        Some((line, ref error)) => Err(Failure::from(error.clone()).within(|error| {
            format!(
                "line {line} of {} was not acknowledged: {error}",
                source.name
            )
        })),
        None => read,
    };
    report(&args.topic, &tally, ended.as_ref().err(), invocation)?;
    leave(&client).await;
    ended.map(|()| Exit::Done)
}

/// Says what was acknowledged: as data if that was asked for, in a sentence otherwise.
fn report(
    topic: &TopicName,
    tally: &Tally,
    failure: Option<&Failure>,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let summary = Summary {
        topic: topic.as_str(),
        first_offset: tally.first,
        last_offset: tally.last,
        count: tally.count,
        error: failure.map(ToString::to_string),
    };
    if invocation.output.json() {
        return invocation.output.say(&summary, |_| String::new());
    }
    let count = Counted(tally.count, "record");
    match (tally.first, tally.last) {
        (Some(first), Some(last)) if first == last => {
            invocation
                .output
                .note(format_args!("appended {count} to {topic}, offset {first}"));
        }
        (Some(first), Some(last)) => {
            invocation.output.note(format_args!(
                "appended {count} to {topic}, offsets {first} to {last}"
            ));
        }
        _ if failure.is_some() => invocation
            .output
            .note(format_args!("appended nothing to {topic}")),
        _ => invocation
            .output
            .note("there was nothing to append: the input is empty"),
    }
    Ok(())
}

/// Where lines come from.
struct Source {
    name: String,
    reader: Box<dyn Read + Send>,
    progress: ProgressBar,
}

impl Source {
    fn open(file: Option<&Path>, invocation: &Invocation) -> Result<Self, Failure> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            if io::stdin().is_terminal() && io::stderr().is_terminal() {
                invocation
                    .output
                    .note("type records, one a line; Ctrl-D ends");
            }
            return Ok(Self {
                name: "stdin".into(),
                reader: Box::new(io::stdin()),
                progress: ProgressBar::hidden(),
            });
        };
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Failure::new(format!("cannot read {name}: {error}"));
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Failure::new(format!(
                "{name} is a folder; name a file of lines"
            )));
        }
        let watched = invocation.output.progress() && metadata.len() >= PROGRESS_BYTES_MIN;
        let progress = if watched {
            bytes_bar(metadata.len())
        } else {
            ProgressBar::hidden()
        };
        Ok(Self {
            name,
            reader: Box::new(file),
            progress,
        })
    }
}

/// What was answered, in the order of the input.
#[derive(Default)]
struct Tally {
    /// Records acknowledged.
    count: u64,
    first: Option<u64>,
    last: Option<u64>,
    /// Answers of both kinds, which is the number of the last line answered.
    answers: u64,
    /// The first line that was not acknowledged, and why.
    failure: Option<(u64, AppendError)>,
}

impl Tally {
    fn add(&mut self, answer: Result<Appended, AppendError>) {
        self.answers += 1;
        match answer {
            Ok(appended) => {
                self.count += 1;
                self.first.get_or_insert(appended.offset.0);
                self.last = Some(appended.offset.0);
            }
            Err(error) => self.fail(self.answers, error),
        }
    }

    fn fail(&mut self, line: u64, error: AppendError) {
        if self.failure.as_ref().is_none_or(|(first, _)| line < *first) {
            self.failure = Some((line, error));
        }
    }
}

/// A run of appending.
struct Appending {
    producer: Producer,
    template: Record,
    /// Submitted and not answered, in order; with each the bytes of input that it stands for.
    waiting: VecDeque<(Ticket, u64)>,
    tally: Tally,
    progress: ProgressBar,
}

/// How far the submitting of a block came.
enum Submitted {
    All,
    Refused,
    Interrupted,
}

impl Appending {
    /// Appends all lines. A record that fails, or being interrupted, ends the reading; what is on its
    /// way by then is waited for and counts, unless one is interrupted again.
    async fn run(&mut self, lines: &mut Lines) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let mut outcome = Ok(());
        let mut reading = true;
        while reading || !self.waiting.is_empty() {
            let interrupted = tokio::select! {
                biased;
                () = signals.next() => true,
                () = answered(&mut self.waiting, &mut self.tally, &self.progress), if !self.waiting.is_empty() => {
                    reading &= self.tally.failure.is_none();
                    false
                }
                block = lines.next(), if reading && self.waiting.len() < TICKETS_MAX => match block {
                    Ok(Some(block)) => match self.submit(block, &mut signals).await {
                        Submitted::All => false,
                        Submitted::Refused => {
                            reading = false;
                            false
                        }
                        Submitted::Interrupted => true,
                    },
                    Ok(None) => {
                        reading = false;
                        false
                    }
                    Err(failure) => {
                        (reading, outcome) = (false, Err(failure));
                        false
                    }
                },
            };
            if interrupted {
                outcome = Err(self.interrupted());
                if !std::mem::take(&mut reading) {
                    break;
                }
            }
        }
        outcome
    }

    fn interrupted(&self) -> Failure {
        let failure = Failure::new("interrupted before the end of the input");
        match self.waiting.len() as u64 {
            0 => failure,
            count => failure.advise(format!(
                "{} that had no answer by then may be there or not",
                Counted(count, "record")
            )),
        }
    }

    async fn submit(&mut self, block: Block, signals: &mut Signals) -> Submitted {
        let mut bytes = block.source_bytes;
        for line in block.lines {
            let record = Record {
                value: line,
                ..self.template.clone()
            };
            let submitted = tokio::select! {
                biased;
                submitted = self.producer.submit(record) => submitted,
                () = signals.next() => return Submitted::Interrupted,
            };
            match submitted {
                Ok(ticket) => self.waiting.push_back((ticket, std::mem::take(&mut bytes))),
                Err(error) => {
                    let line = self.tally.answers + self.waiting.len() as u64 + 1;
                    self.tally.fail(line, error);
                    return Submitted::Refused;
                }
            }
        }
        Submitted::All
    }
}

/// Waits for the answer to the oldest waiting record, and takes all that have come. Cancel-safe.
async fn answered(
    waiting: &mut VecDeque<(Ticket, u64)>,
    tally: &mut Tally,
    progress: &ProgressBar,
) {
    poll_fn(|context| {
        let mut some = false;
        while let Some((ticket, bytes)) = waiting.front_mut() {
            let Poll::Ready(answer) = Pin::new(ticket).poll(context) else {
                break;
            };
            progress.inc(*bytes);
            waiting.pop_front();
            tally.add(answer);
            some = true;
        }
        if some { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// `NAME=VALUE`.
fn parse_header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Header {
            name: name.to_owned(),
            value: Bytes::from(value.to_owned()),
        }),
        _ => Err(format!("{text:?} is no header; write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_client::Offset;

    use super::*;

    #[test]
    fn headers_are_split_at_the_first_equals_sign() {
        let header = parse_header("trace=a=b").unwrap();
        assert_eq!(
            (header.name.as_str(), &header.value[..]),
            ("trace", &b"a=b"[..])
        );
        assert_eq!(parse_header("empty=").unwrap().value, Bytes::new());
        for wrong in ["trace", "=b", ""] {
            assert!(parse_header(wrong).unwrap_err().contains("NAME=VALUE"));
        }
    }

    #[test]
    fn a_tally_names_the_first_line_that_failed_and_counts_those_after_it() {
        let appended = |offset| {
            Ok(Appended {
                offset: Offset(offset),
                timestamp: 0,
            })
        };
        let mut tally = Tally::default();
        tally.add(appended(7));
        tally.fail(4, AppendError::Closed);
        tally.add(Err(AppendError::BufferFull));
        tally.add(appended(9));
        assert_eq!(
            (tally.count, tally.first, tally.last),
            (2, Some(7), Some(9))
        );
        assert!(matches!(tally.failure, Some((2, AppendError::BufferFull))));
    }
}
