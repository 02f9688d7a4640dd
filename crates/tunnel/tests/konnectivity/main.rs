//! Both ends of an agent's konnectivity stream against each other, in one process, over the bytes
//! of real HTTP/2.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod clients;
mod endings;
mod many;
mod pair;
mod peers;
mod raw_stream;
