//! How fast one thread can submit: encoding into the open batch and a ticket for each record, with
//! nothing taken out meanwhile. `cargo bench -p kontiki-client --bench submit`

#![allow(clippy::unwrap_used, reason = "a bench has nobody to tell")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_client::{Client, ConnectOptions, Producer, ProducerConfig, Record, Ticket};
use kontiki_transport::{Authority, Identity, Role};
use kontiki_wire::ClusterId;

/// Bytes of values in a round: little enough that memory is not what is measured.
const ROUND_BYTES: usize = 32 << 20;
const ROUNDS: usize = 5;
const BUFFER_BYTES: usize = 1 << 30;

fn client() -> Client {
    let day = Duration::from_secs(86_400);
    let authority = Authority::new("bench", day).unwrap();
    let identity = Identity::new(ClusterId(1), Role::Producer, "bench").unwrap();
    let issued = authority.issue(&identity, day).unwrap();
    let options = ConnectOptions::new(["127.0.0.1:1"])
        .identity_pem(issued.certificate_pem, issued.key_pem)
        .ca_pem(authority.certificate_pem());
    Client::lazy(options).unwrap()
}

fn producer(client: &Client) -> Producer {
    let config = ProducerConfig::new().buffer_bytes(BUFFER_BYTES);
    client.topic("t").unwrap().producer_with(config).unwrap()
}

/// The sender's task does not run while these do: nothing yields.
fn measure(what: &str, bytes: usize, mut submit: impl FnMut(Record) -> Option<Ticket>) -> f64 {
    let value = Bytes::from(vec![7; bytes]);
    let records = ROUND_BYTES / bytes;
    let mut tickets = Vec::with_capacity(records);
    let begun = Instant::now();
    for _ in 0..records {
        let record = Record {
            value: value.clone(),
            ..Record::default()
        };
        tickets.push(submit(record));
    }
    let per_second = records as f64 / begun.elapsed().as_secs_f64();
    assert!(tickets.iter().all(Option::is_some), "{what}");
    per_second
}

fn report(what: &str, bytes: usize, round: impl Fn() -> f64) {
    let mut rates: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{what:<22} {bytes:>5} B  {:>6.2} M records/s (median of {ROUNDS})",
        rates[ROUNDS / 2] / 1e6
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for bytes in [16, 100, 500] {
            report("try_submit", bytes, || {
                let producer = producer(&client());
                measure("try_submit", bytes, |record| {
                    producer.try_submit(record).ok()
                })
            });
            report("submit, ready at once", bytes, || {
                let producer = producer(&client());
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                measure("submit", bytes, |record| {
                    let mut submit = std::pin::pin!(producer.submit(record));
                    match submit.as_mut().poll(&mut context) {
                        std::task::Poll::Ready(ticket) => ticket.ok(),
                        std::task::Poll::Pending => None,
                    }
                })
            });
        }
    });
}
