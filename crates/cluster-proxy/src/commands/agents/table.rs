//! The agents as a table for people.

use std::time::Duration;

use cluster_proxy_proxy_server::{AgentStatus, ServerStatus};
use jiff::Timestamp;

const HEADINGS: [&str; 11] = [
    "CLUSTER",
    "AGENT",
    "PROTOCOL",
    "VERSION",
    "LANES",
    "STREAMS",
    "RTT",
    "TO TARGETS",
    "TO CLIENTS",
    "SINCE",
    "STATE",
];

/// The table with a line about the server under it, as of `now`.
pub(super) fn of(status: &ServerStatus, now: Timestamp) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(status.agents.iter().map(|agent| row(agent, now)));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    if !status.agents.is_empty() {
        for row in &rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    let agents = match status.agents.len() {
        0 => "no agents".to_owned(),
        1 => "1 agent".to_owned(),
        more => format!("{more} agents"),
    };
    let draining = if status.draining { ", draining" } else { "" };
    text.push_str(&format!(
        "{agents} at server {} (version {}{draining})\n",
        printable(&status.server_id),
        printable(&status.version)
    ));
    text
}

fn row(agent: &AgentStatus, now: Timestamp) -> [String; 11] {
    let rtt = agent.round_trip_microseconds.map(Duration::from_micros);
    let state = if agent.draining { "draining" } else { "ready" };
    [
        printable(agent.cluster.as_deref().unwrap_or("-")),
        printable(&agent.agent_id),
        printable(&agent.protocol),
        printable(agent.version.as_deref().unwrap_or("-")),
        agent.lanes.to_string(),
        agent.streams.to_string(),
        rtt.map_or_else(
            || "-".to_owned(),
            |rtt| format!("{:.1}ms", rtt.as_secs_f64() * 1e3),
        ),
        bytes(agent.bytes_to_target),
        bytes(agent.bytes_to_client),
        age(now, agent.since),
        state.to_owned(),
    ]
}

/// Agents choose their ids: nothing of them may move the cursor.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut left = count as f64 / 1024.0;
    let mut unit = 0;
    while left >= 999.5 && unit + 1 < UNITS.len() {
        left /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(left < 9.95);
    format!("{left:.digits$}{}", UNITS[unit])
}

/// As kubectl shows ages: the two largest units.
fn age(now: Timestamp, since: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs();
    let age = Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).as_secs();
    let (minute, hour, day) = (60, 3600, 86_400);
    if age < 2 * minute {
        format!("{age}s")
    } else if age < 2 * hour {
        format!("{}m", age / minute)
    } else if age < 2 * day {
        format!("{}h{}m", age / hour, age % hour / minute)
    } else {
        format!("{}d{}h", age / day, age % day / hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(cluster: Option<&str>, version: Option<&str>) -> AgentStatus {
        AgentStatus {
            cluster: cluster.map(str::to_owned),
            agent_id: "a-1\u{1b}[2J".to_owned(),
            protocol: "lane".to_owned(),
            version: version.map(str::to_owned),
            peers: vec!["10.0.0.1:5".to_owned()],
            lanes: 2,
            streams: 13,
            round_trip_microseconds: version.map(|_| 12_345),
            bytes_to_target: 1023,
            bytes_to_client: 5 << 30,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            draining: version.is_none(),
        }
    }

    #[test]
    fn columns_are_aligned_and_nothing_moves_the_cursor() {
        let status = ServerStatus {
            server_id: "s-1".to_owned(),
            version: "0.1.0".to_owned(),
            draining: true,
            agents: vec![agent(None, None), agent(Some("cluster-one"), Some("0.1.0"))],
        };
        let now = "2026-01-03T01:00:00Z".parse().unwrap();
        assert_eq!(
            of(&status, now),
            "\
CLUSTER      AGENT         PROTOCOL  VERSION  LANES  STREAMS  RTT     TO TARGETS  TO CLIENTS  SINCE  STATE
-            a-1\\u{1b}[2J  lane      -        2      13       -       1023B       5.0GiB      2d1h   draining
cluster-one  a-1\\u{1b}[2J  lane      0.1.0    2      13       12.3ms  1023B       5.0GiB      2d1h   ready
2 agents at server s-1 (version 0.1.0, draining)
"
        );
        let none = ServerStatus {
            agents: vec![],
            draining: false,
            ..status
        };
        assert_eq!(of(&none, now), "no agents at server s-1 (version 0.1.0)\n");
    }

    #[test]
    fn sizes_and_ages_are_short() {
        for (count, shown) in [
            (0, "0B"),
            (1024, "1.0KiB"),
            (10 * 1024, "10KiB"),
            (1_048_000, "1.0MiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (now, shown) in [
            ("2025-12-31T23:59:59Z", "0s"),
            ("2026-01-01T00:01:59Z", "119s"),
            ("2026-01-01T01:59:59Z", "119m"),
            ("2026-01-01T23:30:00Z", "23h30m"),
            ("2026-02-01T00:00:00Z", "31d0h"),
        ] {
            assert_eq!(age(now.parse().unwrap(), since), shown);
        }
    }
}
