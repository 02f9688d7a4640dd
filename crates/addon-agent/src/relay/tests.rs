use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::*;

const PORT: u16 = 8091;

/// A relay between a proxy-agent's connection and a kubelet's WebSocket, both in the test's hands.
struct World {
    agent: TcpStream,
    kubelet: WebSocketStream<DuplexStream>,
    relay: JoinHandle<Result<(), RelayError>>,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let agent = TcpStream::connect(address).await.unwrap();
        let (local, _) = listener.accept().await.unwrap();
        reset_when_dropped(&local);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut kubelet = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let relay = tokio::spawn(async move {
            let carried = Carried {
                to_pod: Counter::default(),
                from_pod: Counter::default(),
            };
            run(local, near, PORT, &carried).await
        });
        for channel in [0, 1] {
            let [low, high] = PORT.to_le_bytes();
            let first = Message::binary(vec![channel, low, high]);
            kubelet.send(first).await.unwrap();
        }
        Self {
            agent,
            kubelet,
            relay,
        }
    }

    async fn say(&mut self, channel: u8, data: &[u8]) {
        let message = Message::binary([&[channel], data].concat());
        self.kubelet.send(message).await.unwrap();
    }

    /// The next data that the kubelet gets.
    async fn hears(&mut self) -> Vec<u8> {
        loop {
            match self.kubelet.next().await.unwrap().unwrap() {
                Message::Binary(message) => {
                    assert_eq!(message[0], DATA_CHANNEL);
                    return message[1..].to_vec();
                }
                Message::Ping(_) => {}
                other => panic!("not data: {other:?}"),
            }
        }
    }

    async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame {
            code,
            reason: "".into(),
        };
        self.kubelet.close(Some(frame)).await.unwrap();
    }

    /// Everything the proxy-agent still gets, and how that ends.
    async fn rest(&mut self) -> (Vec<u8>, io::Result<usize>) {
        let mut got = Vec::new();
        let reading = self.agent.read_to_end(&mut got);
        let end = timeout(Duration::from_secs(5), reading).await;
        let end = end.expect("an end in time");
        (got, end)
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_an_end_is_an_end() {
    let mut world = World::new().await;
    world.agent.write_all(b"hello").await.unwrap();
    assert_eq!(world.hears().await, b"hello");
    world.say(0, b"good ").await;
    world.say(0, b"bye").await;
    world.close(CloseCode::Normal).await;
    let (got, end) = world.rest().await;
    assert_eq!(got, b"good bye");
    end.expect("a clean end");
    drop(world.agent);
    world.relay.await.unwrap().expect("a clean end");
}

#[tokio::test]
async fn who_is_done_sending_still_receives() {
    let mut world = World::new().await;
    world.agent.write_all(b"last word").await.unwrap();
    world.agent.shutdown().await.unwrap();
    assert_eq!(world.hears().await, b"last word");
    let answer = vec![7; 200_000];
    for piece in answer.chunks(32 * 1024) {
        world.say(0, piece).await;
    }
    world.close(CloseCode::Normal).await;
    let (got, end) = world.rest().await;
    assert_eq!(got.len(), answer.len());
    end.expect("a clean end");
    world.relay.await.unwrap().expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_end_is_cut_in_time() {
    let mut world = World::new().await;
    world.agent.shutdown().await.unwrap();
    let end = (&mut world.relay).await.unwrap();
    assert!(matches!(end, Err(RelayError::Unended)), "{end:?}");
}

#[tokio::test]
async fn what_is_cut_is_reset() {
    let mut world = World::new().await;
    world.say(0, b"half").await;
    let mut half = [0; 4];
    world.agent.read_exact(&mut half).await.unwrap();
    let World {
        mut agent,
        kubelet,
        relay,
    } = world;
    drop(kubelet);
    let end = agent.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let end = relay.await.unwrap();
    assert!(
        matches!(end, Err(RelayError::Cut | RelayError::Hub { .. })),
        "{end:?}"
    );
}

#[tokio::test]
async fn errors_of_the_kubelet_are_resets() {
    for (channel, data, reason) in [
        (1, &b"nobody listens"[..], "pod_error"),
        (2, b"x", "pod_error"),
    ] {
        let mut world = World::new().await;
        world.say(channel, data).await;
        let (_, end) = world.rest().await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(world.relay.await.unwrap().unwrap_err().reason(), reason);
    }
    let mut world = World::new().await;
    world.close(CloseCode::Away).await;
    let (_, end) = world.rest().await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_proxy_agent_that_breaks_is_no_farewell() {
    let World {
        agent,
        mut kubelet,
        relay,
    } = World::new().await;
    agent.set_zero_linger().unwrap();
    drop(agent);
    let end = relay.await.unwrap();
    assert!(matches!(end, Err(RelayError::Local { .. })), "{end:?}");
    loop {
        match kubelet.next().await {
            Some(Ok(Message::Close(frame))) => panic!("a farewell: {frame:?}"),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_hub_is_found() {
    let World {
        agent: _agent,
        kubelet: _kubelet,
        relay,
    } = World::new().await;
    let end = relay.await.unwrap();
    assert!(matches!(end, Err(RelayError::Silent)), "{end:?}");
}
