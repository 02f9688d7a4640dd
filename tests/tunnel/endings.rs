//! A transfer of which one part is killed, each way: the receiver sees an error and never an end in
//! order. Both hops are HTTP/2, where an end is a frame and no absence of one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::hub::{Hub, Workshop};
use crate::parts;
use crate::transfer::{Direction, End, soon, take_part, target};

/// A transfer is in full swing by then: tens of megabytes.
const UNDER_WAY: Duration = Duration::from_millis(300);

const BOTH: [Direction; 2] = [Direction::Upload, Direction::Download];

/// A listener whose one connection takes part in a transfer, and says how that ended.
async fn listening(direction: Direction) -> Result<(std::net::SocketAddr, JoinHandle<End>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        match listener.accept().await {
            Ok((socket, _)) => take_part(socket, direction == Direction::Download).await,
            Err(_) => End::Cut,
        }
    });
    Ok((address, task))
}

pub(crate) fn client_killed(workshop: &Workshop) -> Result<()> {
    let hub = Hub::start(workshop, 1, 1)?;
    for direction in BOTH {
        let (address, seen) = workshop.runtime.block_on(listening(direction))?;
        let mut client = parts::client(workshop, hub.servers[0].frontend, address, direction)?;
        std::thread::sleep(UNDER_WAY);
        client.kill()?;
        let seen = workshop
            .runtime
            .block_on(soon("the target's end", seen))??;
        ensure!(seen == End::Cut, "{direction:?}: the target saw {seen:?}");
    }
    Ok(())
}

pub(crate) fn server_killed(workshop: &Workshop) -> Result<()> {
    both_ends_see_it(workshop, "the server", |hub| {
        hub.servers[0].running.kill().map(|_| ())
    })
}

pub(crate) fn agent_killed(workshop: &Workshop) -> Result<()> {
    both_ends_see_it(workshop, "the agent", |hub| {
        hub.agents[0].kill().map(|_| ())
    })
}

/// The client sees an error whoever is killed. So does the target; but the kernel of a killed agent
/// closes its socket to the target, and that is an end in order unless bytes from the target were
/// waiting there: what a killed process leaves behind is TCP's to say.
fn both_ends_see_it(
    workshop: &Workshop,
    who: &str,
    kill: fn(&mut Hub<'_>) -> Result<()>,
) -> Result<()> {
    for direction in BOTH {
        let mut hub = Hub::start(workshop, 1, 1)?;
        let dialer = workshop.dialer(hub.servers[0].frontend)?;
        let (of_client, of_target) = workshop.runtime.block_on(async {
            let (address, of_target) = listening(direction).await?;
            let stream = dialer.connect(&target(address)?).await?;
            let of_client = tokio::spawn(take_part(stream, direction == Direction::Upload));
            tokio::time::sleep(UNDER_WAY).await;
            ensure!(!of_client.is_finished(), "the transfer did not begin");
            anyhow::Ok((of_client, of_target))
        })?;
        kill(&mut hub)?;
        let (of_client, of_target) = workshop.runtime.block_on(async {
            let client = soon("the client's end", of_client).await??;
            anyhow::Ok((client, soon("the target's end", of_target).await??))
        })?;
        ensure!(
            of_client == End::Cut,
            "{who}, {direction:?}: the client saw {of_client:?}"
        );
        let may_end = who == "the agent" && direction == Direction::Upload;
        ensure!(
            may_end || of_target == End::Cut,
            "{who}, {direction:?}: the target saw {of_target:?}"
        );
    }
    Ok(())
}

/// The tunnel tells what the target's kernel tells: a process that is killed with unread bytes is a
/// reset, one that had read everything an end.
pub(crate) fn target_killed(workshop: &Workshop) -> Result<()> {
    let hub = Hub::start(workshop, 1, 1)?;
    let dialer = workshop.dialer(hub.servers[0].frontend)?;
    for (direction, expected) in [
        (Direction::Upload, End::Cut),
        (Direction::Download, End::Finished),
    ] {
        let (mut process, address) = parts::target_process(direction)?;
        let of_client = workshop.runtime.block_on(async {
            let stream = dialer.connect(&target(address)?).await?;
            let of_client = tokio::spawn(take_part(stream, direction == Direction::Upload));
            tokio::time::sleep(UNDER_WAY).await;
            anyhow::Ok(of_client)
        })?;
        process.kill()?;
        let seen = workshop
            .runtime
            .block_on(soon("the client's end", of_client))??;
        ensure!(seen == expected, "{direction:?}: the client saw {seen:?}");
    }
    Ok(())
}

/// The end of one side is that side's alone, whichever comes first.
pub(crate) fn half_closes(workshop: &Workshop) -> Result<()> {
    let hub = Hub::start(workshop, 1, 1)?;
    let dialer = workshop.dialer(hub.servers[0].frontend)?;
    workshop
        .runtime
        .block_on(async {
            for client_first in [true, false] {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let to = target(listener.local_addr()?)?;
                let mut near = dialer.connect(&to).await?;
                let (mut far, _) = soon("a connection", listener.accept()).await??;
                if client_first {
                    near.shutdown().await?;
                    let read = soon("the end", far.read(&mut [0; 1])).await??;
                    ensure!(read == 0, "more came");
                    far.write_all(b"after the end").await?;
                    far.shutdown().await?;
                } else {
                    far.shutdown().await?;
                    let read = soon("the end", near.read(&mut [0; 1])).await??;
                    ensure!(read == 0, "more came");
                    near.write_all(b"after the end").await?;
                    near.shutdown().await?;
                }
                let mut rest = String::new();
                if client_first {
                    soon("the rest", near.read_to_string(&mut rest)).await??;
                } else {
                    soon("the rest", far.read_to_string(&mut rest)).await??;
                }
                ensure!(rest == "after the end", "{rest:?} arrived");
            }
            anyhow::Ok(())
        })
        .context("half-close")
}
