//! A server's introduction and its control messages, in pieces of any size, as the agent sees
//! them: every message that is well-formed is heard, in order, and nothing else is.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use cluster_proxy_fuzz::{agent_hello, headers, run};
use cluster_proxy_tunnel::Http2Settings;
use cluster_proxy_tunnel::lane::{AgentLane, LaneEvent};
use http::{Method, Request, Uri};
use libfuzzer_sys::fuzz_target;
use tokio::io::{DuplexStream, duplex};

#[derive(Debug, Arbitrary)]
struct Server {
    id: Option<Vec<u8>>,
    count: Option<Vec<u8>>,
    capabilities: Vec<u8>,
    messages: Vec<Message>,
    piece: u8,
}

#[derive(Debug, Clone, Arbitrary)]
enum Message {
    Drain,
    ServerCount(u32),
    Lanes(u32),
    /// The word about a token that was not shown.
    Admitted,
    /// A varint field that nobody knows.
    Unknown(u8),
    Empty,
    /// Ends what is well-formed.
    Raw(Vec<u8>),
}

/// What an agent hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Drain,
    ServerCount(u32),
    Lanes(u32),
}

fuzz_target!(|server: Server| {
    run(async {
        let (near, far) = duplex(64 * 1024);
        let expected = server.expected();
        let is_whole = server.is_whole();
        let mut heard = Vec::new();
        let introduced = tokio::select! {
            introduced = agent(near, &mut heard, expected.len()) => introduced,
            () = server.play(far) => return,
        };
        if introduced {
            let known = heard.len().min(expected.len());
            assert_eq!(heard[..known], expected[..known]);
            assert!(!is_whole || heard.len() == expected.len(), "{heard:?}");
        }
    });
});

/// Hears until the lane ends, or as much as was said is heard. Whether there was a lane.
async fn agent(io: DuplexStream, heard: &mut Vec<Heard>, enough: usize) -> bool {
    let hello = agent_hello();
    let http2 = Http2Settings::default();
    let Ok(mut lane) = AgentLane::open_over(io, &hello, None, &http2, |_| true).await else {
        return false;
    };
    assert!(!lane.server().server_id.is_empty() && lane.server().server_count > 0);
    while heard.len() < enough {
        match lane.next().await {
            Ok(LaneEvent::ServerDrains) => heard.push(Heard::Drain),
            Ok(LaneEvent::ServerCount(count)) => heard.push(Heard::ServerCount(count)),
            Ok(LaneEvent::Lanes(count)) => heard.push(Heard::Lanes(count)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    true
}

impl Server {
    fn is_whole(&self) -> bool {
        !self
            .messages
            .iter()
            .any(|message| matches!(message, Message::Raw(_)))
    }

    /// What is said before the first bytes that are no message.
    fn expected(&self) -> Vec<Heard> {
        self.messages
            .iter()
            .take_while(|message| !matches!(message, Message::Raw(_)))
            .filter_map(|message| match message {
                Message::Drain => Some(Heard::Drain),
                Message::ServerCount(count) => Some(Heard::ServerCount(*count)),
                Message::Lanes(count) => Some(Heard::Lanes(*count)),
                Message::Admitted | Message::Unknown(_) | Message::Empty | Message::Raw(_) => None,
            })
            .collect()
    }

    async fn play(self, io: DuplexStream) {
        let Ok((mut sender, connection)) = h2::client::handshake(io).await else {
            return;
        };
        let speaking = async {
            let Ok((answer, mut send)) = sender.send_request(self.introduction(), false) else {
                return std::future::pending().await;
            };
            let _answer = answer.await;
            let bytes: Vec<u8> = self.messages.iter().flat_map(Message::encode).collect();
            for piece in bytes.chunks(usize::from(self.piece) + 1) {
                let _ = send.send_data(Bytes::copy_from_slice(piece), false);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = speaking => {}
            _ = connection => {}
        }
        // The agent is the one to end.
        std::future::pending().await
    }

    fn introduction(&self) -> Request<()> {
        let count = self.count.clone().unwrap_or_else(|| b"1".to_vec());
        let fields = [
            (
                b"serverid".to_vec(),
                self.id.clone().unwrap_or_else(|| b"s".to_vec()),
            ),
            (b"servercount".to_vec(), count),
            (b"capabilities".to_vec(), self.capabilities.clone()),
        ];
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("https://lane/lane/v1");
        *request.headers_mut() = headers(&fields);
        request
    }
}

impl Message {
    /// Behind its length, as a varint.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Drain => vec![2, 0x0a, 0],
            Self::ServerCount(count) => counting(0x12, *count),
            Self::Lanes(count) => counting(0x1a, *count),
            Self::Admitted => vec![2, 0x52, 0],
            // Field 15: none that is known begins so.
            Self::Unknown(value) => vec![2, 0x78, value & 0x7f],
            Self::Empty => vec![0],
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

/// A message behind `tag` whose only field is a count.
fn counting(tag: u8, count: u32) -> Vec<u8> {
    let mut field = Vec::new();
    if count != 0 {
        field.push(8);
        varint(&mut field, count);
    }
    let mut bytes = vec![0, tag, field.len().to_le_bytes()[0]];
    bytes.extend(field);
    bytes[0] = (bytes.len() - 1).to_le_bytes()[0];
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(0x80 | (value & 0x7f).to_le_bytes()[0]);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}
