//! What this machine gives at best, for every figure of Kontiki to be a share of: the disk takes the same
//! batches with one sync each, and bare quinn carries the same bytes with the same settings.
//!
//! `cargo bench --bench limits`; the disk is that of TMPDIR.

mod disk;
mod wire;

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    println!(
        "the disk: batches written one after the other over a prepared file, a sync after each"
    );
    println!(
        "{:>12} {:>12} {:>9} {:>9}",
        "bytes", "MB/s", "p50 us", "p99 us"
    );
    for bytes in [1 << 10, 16 << 10, 128 << 10, 1 << 20] {
        let run = disk::run(bytes);
        println!(
            "{bytes:>12} {:>12.1} {:>9} {:>9}",
            run.megabytes_per_second, run.p50_us, run.p99_us
        );
    }
    println!();
    println!("the wire: bare quinn, mutual TLS, a thread for each end");
    let one = wire::relay(0);
    println!("{one:>12.1} MB/s from a client to a member");
    let three = wire::relay(2);
    println!(
        "{three:>12.1} MB/s from a client to a member and on to two more, as a replicated record goes"
    );
    for readers in [1, 10, 100] {
        let rate = wire::fan_out(readers);
        println!("{rate:>12.1} MB/s in all to {readers} subscribers, a connection each");
    }
}
