//! Many connections and many bytes: that all of them arrive as they were sent.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cluster_proxy_testkit::konnectivity::DialingClient;

use crate::cell::Tunnel;
use crate::event::{asked, client_sight};
use crate::outcome::{Observed, OtherWay, Outcome, Sight};
use crate::target::{PATIENCE, Target};

/// How many short connections a cell has: 10,000 with `CLUSTER_PROXY_LONG=1`.
pub(crate) fn short_ones() -> u64 {
    if std::env::var_os("CLUSTER_PROXY_LONG").is_some() {
        10_000
    } else {
        1_000
    }
}

pub(crate) const BULK: usize = 16 * 1024 * 1024;

/// For all of the short connections, or all bytes.
pub(crate) const LOAD_LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn short_connections(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let target = Target::new()?.serve(|mut connection| {
        let mut buffer = [0; 64];
        loop {
            match connection.stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => connection.write(&buffer[..length])?,
            }
        }
    });
    let began = Instant::now();
    let mut command = tunnel.client("many");
    command
        .arg("--parallel=4")
        .arg(short_ones().to_string())
        .arg(target.address.to_string());
    // It writes one line when it is done.
    let mut client = DialingClient::start(command)?;
    let said = client.read_to_end(LOAD_LIMIT)?;
    let took = began.elapsed();
    let result: serde_json::Value = serde_json::from_slice(&said).context("no result")?;
    let done = result["ok"].as_u64().unwrap_or_default();
    let raced = result["failed"][RACED].as_u64().unwrap_or_default();
    let ok = done + raced;
    ensure!(ok == short_ones() && raced <= MOST_RACED, "{result}");
    all_served(target.address, || target.served())?;
    Ok(Observed {
        outcome: Outcome::Moved(ok),
        took,
    })
}

/// Go's gRPC client waits for the answer to its close and for the end of its stream, which follows:
/// where it sees both at once it takes either, by chance. All bytes have come by then.
const RACED: &str = "close: tunnel closed";
const MOST_RACED: u64 = 5;

/// Waits until the target has seen the end of each short connection: none may be left behind.
pub(crate) fn all_served(address: SocketAddr, served: impl Fn() -> u64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while served() < short_ones() {
        if Instant::now() > end {
            bail!("{address}: the target saw {} connections end", served());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub(crate) fn bulk(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, connection) = asked(tunnel, "half-close")?;
    let (there, back) = (pattern(1, BULK), pattern(2, BULK));
    let began = Instant::now();
    // It stays open until all has come back: a client without half-close would cut it.
    let mut input = client.take_input().context("no input")?;
    let mut reading = connection.stream.try_clone()?;
    let mut writing = connection;
    let got_there = std::thread::scope(|scope| -> Result<Vec<u8>> {
        let sending = scope.spawn(|| input.write_all(&there));
        let answering = scope.spawn(|| writing.write(&back));
        let receiving = scope.spawn(move || {
            let mut got = vec![0; BULK];
            reading.read_exact(&mut got).map(|()| got)
        });
        let got_back = client.read(BULK, LOAD_LIMIT);
        let got_there = receiving.join().map_err(|_| anyhow!("a panic"))?;
        if got_back.is_err() || got_there.is_err() {
            // Its end lets go of whoever still writes to it.
            client.kill()?;
        }
        let sent = sending.join().map_err(|_| anyhow!("a panic"))?;
        let answered = answering.join().map_err(|_| anyhow!("a panic"))?;
        ensure!(got_back? == back, "what came back differs");
        let got_there = got_there.context("the target's read")?;
        sent.context("the client's input")?;
        answered?;
        Ok(got_there)
    })?;
    ensure!(got_there == there, "what got there differs");
    Ok(Observed {
        outcome: Outcome::Moved(BULK as u64),
        took: began.elapsed(),
    })
}

/// Bytes that repeat nowhere near (xorshift), so that a piece lost, doubled or moved shows.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

pub(crate) fn last_bytes_there(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "close")?;
    let sent = pattern(4, LAST_BYTES);
    let began = Instant::now();
    let mut input = client.take_input().context("no input")?;
    let bytes = sent.as_slice();
    let (got, sees) = std::thread::scope(|scope| -> Result<_> {
        let sending = scope.spawn(move || {
            let written = input.write_all(bytes);
            drop(input);
            written
        });
        let seen = connection.watch();
        if seen.1 != Sight::End {
            // Its end lets go of whoever still writes to it.
            client.kill()?;
        }
        sending.join().map_err(|_| anyhow!("a panic"))??;
        Ok(seen)
    })?;
    Ok(Observed {
        outcome: last_bytes(&sent, &got, &sees),
        took: began.elapsed(),
    })
}

pub(crate) fn last_bytes_back(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (mut client, mut connection) = asked(tunnel, "half-close")?;
    let sent = pattern(5, LAST_BYTES);
    let began = Instant::now();
    connection.write(&sent)?;
    drop(connection);
    let got = client.read_to_end(PATIENCE)?;
    let sees = client_sight(&mut client)?;
    Ok(Observed {
        outcome: last_bytes(&sent, &got, &sees),
        took: began.elapsed(),
    })
}

/// More than all queues on the way hold, so that some are still under way at the end.
pub(crate) const LAST_BYTES: usize = 1024 * 1024;

fn last_bytes(sent: &[u8], got: &[u8], sees: &Sight) -> Outcome {
    match sees {
        Sight::End if got == sent => Outcome::Moved(sent.len() as u64),
        Sight::End if sent.starts_with(got) => Outcome::CutShort,
        sees => Outcome::ended(None, sees.clone(), OtherWay::NotTried),
    }
}
