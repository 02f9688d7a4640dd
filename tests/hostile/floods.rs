//! Floods of frames: by an agent, which is the HTTP/2 server of its lane, and by a client of the
//! frontend port. Each costs the server little memory and its own connection at most; others go on.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_testkit::process_usage::{cpu_seconds, forget_peak, mebibytes, peak, resident};
use cluster_proxy_tunnel::frontend::HTTP2_ALPN;
use cluster_proxy_tunnel::lane::LANE_ALPN;
use cluster_proxy_tunnel::{ProxyServerDialer, TunnelStream};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, RawPeer, SETTINGS, WINDOW_UPDATE, block, frame, receive, setting,
};
use crate::hub::{AgentKind, GET_LIMIT, Hub, WINDOW, Workshop};
use crate::report::Report;
use crate::round_trips::Pinger;
use crate::scale;

/// What one attacker may cost the server.
const MEMORY: u64 = 64 * 1024 * 1024;

/// Others make a round trip at this pace, and keep it when it takes no longer than [`in_time`].
const PACE: Duration = Duration::from_millis(10);

/// Attacker, server and agent share the machine with whatever else it does in a CI run: who is
/// starved waits for seconds.
fn in_time() -> Duration {
    scale::of(Duration::from_millis(500), Duration::from_millis(100))
}

/// Of the round trips of others.
const KEPT: f64 = 0.9;

/// Long after a dial has reached the agent.
const UNANSWERED: Duration = Duration::from_millis(200);

/// The address under which the hostile agent is found; it dials nothing.
const HOSTILE: &str = "127.0.0.2";

/// Times that an attack is tried on a machine too busy to tell.
const TRIES: u32 = 3;

/// How an attack goes on once it has its connection.
#[derive(Debug, Clone, Copy)]
enum Attack {
    /// These bytes, again and again.
    Repeat(fn() -> Vec<u8>),
    /// The same for each turn, which is counted from 0.
    Turns(fn(u32) -> Vec<u8>),
}

/// Attacks of an agent that has introduced itself. Stream 1 is the control stream, 3 a tunnelled
/// connection whose reader never reads.
const BY_AGENT: &[(&str, Attack)] = &[
    (
        "tiny DATA that is read",
        Attack::Repeat(|| frame(DATA, 0, 1, &[0]).repeat(1000)),
    ),
    (
        "tiny DATA that nobody reads",
        Attack::Repeat(|| frame(DATA, 0, 3, &[0]).repeat(1000)),
    ),
    ("tiny DATA among large", Attack::Repeat(tiny_among_large)),
    (
        "empty DATA",
        Attack::Repeat(|| frame(DATA, 0, 3, &[]).repeat(1000)),
    ),
    (
        "endless 1xx",
        Attack::Repeat(|| {
            frame(HEADERS, END_HEADERS, 5, &block(&[(":status", "103")])).repeat(1000)
        }),
    ),
    (
        "endless header blocks",
        Attack::Repeat(|| {
            let value = "v".repeat(120);
            let fields = [("x-a", value.as_str()); 100];
            frame(HEADERS, END_HEADERS, 5, &block(&fields)).repeat(20)
        }),
    ),
    (
        "CONTINUATION without end",
        Attack::Turns(|turn| {
            let block = block(&[("x-a", "b")]);
            let kind = if turn == 0 { HEADERS } else { CONTINUATION };
            frame(kind, 0, 5, &block)
        }),
    ),
    (
        "pushes",
        Attack::Turns(|turn| {
            let mut payload = (2 + 2 * turn).to_be_bytes().to_vec();
            payload.extend(block(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", "a"),
            ]));
            frame(PUSH_PROMISE, END_HEADERS, 1, &payload)
        }),
    ),
    (
        "resets",
        Attack::Repeat(|| frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes()).repeat(1000)),
    ),
    (
        "SETTINGS",
        Attack::Repeat(|| frame(SETTINGS, 0, 0, &setting(4, 70_000)).repeat(1000)),
    ),
    (
        "PING",
        Attack::Repeat(|| frame(PING, 0, 0, &[7; 8]).repeat(1000)),
    ),
    (
        "unknown frames",
        Attack::Repeat(|| {
            (0x0a..=0x0f)
                .flat_map(|kind| frame(kind, 0xff, 3, &[1; 16_000]))
                .collect()
        }),
    ),
    (
        "PRIORITY",
        Attack::Repeat(|| frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 1]).repeat(1000)),
    ),
    (
        "window updates",
        Attack::Repeat(|| frame(WINDOW_UPDATE, 0, 3, &1_u32.to_be_bytes()).repeat(1000)),
    ),
    (
        "no window at all",
        Attack::Repeat(|| frame(SETTINGS, 0, 0, &setting(4, 0))),
    ),
    (
        "frames of size 0",
        Attack::Repeat(|| frame(SETTINGS, 0, 0, &setting(5, 0))),
    ),
    (
        "GOAWAY",
        Attack::Repeat(|| frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).repeat(1000)),
    ),
];

