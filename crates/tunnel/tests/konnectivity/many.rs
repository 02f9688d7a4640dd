//! Many connections on one stream.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pair::{LIMIT, echo, eventually, pair, target};

#[tokio::test]
async fn a_thousand_short_connections_leave_nothing_behind() {
    let mut pair = pair().await;
    let echo = echo().await;
    let mut users = JoinSet::new();
    for user in 0..20_u32 {
        let (hub, echo) = (pair.hub.clone(), echo.clone());
        users.spawn(async move {
            for turn in 0..50_u32 {
                let mut stream = hub.open(&echo, LIMIT).await.unwrap();
                let text = format!("{user}-{turn}");
                stream.write_all(text.as_bytes()).await.unwrap();
                let mut back = vec![0; text.len()];
                stream.read_exact(&mut back).await.unwrap();
                assert_eq!(back, text.as_bytes());
            }
        });
    }
    while let Some(user) = users.join_next().await {
        user.unwrap();
    }
    eventually("no connection", || pair.hub.open_streams() == 0).await;
    // Each relay at the agent has ended, too.
    for ended in 0..1000 {
        let end = timeout(LIMIT, pair.ends.recv()).await;
        assert!(end.is_ok(), "{ended} relays ended");
    }
    // A stream that still held one would not end.
    pair.hub.close();
    timeout(LIMIT, pair.hub_task).await.unwrap().unwrap();
}

#[tokio::test]
async fn cancelled_dials_leave_nothing_behind() {
    let pair = pair().await;
    let echo = echo().await;
    for turn in 0..300_u32 {
        let patience = Duration::from_micros(u64::from(turn) * 7);
        let _ = timeout(patience, pair.hub.open(&echo, LIMIT)).await;
    }
    eventually("no connection", || pair.hub.open_streams() == 0).await;
    let mut stream = pair.hub.open(&echo, LIMIT).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0; 1]).await.unwrap();
    drop(stream);
    pair.hub.close();
    timeout(LIMIT, pair.hub_task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_never_reads_stalls_nobody_for_longer_than_the_grace() {
    let pair = pair().await;
    let (listener, flood) = target().await;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let blob = vec![0; 1 << 20];
        while socket.write_all(&blob).await.is_ok() {}
    });
    let echo = echo().await;
    let mut stalled = pair.hub.open(&flood, LIMIT).await.unwrap();
    let mut other = pair.hub.open(&echo, LIMIT).await.unwrap();
    let mut worst = Duration::ZERO;
    let begin = Instant::now();
    while pair.hub.stalled() == 0 {
        assert!(begin.elapsed() < LIMIT, "never closed");
        let asked = Instant::now();
        other.write_all(b"x").await.unwrap();
        other.read_exact(&mut [0; 1]).await.unwrap();
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    // It is an error, never an end.
    assert!(stalled.read(&mut [0; 1]).await.is_err());
    other.write_all(b"x").await.unwrap();
    other.read_exact(&mut [0; 1]).await.unwrap();
}

#[tokio::test]
async fn a_target_that_never_reads_stalls_nobody_either() {
    let pair = pair().await;
    let (listener, deaf) = target().await;
    let mut to_deaf = pair.hub.open(&deaf, LIMIT).await.unwrap();
    let (_socket, _) = listener.accept().await.unwrap();
    let mut other = pair.hub.open(&echo().await, LIMIT).await.unwrap();
    let flooding = tokio::spawn(async move {
        let blob = vec![0; 1 << 20];
        while to_deaf.write_all(&blob).await.is_ok() {}
    });
    let mut worst = Duration::ZERO;
    let begin = Instant::now();
    while !flooding.is_finished() {
        assert!(begin.elapsed() < LIMIT, "never closed");
        let asked = Instant::now();
        other.write_all(b"x").await.unwrap();
        other.read_exact(&mut [0; 1]).await.unwrap();
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}
