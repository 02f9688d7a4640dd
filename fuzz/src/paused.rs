//! A runtime whose clock does not wait.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO");
}

/// Runs the future to its end with a paused clock: time passes when nothing else can happen. A
/// future that takes more than an hour of it is a finding.
pub fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let limit = Duration::from_secs(3600);
            tokio::time::timeout(limit, future)
                .await
                .expect("everything has a deadline")
        })
    })
}
