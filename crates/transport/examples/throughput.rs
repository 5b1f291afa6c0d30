//! What the two planes carry over loopback, one process a side: bulk, ping, and pipelined requests.
//!
//! `cargo run --release -p kontiki-transport --example throughput [MIB]`

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use kontiki_transport::{
    Authority, Connection, Credentials, Endpoint, Expect, FrameReader, FrameWriter, Identity,
    Plane, Role,
};
use kontiki_wire::{ClusterId, FrameKind, encode_frame, limits::CLIENT_FRAME_BYTES_MAX};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const HOUR: Duration = Duration::from_secs(3_600);
const PINGS: usize = 5_000;
const REQUESTS: usize = 200_000;
const IN_FLIGHT: usize = 256;
const MIB: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("serve") {
        return serve().await;
    }
    let mib: usize = argument.map_or(Ok(1_024), |text| text.parse())?;
    for plane in [Plane::Clients, Plane::Peers] {
        let (mut there, address, own) = start(plane)?;
        let dialer = Endpoint::dialer(plane, &own)?;
        let connection = dialer.connect(address, Expect::AnyNode).await?;
        let ping = pings(&connection).await?;
        println!(
            "{plane:?}: ping of 64 B: p50 {:?}, p99 {:?}",
            ping.0, ping.1
        );
        for frame in [256 << 10, 16 << 10, 1 << 10] {
            bulk(&connection, mib, frame).await?;
        }
        pipelined(&connection).await?;
        dialer.close("done").await;
        there.wait()?;
    }
    Ok(())
}

/// Starts the other process and gives it its certificate by its standard input.
fn start(plane: Plane) -> Outcome<(Child, SocketAddr, Credentials)> {
    let nodes = Authority::new("nodes", HOUR)?;
    let clients = Authority::new("clients", HOUR)?;
    let name = |role, name| Identity::new(ClusterId(1), role, name);
    let leaf = nodes.issue(&name(Role::Node, "n1")?, HOUR)?;
    let mine = match plane {
        Plane::Peers => nodes.issue(&name(Role::Node, "n2")?, HOUR)?,
        Plane::Clients => clients.issue(&name(Role::Operator, "bench")?, HOUR)?,
    };
    let own = Credentials::from_pem(
        &mine.certificate_pem,
        &mine.key_pem,
        nodes.certificate_pem(),
        clients.certificate_pem(),
    )?;
    let mut there = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let texts = [
        format!("{plane:?}"),
        leaf.certificate_pem,
        leaf.key_pem,
        nodes.certificate_pem().to_owned(),
        clients.certificate_pem().to_owned(),
    ];
    let mut stdin = there.stdin.take().ok_or("no standard input")?;
    stdin.write_all(texts.join("|").as_bytes())?;
    drop(stdin);
    let mut line = String::new();
    BufReader::new(there.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
    Ok((there, line.trim().parse()?, own))
}

/// The other process: a frame without a payload asks for the processor time, one that begins with 0
/// is swallowed, any other is answered.
async fn serve() -> Outcome<()> {
    let mut texts = String::new();
    std::io::stdin().read_to_string(&mut texts)?;
    let texts: Vec<_> = texts.split('|').collect();
    let [plane, leaf, key, nodes, clients] = texts.as_slice() else {
        return Err("five texts are needed".into());
    };
    let plane = match *plane {
        "Peers" => Plane::Peers,
        _ => Plane::Clients,
    };
    let own = Credentials::from_pem(leaf, key, nodes, clients)?;
    let endpoint = Endpoint::listen(([127, 0, 0, 1], 0).into(), plane, &own)?;
    println!("{}", endpoint.local_address());
    let connection = endpoint.accept().await.ok_or("closed")?;
    while let Ok((writer, reader)) = connection.accept().await {
        answer(writer, reader).await?;
    }
    // The dialer has closed.
    Ok(())
}

async fn answer(mut writer: FrameWriter, mut reader: FrameReader) -> Outcome<()> {
    let mut out = BytesMut::new();
    while let Ok(Some(first)) = reader.next(CLIENT_FRAME_BYTES_MAX).await {
        let mut next = Some(first);
        while let Some(frame) = next {
            match frame.payload.first() {
                None => {
                    let seconds = processor_seconds()?.to_string();
                    encode_frame(FrameKind::Response, seconds.as_bytes(), &mut out);
                }
                Some(0) => {}
                Some(_) => encode_frame(FrameKind::Response, &frame.payload[..64], &mut out),
            }
            next = reader.ready(CLIENT_FRAME_BYTES_MAX)?;
        }
        if !out.is_empty() {
            writer.write(out.split().freeze()).await?;
        }
    }
    writer.finish();
    Ok(())
}

fn frame(first: u8, bytes: usize) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(FrameKind::Request, &vec![first; bytes], &mut out);
    out.freeze()
}