/// Attacks of a client of the frontend port.
const BY_CLIENT: &[(&str, Attack)] = &[
    (
        "rapid reset",
        Attack::Turns(|turn| {
            let mut bytes = connect(1 + 2 * turn);
            bytes.extend(frame(RST_STREAM, 0, 1 + 2 * turn, &8_u32.to_be_bytes()));
            bytes
        }),
    ),
    (
        "made you reset",
        Attack::Turns(|turn| {
            let mut bytes = connect(1 + 2 * turn);
            bytes.extend(frame(WINDOW_UPDATE, 0, 1 + 2 * turn, &0_u32.to_be_bytes()));
            bytes
        }),
    ),
    (
        "DATA after the end",
        Attack::Turns(|turn| {
            let stream = 1 + 2 * turn;
            let mut bytes = connect(stream);
            bytes.extend(frame(DATA, END_STREAM, stream, b"x"));
            bytes.extend(frame(DATA, 0, stream, b"x"));
            bytes
        }),
    ),
    (
        "dials that nobody waits for",
        Attack::Turns(|turn| connect(1 + 2 * turn)),
    ),
    (
        "CONTINUATION without end",
        Attack::Turns(|turn| {
            let block = block(&[("x-a", "b")]);
            frame(if turn == 0 { HEADERS } else { CONTINUATION }, 0, 1, &block)
        }),
    ),
    (
        "empty DATA",
        Attack::Turns(|turn| {
            let mut bytes = if turn == 0 { connect(1) } else { Vec::new() };
            bytes.extend(frame(DATA, 0, 1, &[]).repeat(100));
            bytes
        }),
    ),
    (
        "tiny DATA",
        Attack::Turns(|turn| {
            let mut bytes = if turn == 0 { connect(1) } else { Vec::new() };
            bytes.extend(frame(DATA, 0, 1, &[0]).repeat(1000));
            bytes
        }),
    ),
    (
        "large headers",
        Attack::Turns(|turn| {
            let value = "v".repeat(120);
            let fields = vec![("x-a", value.as_str()); 100];
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1 + 2 * turn,
                &block(&fields),
            )
        }),
    ),
    (
        "SETTINGS",
        Attack::Repeat(|| frame(SETTINGS, 0, 0, &setting(4, 70_000)).repeat(1000)),
    ),
    (
        "PING",
        Attack::Repeat(|| frame(PING, 0, 0, &[7; 8]).repeat(1000)),
    ),
    (
        "unknown frames",
        Attack::Repeat(|| {
            (0x0a..=0x0f)
                .flat_map(|kind| frame(kind, 0xff, 0, &[1; 16_000]))
                .collect()
        }),
    ),
];

