//! `kontiki read`: records out, from where one says to where one says, or on and on.

use std::{
    future::{Future, poll_fn},
    io::{self, IsTerminal},
    pin::pin,
    task::Poll,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use kontiki_client::{
    Client, Delivered, DeliveredRecords, From as Start, Offset, SubscribeError, Subscription,
    Topic, TopicName, Until,
};
use tokio::{signal::ctrl_c, time::timeout};

use crate::{
    exit::{Exit, Failure},
    invocation::{Invocation, leave},
    output::Output,
    position::{parse_end, parse_start},
    stdout::Stdout,
    verbs::topic::unknown_topic,
};

mod format;

use self::format::{Format, Writer};

/// How long what was read already may take to be written after an interruption.
const INTERRUPTED_FLUSH: Duration = Duration::from_millis(200);

/// What to read
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kontiki read orders                          all there is, then end
  kontiki read orders --from latest -f         what comes, until Ctrl-C
  kontiki read orders --from -10               the last ten
  kontiki read orders --from -15m --until end  the last quarter of an hour
  kontiki read orders --from 2026-03-01 -n 1   the first record of that day
  kontiki read orders --format json | jq .value")]
pub(crate) struct Args {
    /// The topic
    topic: TopicName,

    /// Where to begin: earliest, latest, an offset, -N for the last N, or a time
    /// (2026-03-01T12:00:00Z, 2026-03-01, -15m, -1h30m), by the clock of the topic's leader
    #[arg(
        long,
        value_name = "START",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = parse_start)]
    from: Start,

    /// Where to end, itself not included: end (as it is at the start), an offset, or a time
    #[arg(
        long,
        value_name = "END",
        default_value = "end",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = parse_end, conflicts_with = "follow")]
    until: Until,

    /// End after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,

    /// Follow: do not end, wait for what comes
    #[arg(short, long)]
    follow: bool,

    /// How to print records: text is the value and a line end, raw the value alone, json an object a
    /// line {offset, timestamp, key, headers, value}
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Does it. Being interrupted is an ordinary end.
pub(crate) async fn run(args: Args, invocation: &Invocation) -> Result<Exit, Failure> {
    check_order(args.from, args.until)?;
    let client = invocation.connect().await?;
    let until = if args.follow {
        Until::Forever
    } else {
        args.until
    };
    let topic = client.topic(args.topic.as_str())?;
    let subscription = match topic.subscribe(args.from).until(until).await {
        Err(SubscribeError::NoSuchTopic { .. }) => {
            return Err(unknown_topic(&client, &args.topic).await);
        }
        begun => begun?,
    };
    let format = if invocation.output.json() {
        Format::Json
    } else {
        args.format
    };
    let watched = !args.follow && invocation.output.progress() && !io::stdout().is_terminal();
    let progress = if watched {
        progress(&client, &topic, &subscription, until).await
    } else {
        ProgressBar::hidden()
    };
    let mut reading = Reading {
        subscription,
        follow: args.follow,
        stdout: Stdout::start()?,
        writer: Writer::new(format, io::stdout().is_terminal()),
        printed: 0,
        most: args.count.unwrap_or(u64::MAX),
        progress,
        output: invocation.output,
    };
    let ended = tokio::select! {
        ended = reading.run() => Some(ended),
        _ = ctrl_c() => None,
    };
    reading.progress.finish_and_clear();
    let printed = reading.printed;
    let Some(ended) = ended else {
        // Who interrupts does not wait for a reader that pauses.
        let _ = timeout(INTERRUPTED_FLUSH, reading.stdout.finish()).await;
        leave(&client).await;
        return Ok(Exit::Done);
    };
    // Why writing ended says more than that it did.
    reading.stdout.finish().await.and(ended)?;
    if printed == 0 && !args.follow && args.count != Some(0) {
        say_why_nothing(&client, &args, invocation.output).await?;
    }
    leave(&client).await;
    Ok(Exit::Done)
}

