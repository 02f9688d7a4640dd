//! The tunnel behind one face: [`Dialer`] for who wants to reach something, [`lane::AgentLane`]
//! for who serves it.
//!
//! The tunnel moves bytes and knows no HTTP beyond CONNECT: a tunnelled connection is one HTTP/2
//! stream at each hop, with HTTP/2's flow control, half-close and resets standing for TCP's.

mod client_socket;
mod dial_error;
pub mod dialer;
mod error;
pub mod frontend;
mod http2;
mod incoming;
pub mod konnectivity;
pub mod lane;
mod proxy_status;
pub mod relay;
pub mod socket;
mod stream;
mod target;
pub mod throttle;
pub mod tls;
mod unread;
mod unread_budget;

pub use client_socket::ClientSocket;
pub use dial_error::DialError;
pub use dialer::{Dialer, DialerConfig, DialerMetrics, ProxyServerDialer};
pub use error::TunnelError;
pub use http2::{Http2Settings, IncomingConnect};
pub use stream::TunnelStream;
pub use target::{Target, TargetError};
pub use unread_budget::UnreadBudget;
