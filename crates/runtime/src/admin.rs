//! The admin listener: what the operations listener tells, and pages of the role. Plain HTTP,
//! nothing can be changed by it, and nothing on it is a secret: who reaches it by a port-forward
//! learns no more than from the metrics and the log.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tokio::net::TcpListener;

use crate::operations::{Operations, serve, text};

/// Something that a role tells at a path of its own.
#[derive(Clone)]
pub struct Page {
    path: &'static str,
    content_type: &'static str,
    status: StatusCode,
    render: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Page {
    /// JSON at `path`, made anew for each request.
    pub fn json(path: &'static str, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self {
            path,
            content_type: "application/json",
            status: StatusCode::OK,
            render: Arc::new(render),
        }
    }

    /// That there is nothing at `path` and below it, and why.
    #[must_use]
    pub fn not_implemented(path: &'static str, why: &'static str) -> Self {
        Self {
            path,
            content_type: "text/plain; charset=utf-8",
            status: StatusCode::NOT_IMPLEMENTED,
            render: Arc::new(move || format!("{why}\n")),
        }
    }

    fn is_at(&self, path: &str) -> bool {
        path.strip_prefix(self.path).is_some_and(|rest| {
            rest.is_empty() || (self.status != StatusCode::OK && rest.starts_with('/'))
        })
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut response = text(self.status, (self.render)());
        let content_type = HeaderValue::from_static(self.content_type);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish()
    }
}

/// What the admin listener tells.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Health and metrics are here too, as konnectivity has them.
    pub operations: Operations,
    /// The role's own.
    pub pages: Vec<Page>,
}

impl Admin {
    /// Serves until the drain has ended.
    pub async fn serve(self, listener: TcpListener) {
        let drain = self.operations.drain.clone();
        let answer = move |request: &http::Request<_>| {
            let path = request.uri().path();
            match self.pages.iter().find(|page| page.is_at(path)) {
                Some(page) => page.answer(),
                None => self.operations.answer(request),
            }
        };
        serve(listener, drain, answer).await;
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::drain::Drain;
    use crate::operations::tests::{get, request};
    use crate::readiness::Readiness;

    #[tokio::test]
    async fn pages_stand_beside_health_and_metrics() {
        let drain = Drain::new();
        let admin = Admin {
            operations: Operations {
                readiness: Readiness::new(),
                drain: drain.clone(),
                registry: Arc::new(Registry::default()),
            },
            pages: vec![
                Page::json("/agents", || "{\"agents\":[]}".to_owned()),
                Page::not_implemented("/debug/pprof", "no profiles here"),
            ],
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(admin.serve(listener));
        let agents = get(address, "/agents").await;
        assert!(agents.starts_with("HTTP/1.1 200"), "{agents}");
        assert!(
            agents.contains("content-type: application/json"),
            "{agents}"
        );
        assert!(agents.ends_with("{\"agents\":[]}"), "{agents}");
        for path in [
            "/debug/pprof",
            "/debug/pprof/",
            "/debug/pprof/profile?seconds=1",
        ] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 501"), "{answer}");
            assert!(answer.ends_with("no profiles here\n"), "{answer}");
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        for path in ["/agents/x", "/agentsx", "/debug/pprofx"] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        }
        let posted = request(address, "POST", "/agents").await;
        assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
        drain.end();
        serving.await.unwrap();
    }
}
