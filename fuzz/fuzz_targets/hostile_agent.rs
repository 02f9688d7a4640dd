//! An agent that says anything on its lane, as the hub sees it.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use cluster_proxy_fuzz::{headers, run};
use cluster_proxy_tunnel::lane::{HubLane, ServerHello};
use cluster_proxy_tunnel::{Http2Settings, Target};
use http::{Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

#[derive(Debug, Arbitrary)]
struct Agent {
    status: u16,
    /// Leaves the id out, which no lane comes about without.
    nameless: bool,
    hello: Vec<(Hello, Vec<u8>)>,
    control: Vec<Vec<u8>>,
    answers: Vec<Answer>,
}

#[derive(Debug, Arbitrary)]
enum Hello {
    Id,
    Identifiers,
    Version,
    Capabilities,
}

#[derive(Debug, Arbitrary)]
struct Answer {
    status: Option<u16>,
    proxy_status: Vec<Vec<u8>>,
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, Arbitrary)]
enum End {
    Stream,
    Reset(u32),
    Never,
}

fuzz_target!(|agent: Agent| {
    run(async {
        let (near, far) = duplex(64 * 1024);
        tokio::select! {
            () = hub(near, agent.answers.len()) => {}
            () = agent.play(far) => panic!("the agent waits for the hub"),
        }
    });
});

/// The hub's end: as many tunnelled connections as the agent has answers for, and one more.
async fn hub(io: DuplexStream, answers: usize) {
    let hello = ServerHello {
        server_id: "s".to_owned(),
        server_count: 1,
        capabilities: vec![],
    };
    let settings = Http2Settings::default();
    let Ok((lane, mut driver)) = HubLane::open_over(io, &hello, &settings).await else {
        return;
    };
    let id = &lane.agent().agent_id;
    assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
    let target: Target = "127.0.0.1:80".parse().expect("a target");
    let using = async {
        for _ in 0..=answers {
            match lane.open(&target, Duration::from_secs(1)).await {
                Ok(mut stream) => {
                    let mut content = Vec::new();
                    let reading = stream.read_to_end(&mut content);
                    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
                }
                Err(error) => {
                    assert!(!error.reason().is_empty() && !error.status().is_success());
                    assert!(
                        !error.to_string().contains(['\n', '\r', '\u{1b}']),
                        "{error:?}"
                    );
                }
            }
        }
        lane.close();
    };
    tokio::select! {
        () = using => {}
        _ = driver.run() => {}
    }
}

impl Agent {
    async fn play(self, io: DuplexStream) {
        let Ok(mut connection) = h2::server::handshake(io).await else {
            return std::future::pending().await;
        };
        let mut kept = Vec::new();
        let mut streams = Vec::new();
        let mut answers = self.answers.iter();
        let mut introduced = false;
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            if !introduced {
                introduced = true;
                let Ok(mut send) = respond.send_response(self.introduction(), false) else {
                    continue;
                };
                for message in &self.control {
                    let _ = send.send_data(Bytes::from(message.clone()), false);
                }
                kept.push(send);
            } else if let Some(answer) = answers.next() {
                let end = matches!(answer.end, End::Stream) && answer.body.is_empty();
                let Ok(mut send) = respond.send_response(answer.response(), end) else {
                    continue;
                };
                if !end {
                    let body = Bytes::from(answer.body.clone());
                    let _ = send.send_data(body, matches!(answer.end, End::Stream));
                }
                if let End::Reset(code) = answer.end {
                    send.send_reset(code.into());
                }
                kept.push(send);
            } else {
                streams.push(respond);
            }
        }
        std::future::pending().await
    }

    fn introduction(&self) -> Response<()> {
        let mut fields: Vec<_> = self
            .hello
            .iter()
            .map(|(name, value)| (name.name(), value.clone()))
            .collect();
        if !self.nameless {
            fields.insert(0, (Hello::Id.name(), b"agent".to_vec()));
        }
        let mut response = Response::new(());
        *response.status_mut() = if self.status.is_multiple_of(4) {
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK)
        } else {
            StatusCode::OK
        };
        *response.headers_mut() = headers(&fields);
        response
    }
}

impl Hello {
    fn name(&self) -> Vec<u8> {
        match self {
            Self::Id => b"agentid".to_vec(),
            Self::Identifiers => b"agentidentifiers".to_vec(),
            Self::Version => b"version".to_vec(),
            Self::Capabilities => b"capabilities".to_vec(),
        }
    }
}

impl Answer {
    fn response(&self) -> Response<()> {
        let fields: Vec<_> = self
            .proxy_status
            .iter()
            .map(|value| (b"proxy-status".to_vec(), value.clone()))
            .collect();
        let mut response = Response::new(());
        *response.headers_mut() = headers(&fields);
        *response.status_mut() = self
            .status
            .and_then(|code| StatusCode::from_u16(code).ok())
            .filter(|code| !code.is_informational())
            .unwrap_or(StatusCode::OK);
        response
    }
}
