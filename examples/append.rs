//! Appends to a topic: one record at a time, then many at once.
//!
//! With `kontiki dev` running in another terminal: `cargo run --example append`

use std::{error::Error, process::ExitCode};

use kontiki_client::{Client, Context, Record};

async fn append() -> Result<(), Box<dyn Error>> {
    let client = Client::connect(Context::load_default()?).await?;
    let producer = client.topic("greetings")?.producer();

    // The plain way: wait until the record is on the disks of a majority.
    let appended = producer.append(Record::new("hello")).await?;
    println!("hello is at offset {}", appended.offset);

    // The fast way: submitting waits for room only, and a ticket says how each record fared. What
    // gathers while earlier batches are on their way travels together.
    let mut tickets = Vec::new();
    for number in 0..1000 {
        tickets.push(
            producer
                .submit(Record::new(format!("hello {number}")))
                .await?,
        );
    }
    let mut last = appended;
    for ticket in tickets {
        last = ticket.await?;
    }
    println!(
        "a thousand more are there, the last at offset {}",
        last.offset
    );

    producer.close().await?;
    client.close().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match append().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