async fn pings(connection: &Connection) -> Outcome<(Duration, Duration)> {
    let (mut writer, mut reader) = connection.open().await?;
    let ping = frame(1, 64);
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let start = Instant::now();
        writer.write(ping.clone()).await?;
        reader.next(MIB).await?.ok_or("the end")?;
        times.push(start.elapsed());
    }
    writer.finish();
    times.sort();
    Ok((times[PINGS / 2], times[PINGS * 99 / 100]))
}

async fn bulk(connection: &Connection, mib: usize, bytes: usize) -> Outcome<()> {
    let (mut writer, mut reader) = connection.open().await?;
    let joined = {
        let one = frame(0, bytes);
        let mut out = BytesMut::new();
        while out.len() < 64 << 10 {
            out.extend_from_slice(&one);
        }
        out.freeze()
    };
    let asked = frame(0, 0);
    writer.write(asked.clone()).await?;
    let there = seconds(&mut reader).await?;
    let (here, start) = (processor_seconds()?, Instant::now());
    let mut sent = 0;
    while sent < mib * MIB {
        writer.write(joined.clone()).await?;
        sent += joined.len();
    }
    writer.write(asked).await?;
    let there = seconds(&mut reader).await? - there;
    let (elapsed, here) = (start.elapsed().as_secs_f64(), processor_seconds()? - here);
    writer.finish();
    let gib = sent as f64 / (1 << 30) as f64;
    println!(
        "  frames of {bytes} B: {:.0} MB/s, CPU s/GiB {:.2} sending, {:.2} receiving, payload {} B",
        sent as f64 / elapsed / 1e6,
        here / gib,
        there / gib,
        connection.payload_bytes(),
    );
    Ok(())
}

async fn pipelined(connection: &Connection) -> Outcome<()> {
    let (mut writer, mut reader) = connection.open().await?;
    let request = frame(1, 1_024);
    let (mut sent, mut answered) = (0, 0);
    let start = Instant::now();
    while answered < REQUESTS {
        let mut out = BytesMut::new();
        while sent < REQUESTS && sent - answered < IN_FLIGHT {
            out.extend_from_slice(&request);
            sent += 1;
        }
        if !out.is_empty() {
            writer.write(out.freeze()).await?;
        }
        reader.next(MIB).await?.ok_or("the end")?;
        answered += 1;
        while reader.ready(MIB)?.is_some() {
            answered += 1;
        }
    }
    writer.finish();
    let rate = REQUESTS as f64 / start.elapsed().as_secs_f64();
    println!("  requests of 1 KiB, {IN_FLIGHT} in flight: {rate:.0} a second");
    Ok(())
}

async fn seconds(reader: &mut FrameReader) -> Outcome<f64> {
    let frame = reader.next(MIB).await?.ok_or("the end")?;
    Ok(std::str::from_utf8(&frame.payload)?.parse()?)
}

/// Processor time of this process, user and system, in the kernel's ticks of 10 ms.
fn processor_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().ok_or("no name in stat")?;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Outcome<u64> { Ok(fields.get(at).ok_or("a short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) as f64 / 100.0)
}
