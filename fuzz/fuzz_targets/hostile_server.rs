//! A server that says anything on a lane, as the agent sees it.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use cluster_proxy_fuzz::{agent_hello, headers, run};
use cluster_proxy_identity::Token;
use cluster_proxy_tunnel::lane::{AgentLane, LaneEvent};
use cluster_proxy_tunnel::{DialError, Http2Settings};
use http::{Method, Request, Uri};
use libfuzzer_sys::fuzz_target;
use tokio::io::{DuplexStream, duplex};

#[derive(Debug, Arbitrary)]
struct Server {
    path: Option<String>,
    agent_has_token: bool,
    hello: Vec<(Hello, Vec<u8>)>,
    count: u16,
    control: Vec<Vec<u8>>,
    ends_control: bool,
    connects: Vec<Connect>,
}

#[derive(Debug, Arbitrary)]
enum Hello {
    Id,
    Count,
    Capabilities,
    Refusal,
}

#[derive(Debug, Arbitrary)]
struct Connect {
    get: bool,
    authority: String,
}

fuzz_target!(|server: Server| {
    run(async {
        let (near, far) = duplex(64 * 1024);
        let token = server
            .agent_has_token
            .then(|| Token::parse("a.b.c").expect("a token"));
        tokio::select! {
            () = agent(near, token.as_ref()) => {}
            () = server.play(far) => {}
        }
    });
});

async fn agent(io: DuplexStream, token: Option<&Token>) {
    let hello = agent_hello();
    let http2 = Http2Settings::default();
    let Ok(mut lane) = AgentLane::open_over(io, &hello, token, &http2, |_| true).await else {
        return;
    };
    assert!(!lane.server().server_id.is_empty());
    assert!((1..=256).contains(&lane.server().server_count));
    while let Ok(event) = lane.next().await {
        match event {
            LaneEvent::Connect(incoming) => {
                assert_ne!(incoming.target().port(), 0);
                if incoming.target().port() % 2 == 0 {
                    let details = incoming.target().to_string();
                    incoming.refuse(&DialError::Refused { details }).await;
                } else {
                    drop(incoming.accept());
                }
            }
            LaneEvent::ServerCount(count) => assert!(count > 0),
            LaneEvent::ServerCloses => lane.close(),
            LaneEvent::ServerDrains | LaneEvent::Lanes(_) => {}
        }
    }
}

impl Server {
    async fn play(self, io: DuplexStream) {
        let Ok((mut sender, connection)) = h2::client::handshake(io).await else {
            return;
        };
        let speaking = async {
            let Ok((answer, mut send)) = sender.send_request(self.introduction(), false) else {
                return;
            };
            let Ok(answer) = answer.await else {
                return;
            };
            for message in &self.control {
                let _ = send.send_data(Bytes::from(message.clone()), false);
            }
            if self.ends_control {
                let _ = send.send_data(Bytes::new(), true);
            }
            for connect in &self.connects {
                let Some(request) = connect.request() else {
                    continue;
                };
                let Ok(ready) = sender.ready().await else {
                    return;
                };
                sender = ready;
                let Ok((answer, stream)) = sender.send_request(request, false) else {
                    continue;
                };
                let _ = answer.await;
                drop(stream);
            }
            drop(answer);
        };
        tokio::select! {
            () = speaking => {}
            _ = connection => {}
        }
    }

    fn introduction(&self) -> Request<()> {
        let mut fields = vec![
            (b"serverid".to_vec(), b"s".to_vec()),
            (b"servercount".to_vec(), self.count.to_string().into_bytes()),
        ];
        fields.extend(
            self.hello
                .iter()
                .map(|(name, value)| (name.name(), value.clone())),
        );
        let path = self.path.as_deref().unwrap_or("/lane/v1");
        let uri = Uri::builder()
            .scheme("https")
            .authority("lane")
            .path_and_query(path)
            .build()
            .unwrap_or_else(|_| Uri::from_static("https://lane/lane/v1"));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers(&fields);
        request
    }
}

impl Hello {
    fn name(&self) -> Vec<u8> {
        match self {
            Self::Id => b"serverid".to_vec(),
            Self::Count => b"servercount".to_vec(),
            Self::Capabilities => b"capabilities".to_vec(),
            Self::Refusal => b"refusal".to_vec(),
        }
    }
}

impl Connect {
    fn request(&self) -> Option<Request<()>> {
        let mut request = Request::new(());
        if self.get {
            *request.uri_mut() = format!("https://{}/", self.authority).parse().ok()?;
        } else {
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = Uri::builder()
                .authority(self.authority.as_str())
                .build()
                .ok()?;
        }
        Some(request)
    }
}
