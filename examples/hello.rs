//! The client in twenty lines; README shows this very program.
//!
//! With `kontiki dev` running in another terminal: `cargo run --example hello`

use kontiki_client::{Client, Context, From, Record, Until};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(Context::load_default()?).await?;
    let topic = client.topic("greetings")?;

    let producer = topic.producer();
    let ticket = producer.submit(Record::new("hello")).await?; // waits for room only
    let appended = producer.append(Record::new("world")).await?; // waits for the majority's disks
    println!("at {} and {}", ticket.await?.offset, appended.offset);
    producer.close().await?;

    let mut subscription = topic.subscribe(From::Earliest).until(Until::End).await?;
    while let Some(batch) = subscription.next_batch().await? {
        for delivered in batch {
            let delivered = delivered?;
            println!("{}: {:?}", delivered.offset, delivered.record.value);
        }
    }
    Ok(())
}
