//! Both ends of a lane against each other, in one process.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::ErrorKind;
use std::time::Duration;

use cluster_proxy_tunnel::lane::{AgentHello, AgentLane, HubLane, LaneEvent, ServerHello};
use cluster_proxy_tunnel::relay::{Leg, Moved, RelayEnd, TcpRelay};
use cluster_proxy_tunnel::{DialError, Http2Settings, Target, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);

struct Lane {
    hub: HubLane,
    hub_task: JoinHandle<TunnelError>,
    agent: AgentLane<DuplexStream>,
}

async fn lane_with(settings: &Http2Settings) -> Lane {
    let (hub_io, agent_io) = tokio::io::duplex(256 * 1024);
    let server = ServerHello {
        server_id: "s".into(),
        server_count: 2,
        capabilities: vec![],
    };
    let agent = AgentHello {
        agent_id: "a".into(),
        identifiers: "host=managed".parse().unwrap(),
        version: "0".into(),
        capabilities: vec![],
    };
    let (hub, agent_lane) = tokio::join!(HubLane::open_over(hub_io, &server, settings), async {
        // The hub waits for the answer, which leaves with the first poll of `next`.
        let mut lane = AgentLane::open_over(agent_io, &agent, None, settings, |_| true)
            .await
            .unwrap();
        let _ = timeout(Duration::from_millis(10), lane.next()).await;
        lane
    });
    let (hub, mut driver) = hub.unwrap();
    assert_eq!(hub.agent(), &agent);
    assert_eq!(agent_lane.server(), &server);
    Lane {
        hub,
        hub_task: tokio::spawn(async move { driver.run().await }),
        agent: agent_lane,
    }
}

async fn lane() -> Lane {
    lane_with(&Http2Settings::default()).await
}

/// Serves a lane as an agent does: dials the target and relays. Reports how each relay ended.
fn serve(
    mut lane: AgentLane<DuplexStream>,
) -> (JoinHandle<TunnelError>, mpsc::Receiver<(RelayEnd, Moved)>) {
    let (ends, seen) = mpsc::channel(256);
    let task = tokio::spawn(async move {
        let mut relays = JoinSet::new();
        loop {
            match lane.next().await {
                Ok(LaneEvent::Connect(incoming)) => {
                    let ends = ends.clone();
                    relays.spawn(async move {
                        let target = incoming.target().to_string();
                        let socket = TcpStream::connect(target).await.unwrap();
                        let mut relay = TcpRelay::new(incoming.accept().unwrap(), socket);
                        let end = relay.run().await;
                        let _ = ends.send((end, relay.moved())).await;
                    });
                }
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    });
    (task, seen)
}

async fn target() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, target)
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways() {
    let lane = lane().await;
    let (_agent, mut ends) = serve(lane.agent);
    let (listener, target) = target().await;
    // A target that answers only after the client's end of file: half-close must arrive.
    let echo = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        socket.write_all(&all).await.unwrap();
    });
    let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
    assert_eq!(lane.hub.open_streams(), 1);
    let blob: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    stream.write_all(&blob).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert!(back == blob, "{} bytes came back", back.len());
    let (end, moved) = ends.recv().await.unwrap();
    assert!(matches!(end, RelayEnd::Finished), "{end:?}");
    assert_eq!(
        moved,
        Moved {
            to_far: 3_000_000,
            to_near: 3_000_000
        }
    );
    echo.await.unwrap();
}

#[tokio::test]
async fn a_target_that_closes_first_still_hears_the_client() {
    let lane = lane().await;
    let (_agent, mut ends) = serve(lane.agent);
    let (listener, target) = target().await;
    let far = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.shutdown().await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    stream.write_all(b"after your end").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(far.await.unwrap(), b"after your end");
    assert!(matches!(ends.recv().await.unwrap().0, RelayEnd::Finished));
}

