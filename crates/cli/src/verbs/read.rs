//! `kontiki read`: records out, from where one says to where one says, or on and on.

use std::{
    future::{Future, poll_fn},
    io::{self, IsTerminal},
    pin::pin,
    task::Poll,
};

use indicatif::{ProgressBar, ProgressStyle};
use kontiki_client::{
    Client, Delivered, DeliveredRecords, From as Start, Offset, SubscribeError, Subscription,
    Topic, TopicName, Until,
};
use tokio::signal::ctrl_c;

use crate::{
    exit::{Exit, Failure},
    invocation::Invocation,
    position::{parse_end, parse_start},
    stdout::Stdout,
    verbs::topic::unknown_topic,
};

mod format;

use self::format::{Format, Writer};

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
        stdout: Stdout::start()?,
        writer: Writer::new(format, io::stdout().is_terminal()),
        left: args.count.unwrap_or(u64::MAX),
        progress,
    };
    let ended = tokio::select! {
        ended = reading.run() => ended,
        _ = ctrl_c() => Ok(()),
    };
    reading.progress.finish_and_clear();
    // Why writing ended says more than that it did.
    let written = reading.stdout.finish().await;
    client.close().await;
    written.and(ended).map(|()| Exit::Done)
}

/// A run of reading.
struct Reading {
    subscription: Subscription,
    stdout: Stdout,
    writer: Writer,
    left: u64,
    progress: ProgressBar,
}

impl Reading {
    async fn run(&mut self) -> Result<(), Failure> {
        while self.left > 0 {
            match self.next_batch().await {
                Ok(Some(batch)) => self.print(batch).await?,
                Ok(None) => break,
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
        let mut printed = 0;
        for delivered in batch {
            if self.left == 0 {
                break;
            }
            let delivered: Delivered = delivered?;
            self.writer.write(&delivered, self.stdout.buffer())?;
            self.stdout.pass().await?;
            self.left -= 1;
            printed += 1;
        }
        self.progress.inc(printed);
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
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} to go",
    );
    match (end, style) {
        (Some(end), Ok(style)) => ProgressBar::new(end.saturating_sub(start)).with_style(style),
        _ => ProgressBar::hidden(),
    }
}