/// A byte that nobody reads between pieces that are read: each may hold on to all it came with.
fn tiny_among_large() -> Vec<u8> {
    let mut bytes = frame(DATA, 0, 3, &[0]);
    // Control messages of no known kind, of no length.
    bytes.extend(frame(DATA, 0, 1, &[0; 16_000]).repeat(4));
    bytes.repeat(8)
}

fn connect(stream: u32) -> Vec<u8> {
    let target = format!("{HOSTILE}:80");
    let fields = block(&[(":method", "CONNECT"), (":authority", &target)]);
    frame(HEADERS, END_HEADERS, stream, &fields)
}

pub(crate) async fn by_agent(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let _honest = hub.agent(AgentKind::Lane, &[]).await?;
    let tls = workshop
        .certificates
        .tls(&Leaf::proxy_agent(&"hostile".parse()?))?;
    let victim = hub.client(WINDOW)?;
    let attacker = async |attack| lane(&hub, &tls, &victim, attack).await;
    each(&hub, report, "hostile agent", BY_AGENT, attacker).await
}

pub(crate) async fn by_client(workshop: &Workshop, report: &Report) -> Result<()> {
    let hub = Hub::start(workshop, &[]).await?;
    let _honest = hub.agent(AgentKind::Lane, &[]).await?;
    let tls = workshop.certificates.tls(&Leaf::proxy_client())?;
    let attacker = async |attack| frontend(&hub, &tls, attack).await;
    each(&hub, report, "hostile client", BY_CLIENT, attacker).await
}

/// Attacks in turn, each again from its beginning whenever the server has ended it.
async fn each(
    hub: &Hub<'_>,
    report: &Report,
    who: &str,
    attacks: &[(&str, Attack)],
    attacker: impl AsyncFn(Attack) -> Result<()>,
) -> Result<()> {
    let mut pinger = Pinger::start(&hub.client(WINDOW)?).await?;
    let mut wrong = Vec::new();
    for (name, attack) in attacks {
        let mut best = 0.0_f64;
        for _ in 0..TRIES {
            let cost = under(hub, *attack, &attacker, &mut pinger)
                .await
                .map_err(|error| error.context(format!("{who}: {name}")))?;
            best = best.max(cost.kept);
            report.note(format!("{who}, {name}"), cost.to_string());
            if cost.grown > MEMORY {
                wrong.push(format!("{name}: {cost}"));
            }
            if best >= KEPT {
                break;
            }
        }
        if best < KEPT {
            wrong.push(format!("{name}: others keep {:.0} %", 100.0 * best));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What an attack cost.
struct Cost {
    grown: u64,
    cpu: f64,
    kept: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} MiB, {:.0} % of one core; others keep {:.0} %",
            mebibytes(self.grown),
            100.0 * self.cpu,
            100.0 * self.kept
        )
    }
}

/// One attack, for its time.
async fn under(
    hub: &Hub<'_>,
    attack: Attack,
    attacker: &impl AsyncFn(Attack) -> Result<()>,
    pinger: &mut Pinger,
) -> Result<Cost> {
    let during = scale::of(Duration::from_secs(1), Duration::from_secs(60));
    let before = resident(hub.server.id())?;
    forget_peak(hub.server.id())?;
    let cpu = cpu_seconds(hub.server.id())?;
    let attacking = async {
        let mut connections = 0_u32;
        loop {
            // Refused, cut off and out of its mind alike: it comes again.
            match timeout(during, attacker(attack)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) if connections == 0 => return error,
                Ok(Err(_)) => tokio::time::sleep(PACE).await,
            }
            connections += 1;
        }
    };
    let kept = tokio::select! {
        kept = kept_trips(pinger, during) => kept?,
        failed = attacking => return Err(failed),
    };
    let cpu = cpu_seconds(hub.server.id())? - cpu;
    let grown = peak(hub.server.id())?.saturating_sub(before);
    // Nothing of it goes on.
    pinger.once().await?;
    Ok(Cost {
        grown,
        cpu: cpu / during.as_secs_f64(),
        kept,
    })
}

