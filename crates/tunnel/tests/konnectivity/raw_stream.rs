//! Streams of gRPC on which tests say what they want to.

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::framing::{Unframer, frame};
use cluster_proxy_konnectivity_wire::{ConnectId, DialId, Packet};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use http::request::Builder;
use tokio::io::DuplexStream;
use tokio::time::timeout;

use crate::pair::LIMIT;

/// HTTP/2 over `io`.
pub(crate) async fn http2(io: DuplexStream) -> SendRequest<Bytes> {
    let (requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    requests
}

/// A gRPC stream on which anything may be said.
pub(crate) struct RawStream {
    /// The head of the answer.
    pub(crate) headers: HeaderMap,
    send: SendStream<Bytes>,
    recv: RecvStream,
    unframer: Unframer,
}

impl RawStream {
    /// Calls `request`, which has what differs from one call to the next.
    async fn call(requests: &SendRequest<Bytes>, request: Builder) -> Self {
        let request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, send) = requests.send_request(request, false).unwrap();
        let (head, recv) = answer.await.unwrap().into_parts();
        Self {
            headers: head.headers,
            send,
            recv,
            unframer: Unframer::default(),
        }
    }

    /// An agent's.
    pub(crate) async fn of_agent(io: DuplexStream) -> Self {
        let request = http::Request::post("https://a/AgentService/Connect").header("agentid", "x");
        Self::call(&http2(io).await, request).await
    }

    /// A client's.
    pub(crate) async fn of_client(requests: &SendRequest<Bytes>) -> Self {
        let request = http::Request::post("https://proxy-server/ProxyService/Proxy");
        Self::call(requests, request).await
    }

    pub(crate) fn say(&mut self, packet: &Packet) {
        self.say_raw(frame(packet));
    }

    pub(crate) fn say_raw(&mut self, bytes: Bytes) {
        self.send.send_data(bytes, false).unwrap();
    }

    /// The next packet; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Option<Packet> {
        loop {
            if let Some(message) = self.unframer.next_message().unwrap() {
                return Some(Packet::decode(message).unwrap());
            }
            let piece = timeout(LIMIT, self.recv.data()).await.unwrap()?.unwrap();
            self.recv
                .flow_control()
                .release_capacity(piece.len())
                .unwrap();
            self.unframer.push(piece);
        }
    }

    /// Asks for `target`, and for the number of its connection.
    pub(crate) async fn dial(&mut self, target: &str) -> Result<ConnectId, String> {
        self.say(&Packet::DialRequest {
            protocol: "tcp".into(),
            address: target.to_owned(),
            dial: DialId::new(42),
        });
        match self.hear().await {
            Some(Packet::DialResponse { dial, result }) => {
                assert_eq!(dial, DialId::new(42));
                result.map_err(|error| error.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    /// The status that the call ended with.
    pub(crate) async fn status(&mut self) -> String {
        let trailers = self.recv.trailers().await.unwrap().unwrap();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    }

    /// Returns when nothing more is heard, however that ends.
    pub(crate) async fn ended(&mut self) {
        let ending = async { while let Some(Ok(_)) = self.recv.data().await {} };
        timeout(LIMIT, ending).await.unwrap();
    }
}
