//! How connections begin and end.

use std::io::ErrorKind;
use std::time::Duration;

use cluster_proxy_tunnel::relay::{Leg, RelayEnd};
use cluster_proxy_tunnel::{DialError, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::pair::{LIMIT, Tell, echo, eventually, pair, target};

#[tokio::test]
async fn sixteen_mebibytes_go_there_and_back() {
    let pair = pair().await;
    let stream = pair.hub.open(&echo().await, LIMIT).await.unwrap();
    let blob: Vec<u8> = (0..16_u32 << 20).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = blob.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut back = vec![0; blob.len()];
    read.read_exact(&mut back).await.unwrap();
    assert!(back == blob);
    drop((read, writing.await.unwrap()));
    eventually("forgotten", || pair.hub.open_streams() == 0).await;
    assert_eq!(pair.hub.stalled(), 0);
}

#[tokio::test]
async fn a_refused_dial_says_so() {
    let pair = pair().await;
    let (listener, target) = target().await;
    drop(listener);
    let error = pair.hub.open(&target, LIMIT).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }), "{error}");
    let nowhere: Target = "nowhere.invalid:1".parse().unwrap();
    let error = pair.hub.open(&nowhere, LIMIT).await.unwrap_err();
    assert!(matches!(error, DialError::Unresolvable { .. }), "{error}");
    assert_eq!(pair.hub.open_streams(), 0);
}

#[tokio::test]
async fn a_target_that_ends_is_an_end_of_file_after_its_last_byte() {
    let mut pair = pair().await;
    let (listener, target) = target().await;
    let mut stream = pair.hub.open(&target, LIMIT).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    let blob = vec![7; 3 << 20];
    let sent = blob.clone();
    let sending = tokio::spawn(async move {
        socket.write_all(&sent).await.unwrap();
        socket.shutdown().await.unwrap();
        socket
    });
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(all == blob);
    // What is written after it goes nowhere, and a client that does not stop is told.
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    drop((stream, sending.await.unwrap()));
    assert!(matches!(pair.ends.recv().await, Some(RelayEnd::Finished)));
}

#[tokio::test]
async fn a_client_that_has_written_everything_still_gets_its_answer() {
    let pair = pair().await;
    let (listener, target) = target().await;
    let mut stream = pair.hub.open(&target, LIMIT).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    stream.write_all(b"question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = [0; 8];
    socket.read_exact(&mut seen).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    socket.write_all(b"answer").await.unwrap();
    drop(socket);
    let mut all = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(all, b"answer");
}

#[tokio::test]
async fn an_abort_of_either_end_is_an_error_at_the_other() {
    let mut pair = pair().await;
    let (listener, target) = target().await;

    let mut stream = pair.hub.open(&target, LIMIT).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    socket.set_zero_linger().unwrap();
    drop(socket);
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(matches!(
        pair.ends.recv().await,
        Some(RelayEnd::Broken { leg: Leg::Far, .. })
    ));
    drop(stream);

    // The protocol has no word for an abort by the client: its target gets an end of file.
    let stream = pair.hub.open(&target, LIMIT).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    drop(stream);
    let read = timeout(LIMIT, socket.read(&mut [0; 1])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
    drop(socket);
    assert!(matches!(pair.ends.recv().await, Some(RelayEnd::Finished)));
    eventually("forgotten", || pair.hub.open_streams() == 0).await;
}

#[tokio::test]
async fn an_agent_that_drains_and_ends_is_told_by_its_stream() {
    let pair = pair().await;
    let echo = echo().await;
    let mut stream = pair.hub.open(&echo, LIMIT).await.unwrap();
    pair.tell.send(Tell::Drain).await.unwrap();
    eventually("drain", || pair.hub.agent_drains()).await;
    pair.tell.send(Tell::Finish).await.unwrap();
    // The word and the dial may cross: both are in order.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pair.hub.open(&echo, LIMIT).await.is_err());
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    drop(stream);
    pair.tell.send(Tell::Close).await.unwrap();
    assert_eq!(pair.hub_task.await.unwrap().reason(), "closed");
    let end = pair.agent.await.unwrap();
    assert_eq!(end.reason(), "closed", "{}", end.in_full());
    assert!(!pair.hub.is_usable());
}

#[tokio::test]
async fn a_server_that_closes_waits_for_the_last_connection() {
    let pair = pair().await;
    let mut stream = pair.hub.open(&echo().await, LIMIT).await.unwrap();
    pair.hub.close();
    assert!(!pair.hub.is_usable());
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    assert!(!pair.hub_task.is_finished());
    drop(stream);
    let end = timeout(LIMIT, pair.agent).await.unwrap().unwrap();
    assert_eq!(end.reason(), "closed", "{}", end.in_full());
    timeout(LIMIT, pair.hub.closed()).await.unwrap();
}

#[tokio::test]
async fn a_lost_stream_is_an_error_for_all_that_it_carried() {
    for kill_hub in [false, true] {
        let pair = pair().await;
        let (listener, target) = target().await;
        let mut streams = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..20 {
            streams.push(pair.hub.open(&target, LIMIT).await.unwrap());
            sockets.push(listener.accept().await.unwrap().0);
        }
        // Nothing listens in there any more: a dial that never ends.
        let dialling = tokio::spawn({
            let hub = pair.hub.clone();
            let blackhole: Target = "192.0.2.1:1".parse().unwrap();
            async move { hub.open(&blackhole, LIMIT).await }
        });
        if kill_hub {
            pair.hub_task.abort();
        } else {
            pair.agent.abort();
        }
        for mut stream in streams {
            let read = timeout(LIMIT, stream.read(&mut [0; 1])).await.unwrap();
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        for mut socket in sockets {
            let read = timeout(LIMIT, socket.read(&mut [0; 1])).await.unwrap();
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        assert!(dialling.await.unwrap().is_err());
        let error = pair.hub.open(&target, LIMIT).await.unwrap_err();
        assert!(matches!(error, DialError::AgentLost { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_half_closed_connection_that_stays_silent_is_cut_and_never_looks_complete() {
    let pair = pair().await;
    let (listener, target) = target().await;
    let mut stream = pair.hub.open(&target, LIMIT).await.unwrap();
    let (_socket, _) = listener.accept().await.unwrap();
    stream.shutdown().await.unwrap();
    // The time that the server gives is let pass by hand.
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::pause();
    let read = timeout(Duration::from_secs(60), stream.read(&mut [0; 1])).await;
    tokio::time::resume();
    assert_eq!(
        read.unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    drop(stream);
    eventually("forgotten", || pair.hub.open_streams() == 0).await;
}