/// The share of round trips that are made in time.
async fn kept_trips(pinger: &mut Pinger, during: Duration) -> Result<f64> {
    let end = Instant::now() + during;
    let (mut made, mut kept) = (0_u32, 0_u32);
    while Instant::now() < end {
        made += 1;
        kept += u32::from(pinger.once().await? <= in_time());
        tokio::time::sleep(PACE).await;
    }
    Ok(f64::from(kept) / f64::from(made.max(1)))
}

/// Introduces itself as an agent, has two connections asked of it, answers one whose reader never
/// reads, and attacks until the server has had enough.
async fn lane(
    hub: &Hub<'_>,
    tls: &ClientTls,
    victim: &ProxyServerDialer,
    attack: Attack,
) -> Result<()> {
    let mut peer = RawPeer::connect(hub.agents, tls, LANE_ALPN).await?;
    let mut preface = [0; 24];
    tokio::io::AsyncReadExt::read_exact(&mut peer.read, &mut preface).await?;
    peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
    peer.receive_a(SETTINGS).await?;
    peer.send(&frame(SETTINGS, ACK, 0, &[])).await?;
    let control = peer.receive_a(HEADERS).await?;
    ensure!(
        control.stream == 1,
        "the control stream is {}",
        control.stream
    );
    let identifiers = format!("ipv4={HOSTILE}");
    let hello = block(&[
        (":status", "200"),
        ("agentid", "hostile"),
        ("agentidentifiers", &identifiers),
        ("version", "0"),
    ]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &hello)).await?;
    let target: cluster_proxy_tunnel::Target = format!("{HOSTILE}:80").parse()?;
    let unread = async {
        let mut unread: Vec<TunnelStream> = Vec::new();
        let end = Instant::now() + GET_LIMIT;
        for _ in 0..2 {
            // The second one is answered by the attack alone, if at all.
            loop {
                match timeout(UNANSWERED, victim.connect(&target)).await {
                    Ok(Ok(stream)) => unread.push(stream),
                    // The server has not taken the introduction yet, or not buried the last one.
                    Ok(Err(_)) if Instant::now() < end => {
                        tokio::time::sleep(PACE).await;
                        continue;
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => {}
                }
                break;
            }
        }
        anyhow::Ok(unread)
    };
    let asked = async {
        let first = peer.receive_a(HEADERS).await?;
        ensure!(first.stream == 3, "the first stream is {}", first.stream);
        peer.send(&frame(
            HEADERS,
            END_HEADERS,
            3,
            &block(&[(":status", "200")]),
        ))
        .await?;
        peer.receive_a(HEADERS).await?;
        anyhow::Ok(peer)
    };
    let (unread, peer) = tokio::try_join!(unread, asked)?;
    go_on(peer, attack).await;
    drop(unread);
    Ok(())
}

async fn frontend(hub: &Hub<'_>, tls: &ClientTls, attack: Attack) -> Result<()> {
    let mut peer = RawPeer::connect(hub.frontend, tls, HTTP2_ALPN).await?;
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    peer.send(&frame(SETTINGS, 0, 0, &[])).await?;
    peer.receive_a(SETTINGS).await?;
    peer.send(&frame(SETTINGS, ACK, 0, &[])).await?;
    go_on(peer, attack).await;
    Ok(())
}

/// Attacks until the server ends the connection. What it says is read, as a peer does that wants
/// to go on for long.
async fn go_on(peer: RawPeer, attack: Attack) {
    let RawPeer {
        mut read,
        mut write,
    } = peer;
    let attacking = async {
        let mut turn = 0;
        loop {
            let bytes = match attack {
                Attack::Repeat(bytes) => bytes(),
                Attack::Turns(bytes) => bytes(turn),
            };
            turn += 1;
            if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let reading = async { while receive(&mut read).await.is_ok() {} };
    tokio::select! {
        () = attacking => {}
        () = reading => {}
    }
}
