//! konnectivity's clients on the frontend, in front of an agent's stream: raw packets, relayed as
//! the proxy-server does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet};
use cluster_proxy_tunnel::frontend::Http2Frontend;
use cluster_proxy_tunnel::konnectivity::AgentStream;
use cluster_proxy_tunnel::relay::{RelayEnd, StreamRelay};
use cluster_proxy_tunnel::{DialError, Http2Settings, Target};
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::pair::{LIMIT, connected, echo, eventually, pair, target};
use crate::raw_stream::{RawStream, http2};

/// A frontend whose users reach what `hub` reaches.
async fn frontend(hub: AgentStream) -> (SendRequest<Bytes>, mpsc::Receiver<RelayEnd>) {
    let (report, ends) = mpsc::channel(16);
    let (server_io, client_io) = connected();
    tokio::spawn(async move {
        let settings = Http2Settings::default();
        let mut frontend = Http2Frontend::open_over(server_io, &settings)
            .await
            .unwrap();
        while let Ok(mut incoming) = frontend.next().await {
            let (hub, report) = (hub.clone(), report.clone());
            tokio::spawn(async move {
                let target = incoming.target().clone();
                let opened = tokio::select! {
                    opened = hub.open(&target, LIMIT) => opened,
                    () = incoming.abandoned() => return,
                };
                match opened {
                    Ok(far) => {
                        if let Ok(near) = incoming.accept() {
                            let end = StreamRelay::new(near, far).run().await;
                            let _ = report.send(end).await;
                        }
                    }
                    Err(error) => incoming.refuse(&error).await,
                }
            });
        }
    });
    (http2(client_io).await, ends)
}