/// An end before the beginning is a slip.
fn check_order(from: Start, until: Until) -> Result<(), Failure> {
    let backwards = match (from, until) {
        (Start::Offset(from), Until::Offset(until)) => from > until,
        (Start::Time(from), Until::Time(until)) => from > until,
        _ => false,
    };
    if backwards {
        return Err(Failure::usage(
            "--until lies before --from, so there is nothing between",
        ));
    }
    Ok(())
}

/// A reader who gets nothing wants to know whether that is right.
async fn say_why_nothing(client: &Client, args: &Args, output: Output) -> Result<(), Failure> {
    let info = client.admin().describe_topic(&args.topic).await?;
    let (topic, first, next) = (&args.topic, info.first.0, info.next.0);
    match args.from {
        Start::Offset(Offset(from)) if from > next => {
            return Err(Failure::new(format!(
                "offset {from} lies beyond the end of {topic}, which has the offsets from {first} up to {next}"
            ))
            .advise("add -f to wait for it"));
        }
        _ if first == next => output.note(format_args!("{topic} is empty")),
        Start::Latest => output.note(format_args!(
            "latest is the end of {topic}, offset {next}; add -f to wait for what comes"
        )),
        _ => output.note(format_args!(
            "{topic} has nothing there; it has the offsets from {first} up to {next}"
        )),
    }
    Ok(())
}

/// A run of reading.
struct Reading {
    subscription: Subscription,
    follow: bool,
    stdout: Stdout,
    writer: Writer,
    printed: u64,
    most: u64,
    progress: ProgressBar,
    output: Output,
}

impl Reading {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut waiting = false;
        while self.printed < self.most {
            match self.next_batch().await {
                Ok(Some(batch)) => {
                    waiting = false;
                    self.print(batch).await?;
                }
                Ok(None) => break,
                // Who follows waits, however long nobody serves.
                Err(error) if self.follow && error.is_retryable() => {
                    if !waiting {
                        let waits = |error: &str| format!("{error}; waiting until that changes");
                        self.output.note(Failure::from(error).within(waits));
                    }
                    waiting = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next records. What was printed before is flushed when they are not there already.
    async fn next_batch(&mut self) -> Result<Option<DeliveredRecords>, SubscribeError> {
        let mut next = pin!(self.subscription.next_batch());
        let ready = poll_fn(|context| match next.as_mut().poll(context) {
            Poll::Ready(batch) => Poll::Ready(Some(batch)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(batch) = ready.await {
            return batch;
        }
        // A reader that is gone is noticed at the next write.
        let _ = self.stdout.flush().await;
        next.await
    }

    async fn print(&mut self, batch: DeliveredRecords) -> Result<(), Failure> {
        let before = self.printed;
        for delivered in batch {
            if self.printed == self.most {
                break;
            }
            let delivered: Delivered = delivered?;
            self.writer.write(&delivered, self.stdout.buffer())?;
            self.stdout.pass().await?;
            self.printed += 1;
        }
        self.progress.inc(self.printed - before);
        Ok(())
    }
}

/// A bar from here to the end offset, if both are known.
async fn progress(
    client: &Client,
    topic: &Topic,
    subscription: &Subscription,
    until: Until,
) -> ProgressBar {
    let end = match until {
        Until::Offset(Offset(end)) => Some(end),
        Until::End => client
            .admin()
            .describe_topic(topic.name())
            .await
            .ok()
            .map(|info| info.next.0),
        _ => None,
    };
    let start = subscription.position().map_or(0, |offset| offset.0);
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records, {eta} to go");
    match (end, style) {
        (Some(end), Ok(style)) => ProgressBar::new(end.saturating_sub(start)).with_style(style),
        _ => ProgressBar::hidden(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_before_the_beginning_is_refused() {
        let offsets = |from, until| {
            check_order(Start::Offset(Offset(from)), Until::Offset(Offset(until))).is_ok()
        };
        assert!(offsets(3, 4) && offsets(3, 3) && !offsets(4, 3));
        assert!(check_order(Start::Time(2), Until::Time(1)).is_err());
        assert!(check_order(Start::Latest, Until::Offset(Offset(0))).is_ok());
    }
}
