//! Between two raw h2 peers.

use std::io::ErrorKind;
use std::time::Duration;

use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A leg of a relay, and the peer at its other end. HTTP/2's own windows: 65,535 bytes.
struct Peer {
    send: SendStream<Bytes>,
    recv: RecvStream,
    _tasks: JoinSet<()>,
}

async fn leg() -> (TunnelStream, Peer) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let mut tasks = JoinSet::new();
    let (accepted, leg) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        let mut connection = h2::server::handshake(here).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let send = respond.send_response(Response::new(()), false).unwrap();
        let stream = TunnelStream::new(send, request.into_body(), None);
        accepted.send(stream).unwrap();
        while let Some(Ok(_)) = connection.accept().await {}
    });
    let (mut requests, connection) = h2::client::handshake(there).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let request = Request::connect("target:1").body(()).unwrap();
    let (answer, send) = requests.send_request(request, false).unwrap();
    let recv = answer.await.unwrap().into_body();
    let peer = Peer {
        send,
        recv,
        _tasks: tasks,
    };
    (leg.await.unwrap(), peer)
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_when_the_room_is_needed() {
    let ((near, mut reader), (far, mut writer)) = tokio::join!(leg(), leg());
    let budget = UnreadBudget::new(100_000);
    let mut relay = StreamRelay::new(near, far).within(&budget);
    writer
        .send
        .send_data(vec![1; 200_000].into(), false)
        .unwrap();
    let end = timeout(LIMIT, relay.run()).await.unwrap();
    match end {
        RelayEnd::Broken { leg, error } => {
            assert_eq!((leg, error.kind()), (Leg::Near, ErrorKind::QuotaExceeded));
        }
        end => panic!("it ended otherwise: {end:?}"),
    }
    drop(relay);
    assert_eq!(budget.held(), 0);
    // Neither takes it for an end.
    let gone = timeout(LIMIT, poll_fn(|cx| writer.send.poll_reset(cx)));
    assert_eq!(gone.await.unwrap().unwrap(), h2::Reason::CONNECT_ERROR);
    loop {
        match timeout(LIMIT, reader.recv.data()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break assert!(error.is_reset()),
            None => panic!("a clean end"),
        }
    }
}

#[tokio::test]
async fn what_a_slow_reader_takes_in_the_end_is_whole() {
    let ((near, mut reader), (far, mut writer)) = tokio::join!(leg(), leg());
    let budget = UnreadBudget::new(1 << 20);
    let mut relay = StreamRelay::new(near, far).within(&budget);
    let sent: Vec<u8> = (0..500_000_u32).map(|i| (i % 251) as u8).collect();
    // Pieces of every size, the end riding on the last one.
    let mut rest = Bytes::from(sent.clone());
    let mut size = 1;
    while !rest.is_empty() {
        let piece = rest.split_to(size.min(rest.len()));
        writer.send.send_data(piece, rest.is_empty()).unwrap();
        size = size * 7 % 20_011;
    }
    reader.send.send_data(Bytes::new(), true).unwrap();
    let reading = async {
        let mut seen = Vec::new();
        while let Some(data) = reader.recv.data().await {
            let data = data.unwrap();
            seen.extend_from_slice(&data);
            tokio::time::sleep(Duration::from_millis(1)).await;
            reader
                .recv
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
        }
        seen
    };
    let (end, seen) = timeout(LIMIT, async { tokio::join!(relay.run(), reading) })
        .await
        .unwrap();
    assert!(matches!(end, RelayEnd::Finished), "{end:?}");
    assert!(seen == sent, "{} bytes", seen.len());
    assert_eq!(relay.moved().to_near, 500_000);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn small_chunks_that_are_there_leave_together() {
    let ((near, mut reader), (far, mut writer)) = tokio::join!(leg(), leg());
    for _ in 0..60 {
        writer
            .send
            .send_data(Bytes::from_static(b"x"), false)
            .unwrap();
    }
    writer
        .send
        .send_data(Bytes::from_static(b"!"), true)
        .unwrap();
    reader.send.send_data(Bytes::new(), true).unwrap();
    // All of them are there before the relay first looks.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut relay = StreamRelay::new(near, far);
    let reading = async {
        let (mut bytes, mut frames) = (0, 0);
        while let Some(data) = reader.recv.data().await {
            bytes += data.unwrap().len();
            frames += 1;
        }
        (bytes, frames)
    };
    let (end, (bytes, frames)) = timeout(LIMIT, async { tokio::join!(relay.run(), reading) })
        .await
        .unwrap();
    assert!(matches!(end, RelayEnd::Finished), "{end:?}");
    assert_eq!(bytes, 61);
    assert!(frames < 5, "{frames} frames");
}
