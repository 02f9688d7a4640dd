//! Metrics as text: OpenMetrics for scrapers that ask for it, else Prometheus' older format, in
//! which Go programs serve theirs. Names of samples are the same in both.

use std::fmt::Write as _;

use http::{HeaderMap, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// A counter whose samples are named as it is, without `_total`: what dashboards made for a Go
/// program know it by. OpenMetrics allows that only to metrics of unknown type.
#[derive(Debug, Clone, Default)]
pub struct PlainCounter(Gauge<u64, AtomicU64>);

impl PlainCounter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for PlainCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for PlainCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Which of the two formats a scraper gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// What the request's `Accept` asks for.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let asks = headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|value| contains(value.as_bytes(), b"application/openmetrics-text"));
        if asks {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All metrics of `registry`.
    pub(crate) fn render(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, registry)?;
        match self {
            Self::OpenMetrics => Ok(text),
            Self::Prometheus => prometheus(&text),
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len())
        .any(|window| window.eq_ignore_ascii_case(part))
}

/// OpenMetrics text in the older format: there a family is named as its samples are.
fn prometheus(open_metrics: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((family, kind)) = rest.split_once(' ') else {
                continue;
            };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                // See `PlainCounter`; nothing else here is of unknown type.
                "unknown" => ("", "counter"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take().filter(|(name, _)| *name == family) {
                writeln!(text, "# HELP {family}{suffix} {words}")?;
            }
            writeln!(text, "# TYPE {family}{suffix} {kind}")?;
        } else if !line.starts_with('#') {
            writeln!(text, "{line}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let (counter, plain) = (Counter::<u64>::default(), PlainCounter::default());
        registry.register("a_things", "Things", counter.clone());
        registry.register("a_failure_count", "Failures", plain.clone());
        let histogram = Histogram::new([1.0]);
        registry.register("a_seconds", "Time", histogram.clone());
        counter.inc();
        plain.inc();
        histogram.observe(0.5);
        registry
    }

    #[test]
    fn samples_have_the_same_names_in_both_formats() {
        let open = Format::OpenMetrics.render(&registry()).unwrap();
        let older = Format::Prometheus.render(&registry()).unwrap();
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&open), samples(&older));
        assert!(open.contains("# TYPE a_failure_count unknown\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
        for line in [
            "# HELP a_things_total Things.\n# TYPE a_things_total counter\na_things_total 1\n",
            "# TYPE a_failure_count counter\na_failure_count 1\n",
            "# TYPE a_seconds histogram\n",
        ] {
            assert!(older.contains(line), "{line} in {older}");
        }
        assert!(!older.contains("EOF"), "{older}");
    }

    #[test]
    fn a_scraper_has_what_it_asks_for() {
        let mut headers = HeaderMap::new();
        assert_eq!(Format::of(&headers), Format::Prometheus);
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
        assert_eq!(Format::of(&headers), Format::Prometheus);
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        headers.insert(header::ACCEPT, HeaderValue::from_static(prometheus_3));
        assert_eq!(Format::of(&headers), Format::OpenMetrics);
    }
}
