//! What this machine gives at best, for every figure of Kontiki to be a share of: the disk takes the same
//! batches with one sync each, bare quinn carries the same bytes with the same settings, and both together
//! take one append after the other.
//!
//! `cargo bench --bench limits [-- disk|wire|append]`; the disk is that of TMPDIR.

mod append;
mod disk;
mod wire;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it starts.
    if args.iter().any(|arg| arg == "--test") {
        return;
    }
    let parts: [(&str, fn()); 3] = [("disk", of_disk), ("wire", of_wire), ("append", of_append)];
    let named = |part: &str| args.iter().any(|arg| arg == part);
    let all = !parts.iter().any(|(part, _)| named(part));
    for (part, measure) in parts {
        if all || named(part) {
            measure();
            println!();
        }
    }
}

/// Bytes that are written before a sync: from one record to as many as a turn takes.
const BATCHES: [usize; 4] = [1 << 10, 16 << 10, 128 << 10, 1 << 20];

fn of_disk() {
    println!(
        "the disk: batches written one after the other over a prepared file, a sync after each"
    );
    println!(
        "{:>12} {:>12} {:>9} {:>9}",
        "bytes", "MB/s", "p50 us", "p99 us"
    );
    for bytes in BATCHES {
        disk::run(bytes, 1).tell();
    }
    println!("three files at once, as three members on one disk have them: what each gets");
    for bytes in BATCHES {
        disk::run(bytes, 3).tell();
    }
}

fn of_wire() {
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

fn of_append() {
    println!("one append in flight, from a client to a member, on to two more, and back");
    for (disks, what) in [
        (true, "with a block and a sync on two of three disks"),
        (false, "without a disk"),
    ] {
        let run = append::run(disks);
        println!(
            "{:>12} us p50, {:>6} us p99, {what}",
            run.p50_us, run.p99_us
        );
    }
}
