//! Asking the proxy-agent whether it is ready.

use std::time::Duration;

use bytes::Bytes;
use cluster_proxy_runtime::flags::HostPort;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The proxy-agent's `/readyz`.
#[derive(Debug)]
pub(crate) struct ReadyProbe {
    address: HostPort,
}

impl ReadyProbe {
    pub(crate) fn new(address: HostPort) -> Self {
        Self { address }
    }

    /// Whether the proxy-agent says that it is ready, which it is only while it is connected to a
    /// proxy-server.
    pub(crate) async fn check(&self) -> Result<(), NotReady> {
        let answered = timeout(PROBE_LIMIT, self.ask()).await;
        let (status, body) = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => return Err(self.unreachable(cause)),
            Err(_) => {
                let cause = format!("no answer within {} s", PROBE_LIMIT.as_secs());
                return Err(self.unreachable(cause));
            }
        };
        if status == StatusCode::OK {
            return Ok(());
        }
        let said = body.lines().next().unwrap_or_default().trim();
        Err(NotReady::Says {
            status,
            said: said.escape_debug().take(MAX_SAID).collect(),
        })
    }

    async fn ask(&self) -> Result<(StatusCode, String), String> {
        let HostPort { host, port } = &self.address;
        let socket = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| error.to_string())?;
        let request = Request::get("/readyz")
            .header(header::HOST, self.address.to_string())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok::<_, hyper::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection's own end tells nothing that the exchange does not.
        let (answer, _) = tokio::join!(exchange, connection);
        answer.map_err(|error| error.to_string())
    }

    fn unreachable(&self, cause: String) -> NotReady {
        NotReady::Unreachable {
            address: self.address.clone(),
            cause,
        }
    }
}

/// Why the proxy-agent does not count as ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// It says so itself.
    #[error("the proxy-agent answers {status}: {said}")]
    Says {
        /// What it answered with.
        status: StatusCode,
        /// The first line of its answer.
        said: String,
    },
    /// It does not answer.
    #[error("the proxy-agent cannot be asked at {address}: {cause}")]
    Unreachable {
        /// Where.
        address: HostPort,
        /// What the system says.
        cause: String,
    },
}

/// The proxy-agent is in the same pod: what takes longer than this hangs.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Of a health answer only the first line is of interest.
const MAX_BODY: usize = 4096;

/// How much of it stands in a log line.
const MAX_SAID: usize = 200;