#[tokio::test]
async fn bytes_pass_and_a_close_is_answered() {
    let pair = pair().await;
    let echo = echo().await;
    let (requests, mut ends) = frontend(pair.hub.clone()).await;
    let mut client = RawStream::of_client(&requests).await;
    let connect = client.dial(&echo.to_string()).await.unwrap();
    let blob: Bytes = (0..3_u32 << 20)
        .map(|i| (i % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    for data in blob.chunks(1 << 20).map(Bytes::copy_from_slice) {
        client.say(&Packet::Data { connect, data });
    }
    let mut back = Vec::new();
    while back.len() < blob.len() {
        match client.hear().await {
            Some(Packet::Data { data, .. }) => back.extend_from_slice(&data),
            other => panic!("{other:?}"),
        }
    }
    assert!(back == blob);
    client.say(&Packet::CloseRequest { connect });
    match client.hear().await {
        Some(Packet::CloseResponse {
            connect: closed,
            error,
        }) => {
            assert_eq!(closed, connect);
            assert!(error.is_empty(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.hear().await, None);
    assert_eq!(client.status().await, "0");
    // At once, though the agent's stream knows no half-close.
    let end = timeout(Duration::from_secs(2), ends.recv()).await.unwrap();
    assert!(matches!(end, Some(RelayEnd::Finished)), "{end:?}");
}

#[tokio::test]
async fn a_target_that_ends_or_breaks_ends_the_clients_connection() {
    let pair = pair().await;
    let (requests, _ends) = frontend(pair.hub.clone()).await;
    let (listener, target) = target().await;
    for reset in [false, true] {
        let mut client = RawStream::of_client(&requests).await;
        let connect = client.dial(&target.to_string()).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"last words").await.unwrap();
        let data = Bytes::from_static(b"last words");
        assert_eq!(client.hear().await, Some(Packet::Data { connect, data }));
        if reset {
            socket.set_zero_linger().unwrap();
        }
        drop(socket);
        match client.hear().await {
            Some(Packet::CloseResponse { error, .. }) => assert_eq!(error.is_empty(), !reset),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.hear().await, None);
        assert_eq!(client.status().await, "0");
    }
}

#[tokio::test]
async fn a_target_that_speaks_first_gives_the_client_time_to_note_the_connection() {
    let pair = pair().await;
    let (requests, _ends) = frontend(pair.hub.clone()).await;
    let (listener, target) = target().await;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"hello").await.unwrap();
        socket.read_to_end(&mut Vec::new()).await
    });
    let mut client = RawStream::of_client(&requests).await;
    let connect = client.dial(&target.to_string()).await.unwrap();
    let dialled = Instant::now();
    let data = Bytes::from_static(b"hello");
    assert_eq!(client.hear().await, Some(Packet::Data { connect, data }));
    assert!(dialled.elapsed() > Duration::from_millis(10));
}

#[tokio::test]
async fn refusals_are_said_in_words_that_go_reads() {
    let pair = pair().await;
    let (requests, _ends) = frontend(pair.hub.clone()).await;
    let (listener, target) = target().await;
    drop(listener);
    let mut client = RawStream::of_client(&requests).await;
    let error = client.dial(&target.to_string()).await.unwrap_err();
    assert!(error.contains("connection refused"), "{error}");
    assert_eq!(client.hear().await, None);
    let mut client = RawStream::of_client(&requests).await;
    let error = client.dial("no target").await.unwrap_err();
    assert!(error.contains("port is missing"), "{error}");
}

#[tokio::test]
async fn a_client_that_goes_takes_its_connection_or_dial_along() {
    let pair = pair().await;
    let (requests, _ends) = frontend(pair.hub.clone()).await;
    let (listener, target) = target().await;
    let mut client = RawStream::of_client(&requests).await;
    client.dial(&target.to_string()).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    drop(client);
    let read = timeout(LIMIT, socket.read(&mut [0; 1])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
    drop(socket);

    let mut client = RawStream::of_client(&requests).await;
    let blackhole: Target = "192.0.2.1:1".parse().unwrap();
    client.say(&Packet::DialRequest {
        protocol: "tcp".into(),
        address: blackhole.to_string(),
        dial: DialId::new(1),
    });
    client.say(&Packet::CloseDial {
        dial: DialId::new(1),
    });
    assert_eq!(client.hear().await, None);
    eventually("no connection", || pair.hub.open_streams() == 0).await;
}

#[tokio::test]
async fn who_may_not_open_tunnels_is_told() {
    let (server_io, client_io) = connected();
    tokio::spawn(async move {
        let settings = Http2Settings::default();
        let mut frontend = Http2Frontend::open_over(server_io, &settings)
            .await
            .unwrap();
        while let Ok(incoming) = frontend.next().await {
            let details = "this certificate may not".to_owned();
            incoming.refuse(&DialError::Forbidden { details }).await;
        }
    });
    let requests = http2(client_io).await;
    let mut client = RawStream::of_client(&requests).await;
    let error = client.dial("a:1").await.unwrap_err();
    assert!(error.contains("this certificate may not"), "{error}");
}

/// Who has one connection sends bytes, an end and a dial under other numbers than its own.
#[tokio::test]
async fn hard_case_16_one_connection_leads_to_one_target() {
    let pair = pair().await;
    let (requests, _ends) = frontend(pair.hub.clone()).await;
    let (victims, victims_target) = target().await;
    let mut victim = RawStream::of_client(&requests).await;
    let victims_id = victim.dial(&victims_target.to_string()).await.unwrap();
    let (mut victims_socket, _) = victims.accept().await.unwrap();
    let (others, others_target) = target().await;

    let mut attacker = RawStream::of_client(&requests).await;
    let own = attacker.dial(&echo().await.to_string()).await.unwrap();
    let numbers = (-3..100).filter_map(ConnectId::new);
    for connect in numbers.chain([victims_id]).filter(|id| *id != own) {
        let data = Bytes::from_static(b"stolen");
        attacker.say(&Packet::Data { connect, data });
        attacker.say(&Packet::CloseRequest { connect });
    }
    attacker.say(&Packet::DialRequest {
        protocol: "tcp".into(),
        address: others_target.to_string(),
        dial: DialId::new(43),
    });
    attacker.say(&Packet::Data {
        connect: own,
        data: Bytes::from_static(b"own"),
    });
    // Its own connection goes on, or is over; nothing comes of the rest.
    loop {
        match attacker.hear().await {
            Some(Packet::Data { connect, data }) if data == b"own"[..] => {
                assert_eq!(connect, own);
                break;
            }
            // A close of what it has not is answered, to itself alone.
            Some(Packet::CloseResponse { .. }) => {}
            None => break,
            other => panic!("{other:?}"),
        }
    }
    let dialled = timeout(Duration::from_millis(200), others.accept()).await;
    assert!(dialled.is_err(), "{dialled:?}");
    victim.say(&Packet::Data {
        connect: victims_id,
        data: Bytes::from_static(b"mine"),
    });
    victim.say(&Packet::CloseRequest {
        connect: victims_id,
    });
    let mut seen = Vec::new();
    let reading = victims_socket.read_to_end(&mut seen);
    timeout(LIMIT, reading).await.unwrap().unwrap();
    assert_eq!(seen, b"mine");
}
