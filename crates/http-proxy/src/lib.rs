//! The way out of a network that lets nobody out but through an HTTP proxy.
//!
//! [`Proxies`] says which proxy a target is reached through, from the environment and by the rules
//! of Go programs (`golang.org/x/net/http/httpproxy`), since it is Kubernetes that sets the
//! variables. [`Proxy::open`] asks that proxy for a connection (`CONNECT`, RFC 9110 section 9.3.6).
//! Who dials opens the TCP connection itself, so that its own limits and socket options hold.
//!
//! Everything dialled here speaks TLS, so of the variables `HTTPS_PROXY` counts, and `HTTP_PROXY`
//! does not. The credentials in a proxy's URL are in no text that this crate makes.

mod connect_answer;
mod error;
mod no_proxy;
mod proxies;
mod proxy;
mod proxy_url;
mod via;

pub use connect_answer::{AnswerError, ConnectAnswer, MAX_ANSWER};
pub use error::{ProxyError, Step};
pub use no_proxy::NoProxy;
pub use proxies::{Proxies, VariableError};
pub use proxy::{Outbound, Proxy};
pub use proxy_url::{ProxyUrl, ProxyUrlError};
pub use via::Via;
