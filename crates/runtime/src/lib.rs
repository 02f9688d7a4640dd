//! What every role needs around its work: signals and drain, readiness, the operations listener
//! (health and metrics), logs, tasks, listeners, memory, read-ahead and Go-style flag values.

pub mod admin;
pub mod drain;
pub mod error;
pub mod flags;
pub mod listen;
pub mod logs;
pub mod memory;
pub mod metrics_text;
pub mod operations;
pub mod read_ahead;
pub mod readiness;
pub mod tasks;
pub mod unix_socket;
