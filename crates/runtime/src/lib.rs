//! What every role needs around its work: signals and drain, readiness, the operations listener
//! (health and metrics), logs, listeners, read-ahead and Go-style flag values.

pub mod drain;
pub mod error;
pub mod flags;
pub mod listen;
pub mod logs;
pub mod operations;
pub mod read_ahead;
pub mod readiness;
pub mod unix_socket;
