//! How many tasks run, so that one that never ends can be seen.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

/// Adds `cluster_proxy_tasks` to `registry`: the tasks of the runtime that this is called in.
///
/// # Panics
///
/// Outside of a runtime.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Tasks(Handle::current())));
}

#[derive(Debug)]
struct Tasks(Handle);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let alive = self.0.metrics().num_alive_tasks();
        let gauge = ConstGauge::new(i64::try_from(alive).unwrap_or(i64::MAX));
        let help = "Tasks that have not ended";
        let metric =
            encoder.encode_descriptor("cluster_proxy_tasks", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_counted_as_they_are() {
        let mut registry = Registry::default();
        register(&mut registry);
        let tasks = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
            let (name, value) = line.split_once(' ').unwrap();
            assert_eq!(name, "cluster_proxy_tasks");
            value.parse::<usize>().unwrap()
        };
        let before = tasks();
        let task = tokio::spawn(std::future::pending::<()>());
        assert_eq!(tasks(), before + 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(tasks(), before);
    }
}