#[tokio::test]
async fn an_abort_of_either_end_is_an_error_at_the_other() {
    let lane = lane().await;
    let (_agent, mut ends) = serve(lane.agent);
    let (listener, target) = target().await;

    let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    socket.set_zero_linger().unwrap();
    drop(socket);
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (end, _) = ends.recv().await.unwrap();
    assert!(
        matches!(end, RelayEnd::Broken { leg: Leg::Far, .. }),
        "{end:?}"
    );

    let stream = lane.hub.open(&target, LIMIT).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    drop(stream);
    let error = timeout(LIMIT, socket.read(&mut [0; 1]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (end, _) = ends.recv().await.unwrap();
    assert!(
        matches!(end, RelayEnd::Broken { leg: Leg::Near, .. }),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_client_that_gives_up_on_a_stalled_target_is_noticed() {
    let lane = lane().await;
    let (_agent, mut ends) = serve(lane.agent);
    let (listener, target) = target().await;
    let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
    let (_stalled, _) = listener.accept().await.unwrap();
    let blob = vec![0; 64 * 1024];
    while timeout(Duration::from_millis(100), stream.write_all(&blob))
        .await
        .is_ok()
    {}
    drop(stream);
    let (end, _) = timeout(LIMIT, ends.recv()).await.unwrap().unwrap();
    assert!(
        matches!(end, RelayEnd::Broken { leg: Leg::Near, .. }),
        "{end:?}"
    );
}

#[tokio::test]
async fn when_either_end_of_the_lane_dies_both_sides_of_a_stream_err() {
    for kill_hub in [false, true] {
        let lane = lane().await;
        let (agent_task, _ends) = serve(lane.agent);
        let (listener, target) = target().await;
        let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        if kill_hub {
            lane.hub_task.abort();
        } else {
            agent_task.abort();
        }
        let error = timeout(LIMIT, stream.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "hub killed: {kill_hub}"
        );
        let error = timeout(LIMIT, socket.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "hub killed: {kill_hub}"
        );
        timeout(LIMIT, lane.hub.closed()).await.unwrap();
        assert!(!lane.hub.is_usable());
    }
}

#[tokio::test]
async fn an_agents_refusal_arrives_with_its_reason() {
    let mut lane = lane().await;
    let refusal = DialError::Refused {
        details: "10.0.0.1:443: connection refused".into(),
    };
    let answer = refusal.clone();
    let agent = tokio::spawn(async move {
        let mut answered = 0;
        while let Ok(event) = lane.agent.next().await {
            if let LaneEvent::Connect(incoming) = event {
                answered += 1;
                incoming.refuse(&answer).await;
            }
        }
        answered
    });
    let target: Target = "10.0.0.1:443".parse().unwrap();
    for _ in 0..3 {
        assert_eq!(lane.hub.open(&target, LIMIT).await.unwrap_err(), refusal);
    }
    assert_eq!(lane.hub.open_streams(), 0);
    drop(lane.hub);
    lane.hub_task.abort();
    assert_eq!(agent.await.unwrap(), 3);
}

#[tokio::test]
async fn a_dial_given_up_on_is_seen_by_the_agent() {
    let mut lane = lane().await;
    let target: Target = "target:1".parse().unwrap();
    let giving_up = lane.hub.open(&target, Duration::from_millis(100));
    let noticing = async {
        let LaneEvent::Connect(mut incoming) = lane.agent.next().await.unwrap() else {
            panic!("no stream");
        };
        tokio::select! {
            () = incoming.abandoned() => {}
            event = lane.agent.next() => panic!("{event:?}"),
        }
    };
    let (opened, ()) = tokio::join!(giving_up, noticing);
    let error = opened.unwrap_err();
    assert_eq!(error.reason(), "timed_out");
    assert_eq!(lane.hub.open_streams(), 0);
}

#[tokio::test]
async fn a_hundred_stalled_readers_stop_nobody_else() {
    let lane = lane().await;
    let (_agent, _ends) = serve(lane.agent);
    let (listener, target) = target().await;
    let sources = tokio::spawn(async move {
        let mut senders = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            senders.spawn(async move {
                let blob = vec![0; 64 * 1024];
                while socket.write_all(&blob).await.is_ok() {}
            });
        }
    });
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stalled.push(stream);
    }
    let (echo, target) = self::target().await;
    let echo = tokio::spawn(async move {
        let (mut socket, _) = echo.accept().await.unwrap();
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let mut stream = timeout(LIMIT, lane.hub.open(&target, LIMIT))
        .await
        .unwrap()
        .unwrap();
    for _ in 0..100 {
        stream.write_all(&[5; 1024]).await.unwrap();
        timeout(LIMIT, stream.read_exact(&mut [0; 1024]))
            .await
            .unwrap()
            .unwrap();
    }
    stream.shutdown().await.unwrap();
    echo.await.unwrap();
    sources.abort();
}

#[tokio::test]
async fn drains_are_told() {
    let mut lane = lane().await;
    lane.hub.set_server_count(3);
    lane.hub.drain();
    assert!(matches!(
        lane.agent.next().await.unwrap(),
        LaneEvent::ServerCount(3)
    ));
    assert!(matches!(
        lane.agent.next().await.unwrap(),
        LaneEvent::ServerDrains
    ));
    assert!(!lane.hub.agent_drains());
    lane.agent.drain();
    let (_agent, _ends) = serve(lane.agent);
    eventually(|| lane.hub.agent_drains()).await;
    assert!(lane.hub.is_usable());
}

#[tokio::test]
async fn an_agent_that_closes_its_lane_loses_nothing() {
    let mut lane = lane().await;
    let agent = tokio::spawn(async move {
        let mut writer = JoinSet::new();
        loop {
            tokio::select! {
                event = lane.agent.next() => match event {
                    Ok(LaneEvent::Connect(incoming)) => {
                        let mut stream = incoming.accept().unwrap();
                        lane.agent.finish();
                        writer.spawn(async move {
                            stream.write_all(&vec![9; 900_000]).await.unwrap();
                            stream.shutdown().await.unwrap();
                            stream.read_to_end(&mut Vec::new()).await.unwrap();
                        });
                    }
                    Ok(_) => {}
                    Err(end) => return end,
                },
                Some(written) = writer.join_next() => {
                    written.unwrap();
                    lane.agent.close();
                }
            }
        }
    });
    let target: Target = "target:1".parse().unwrap();
    let mut stream = lane.hub.open(&target, LIMIT).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 900_000);
    let end = timeout(LIMIT, agent).await.unwrap().unwrap();
    assert!(matches!(end, TunnelError::Closed), "{end:?}");
    let end = timeout(LIMIT, lane.hub_task).await.unwrap().unwrap();
    assert!(matches!(end, TunnelError::Closed), "{end:?}");
    let error = lane.hub.open(&target, LIMIT).await.unwrap_err();
    assert_eq!(error.reason(), "agent_lost");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_found_within_30_seconds() {
    let lane = lane().await;
    let begin = tokio::time::Instant::now();
    // The agent's end stays open, and nobody polls it.
    let _silent = lane.agent;
    let end = lane.hub_task.await.unwrap();
    assert!(matches!(end, TunnelError::Silent { .. }), "{end:?}");
    assert!(
        begin.elapsed() <= Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
    assert!(lane.hub.open(&"a:1".parse().unwrap(), LIMIT).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_living_idle_lane_stays() {
    let lane = lane().await;
    let (agent, _ends) = serve(lane.agent);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(lane.hub.is_usable() && !agent.is_finished());
    assert!(lane.hub.round_trip().is_some());
}

#[tokio::test]
async fn who_is_no_peer_is_given_up_in_time() {
    let settings = Http2Settings {
        handshake_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    let server = ServerHello {
        server_id: "s".into(),
        server_count: 1,
        capabilities: vec![],
    };
    // Silence.
    let (io, _silent) = tokio::io::duplex(1024);
    let error = HubLane::open_over(io, &server, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, TunnelError::TimedOut { .. }), "{error:?}");
    // Garbage.
    let (io, mut garbage) = tokio::io::duplex(1024);
    garbage
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let error = HubLane::open_over(io, &server, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, TunnelError::Http2 { .. }), "{error:?}");
    // HTTP/2 that is no lane.
    let (io, other) = tokio::io::duplex(1024);
    let other = tokio::spawn(async move {
        let mut connection = h2::server::handshake(other).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            respond.send_response(response, true).unwrap();
        }
    });
    let error = HubLane::open_over(io, &server, &settings)
        .await
        .unwrap_err();
    assert!(matches!(error, TunnelError::Protocol { .. }), "{error:?}");
    other.abort();
}

async fn eventually(mut met: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !met() {
        assert!(tokio::time::Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
