//! Follows a topic from its first record on: history, then live, on one stream.
//!
//! With `kontiki dev` running in another terminal: `cargo run --example subscribe`. Append with
//! `kontiki append greetings`, kill members: it goes on without a gap. Ctrl-C ends it.

use std::{error::Error, process::ExitCode};

use kontiki_client::{Client, Context, From, Offset};

async fn subscribe() -> Result<(), Box<dyn Error>> {
    let client = Client::connect(Context::load_default()?).await?;
    let mut subscription = client.topic("greetings")?.subscribe(From::Earliest).await?;

    let mut next = None;
    while let Some(batch) = subscription.next_batch().await? {
        for delivered in batch {
            let delivered = delivered?;
            println!("{}: {}", delivered.offset, text(&delivered.record.value));

            // Offsets are dense: what comes is what is due, whoever served it.
            assert_eq!(delivered.offset, *next.get_or_insert(delivered.offset));
            next = Some(Offset(delivered.offset.0 + 1));
        }
        if subscription.is_caught_up() {
            println!("(that is all so far)");
        }
    }
    Ok(())
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = tokio::select! {
        ended = subscribe() => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
