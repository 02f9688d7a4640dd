//! Against a raw h2 peer, which can end a stream in every way there is.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use super::*;
use crate::http2::Http2Settings;
use crate::http2::client::{ClientLink, ConnectFailure};
use crate::target::Target;

/// A stream of ours, and the peer's halves of it. The tasks drive both connections.
struct Pair {
    ours: TunnelStream,
    link: ClientLink,
    respond: SendResponse<Bytes>,
    send: SendStream<Bytes>,
    recv: RecvStream,
    tasks: JoinSet<()>,
}

async fn pair() -> Pair {
    let (here, there) = tokio::io::duplex(1 << 20);
    let mut tasks = JoinSet::new();
    let (link, driver) = ClientLink::start(here, &Http2Settings::default())
        .await
        .unwrap();
    tasks.spawn(async move {
        driver.await;
    });
    let (accepted, mut incoming) = tokio::sync::mpsc::channel(1);
    tasks.spawn(serve(there, accepted));
    let target: Target = "target:1".parse().unwrap();
    let opening = link.connect(&target, Duration::from_secs(5));
    let answering = async {
        let (request, mut respond): (Request<RecvStream>, SendResponse<Bytes>) =
            incoming.recv().await.unwrap();
        let send = respond.send_response(Response::new(()), false).unwrap();
        (respond, send, request.into_body())
    };
    let (ours, (respond, send, recv)) = tokio::join!(opening, answering);
    let ours = ours.unwrap();
    Pair {
        ours,
        link,
        respond,
        send,
        recv,
        tasks,
    }
}

async fn serve(
    io: DuplexStream,
    accepted: tokio::sync::mpsc::Sender<(Request<RecvStream>, SendResponse<Bytes>)>,
) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok(stream)) = connection.accept().await {
        let _ = accepted.send(stream).await;
    }
}

#[tokio::test]
async fn every_reset_before_the_end_is_an_error() {
    for reason in [
        Reason::NO_ERROR,
        Reason::CANCEL,
        Reason::CONNECT_ERROR,
        Reason::INTERNAL_ERROR,
    ] {
        let mut pair = pair().await;
        pair.send
            .send_data(Bytes::from_static(b"part"), false)
            .unwrap();
        let mut seen = [0; 4];
        pair.ours.read_exact(&mut seen).await.unwrap();
        pair.respond.send_reset(reason);
        let error = pair.ours.read(&mut seen).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{reason:?}");
        let error = pair.ours.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{reason:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_an_error_and_never_an_end() {
    let mut pair = pair().await;
    pair.tasks.shutdown().await;
    let error = pair.ours.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = pair.ours.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(!pair.link.is_usable());
}

#[tokio::test]
async fn end_of_stream_ends_one_direction_only() {
    let mut pair = pair().await;
    pair.send
        .send_data(Bytes::from_static(b"last"), true)
        .unwrap();
    let mut seen = Vec::new();
    pair.ours.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"last");
    pair.ours.write_all(b"still here").await.unwrap();
    pair.ours.shutdown().await.unwrap();
    assert_eq!(
        pair.ours.write(b"x").await.unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    let chunk = pair.recv.data().await.unwrap().unwrap();
    assert_eq!(chunk.as_ref(), b"still here");
    // h2 hands out the empty frame that carries END_STREAM.
    assert!(
        pair.recv
            .data()
            .await
            .is_none_or(|end| end.unwrap().is_empty())
    );
    assert!(pair.recv.is_end_stream());
    assert_eq!(pair.link.busy_streams(), 1);
    drop(pair.ours);
    assert_eq!(pair.link.busy_streams(), 0);
}

#[tokio::test]
async fn dropping_before_the_end_resets_with_connect_error() {
    let mut pair = pair().await;
    drop(pair.ours);
    let error = pair.recv.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));

    // Ended both ways, it is not reset, even while the last bytes are still under way.
    let mut pair = self::pair().await;
    pair.send
        .send_data(Bytes::from_static(b"bye"), true)
        .unwrap();
    let mut seen = Vec::new();
    pair.ours.read_to_end(&mut seen).await.unwrap();
    pair.ours.write_all(&[7; 50_000]).await.unwrap();
    pair.ours.shutdown().await.unwrap();
    drop(pair.ours);
    let mut got = 0;
    while let Some(chunk) = pair.recv.data().await {
        let chunk = chunk.unwrap();
        pair.recv
            .flow_control()
            .release_capacity(chunk.len())
            .unwrap();
        got += chunk.len();
    }
    assert_eq!(got, 50_000);
}

#[tokio::test]
async fn writing_stops_at_the_window_and_goes_on_with_credit() {
    let mut pair = pair().await;
    // h2's own default window of 65,535 bytes at the peer, who reads nothing yet.
    let blob = vec![1; 200_000];
    let writing = async {
        pair.ours.write_all(&blob).await.unwrap();
        pair.ours.shutdown().await.unwrap();
    };
    let reading = async {
        let mut got = 0;
        while let Some(chunk) = pair.recv.data().await {
            let chunk = chunk.unwrap();
            got += chunk.len();
            assert!(pair.recv.flow_control().used_capacity() <= 65_535);
            pair.recv
                .flow_control()
                .release_capacity(chunk.len())
                .unwrap();
        }
        got
    };
    let ((), got) = tokio::join!(writing, reading);
    assert_eq!(got, 200_000);
}

#[tokio::test]
async fn several_slices_make_one_frame() {
    let mut pair = pair().await;
    let slices = [
        IoSlice::new(b"one "),
        IoSlice::new(b""),
        IoSlice::new(b"frame"),
    ];
    assert_eq!(pair.ours.write_vectored(&slices).await.unwrap(), 9);
    assert_eq!(
        pair.recv.data().await.unwrap().unwrap().as_ref(),
        b"one frame"
    );
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_here() {
    let count = StreamCount::default();
    let (one, _two) = (count.add(2).unwrap(), count.add(2).unwrap());
    assert!(count.add(2).is_none());
    drop(one);
    assert!(count.add(2).is_some());
    let mut pair = pair().await;
    pair.tasks.shutdown().await;
    let target: Target = "target:1".parse().unwrap();
    let failure = pair
        .link
        .connect(&target, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        matches!(failure, ConnectFailure::Lost { .. }),
        "{failure:?}"
    );
}
