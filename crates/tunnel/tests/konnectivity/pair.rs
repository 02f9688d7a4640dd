//! A server's end and an agent's end that serves targets of this machine.

use std::time::{Duration, Instant};

use cluster_proxy_identity::Token;
use cluster_proxy_tunnel::konnectivity::{AgentStream, PendingAgent, ServerStream};
use cluster_proxy_tunnel::lane::{AgentHello, LaneEvent, ServerHello};
use cluster_proxy_tunnel::relay::{RelayEnd, TcpRelay};
use cluster_proxy_tunnel::{Http2Settings, IncomingConnect, Target, TunnelError, socket};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Pair {
    pub(crate) hub: AgentStream,
    pub(crate) hub_task: JoinHandle<TunnelError>,
    pub(crate) agent: JoinHandle<TunnelError>,
    /// What the agent is told to do.
    pub(crate) tell: mpsc::Sender<Tell>,
    /// How its relays ended.
    pub(crate) ends: mpsc::Receiver<RelayEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Drain,
    Finish,
    Close,
}

pub(crate) fn hello() -> AgentHello {
    AgentHello {
        agent_id: "agent-1".into(),
        identifiers: "host=managed&default-route=true".parse().unwrap(),
        version: String::new(),
        capabilities: vec![],
    }
}

pub(crate) fn server_hello() -> ServerHello {
    ServerHello {
        server_id: "server-1".into(),
        server_count: 3,
        capabilities: vec![],
    }
}

pub(crate) fn connected() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(256 * 1024)
}

/// Calls a server over `io` as an agent does.
pub(crate) async fn call(
    io: DuplexStream,
    token: Option<&str>,
) -> Result<ServerStream<DuplexStream>, TunnelError> {
    let settings = Http2Settings::default();
    let token = token.map(|text| Token::parse(text).unwrap());
    let token = token.as_ref();
    ServerStream::open_over(io, "proxy-server:8091", &hello(), token, &settings, |_| {
        true
    })
    .await
}

pub(crate) async fn pair() -> Pair {
    let (hub_io, agent_io) = connected();
    let calling = tokio::spawn(async move { call(agent_io, None).await });
    let pending = PendingAgent::open_over(hub_io, &Http2Settings::default())
        .await
        .unwrap();
    let (hub, mut driver) = pending.accept(&server_hello()).unwrap();
    let hub_task = tokio::spawn(async move { driver.run().await });
    let stream = calling.await.unwrap().unwrap();
    assert_eq!(stream.server(), &server_hello());
    assert_eq!(hub.agent(), &hello());
    let (tell, told) = mpsc::channel(4);
    let (report, ends) = mpsc::channel(4096);
    Pair {
        hub,
        hub_task,
        agent: tokio::spawn(serve(stream, told, report)),
        tell,
        ends,
    }
}

/// Serves as an agent does: dials the target and relays. Ends with the stream.
async fn serve(
    mut stream: ServerStream<DuplexStream>,
    mut told: mpsc::Receiver<Tell>,
    report: mpsc::Sender<RelayEnd>,
) -> TunnelError {
    let mut relays = JoinSet::new();
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Ok(LaneEvent::Connect(incoming)) => {
                    relays.spawn(relay(incoming, report.clone()));
                }
                Ok(other) => panic!("{other:?}"),
                Err(end) => return end,
            },
            Some(_) = relays.join_next() => {}
            Some(tell) = told.recv() => match tell {
                Tell::Drain => stream.drain(),
                Tell::Finish => stream.finish(),
                Tell::Close => stream.close(),
            },
        }
    }
}

async fn relay(mut incoming: IncomingConnect, report: mpsc::Sender<RelayEnd>) {
    let target = incoming.target().clone();
    let host = target.host();
    let dialled = tokio::select! {
        dialled = socket::dial(&host, target.port(), LIMIT) => dialled,
        () = incoming.abandoned() => return,
    };
    match dialled {
        Ok(socket) => {
            let Ok(stream) = incoming.accept() else {
                return;
            };
            let end = TcpRelay::new(stream, socket).run().await;
            let _ = report.send(end).await;
        }
        Err(error) => incoming.refuse(&error).await,
    }
}

pub(crate) async fn target() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, target)
}

/// A target that sends back what it gets, on every connection.
pub(crate) async fn echo() -> Target {
    let (listener, target) = target().await;
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    target
}

/// Waits until `done` says so.
pub(crate) async fn eventually(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
