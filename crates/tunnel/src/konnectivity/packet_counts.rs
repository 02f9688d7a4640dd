//! How many packets of konnectivity this process has sent and received, by segment and type: what
//! konnectivity's own `stream_packets_total` counts. Lanes have no packets.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_proxy_konnectivity_wire::Packet;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// A part of the way of a packet, and its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    FromClient,
    ToClient,
    FromAgent,
    ToAgent,
}

/// Of the process, as the metrics of Go's programs are: whoever has a stream counts here.
static COUNTS: [[AtomicU64; TYPES.len()]; SEGMENTS.len()] =
    [const { [const { AtomicU64::new(0) }; TYPES.len()] }; SEGMENTS.len()];

const SEGMENTS: [&str; 4] = ["from_client", "to_client", "from_agent", "to_agent"];

const TYPES: [&str; 7] = [
    "DIAL_REQ",
    "DIAL_RSP",
    "CLOSE_REQ",
    "CLOSE_RSP",
    "DATA",
    "DIAL_CLS",
    "DRAIN",
];

impl Segment {
    pub(super) fn count(self, packet: &Packet) {
        let kind = match packet {
            Packet::DialRequest { .. } => 0,
            Packet::DialResponse { .. } => 1,
            Packet::CloseRequest { .. } => 2,
            Packet::CloseResponse { .. } => 3,
            Packet::Data { .. } => 4,
            Packet::CloseDial { .. } => 5,
            Packet::Drain => 6,
        };
        COUNTS[self as usize][kind].fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells the counts as the counter `stream_packets`, with the labels `segment` and `packet_type`.
#[derive(Debug)]
pub struct PacketCounts;

impl Collector for PacketCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Packets of konnectivity, by segment and type";
        let mut metric =
            encoder.encode_descriptor("stream_packets", help, None, MetricType::Counter)?;
        for (segment, counts) in SEGMENTS.iter().zip(&COUNTS) {
            for (packet_type, count) in TYPES.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                // What never came is left out, as Go's programs do.
                if count > 0 {
                    let labels = [("segment", *segment), ("packet_type", *packet_type)];
                    ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn packets_are_counted_where_they_pass() {
        let mut registry = Registry::default();
        registry
            .sub_registry_with_prefix("x")
            .register_collector(Box::new(PacketCounts));
        // Nothing else of this process' tests drains an agent towards a client.
        Segment::ToClient.count(&Packet::Drain);
        Segment::ToClient.count(&Packet::Drain);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = "x_stream_packets_total{segment=\"to_client\",packet_type=\"DRAIN\"} 2\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("packet_type=\"DRAIN\"} 0"), "{text}");
    }
}
