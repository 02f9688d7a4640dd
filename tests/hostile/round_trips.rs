//! Round trips of a few bytes through an agent, as those feel them who do nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_proxy_tunnel::{ProxyServerDialer, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::targets::Target;

/// An open connection to an echo.
pub(crate) struct Pinger {
    stream: TunnelStream,
    _echo: Target,
}

impl Pinger {
    pub(crate) async fn start(dialer: &ProxyServerDialer) -> Result<Self> {
        let echo = Target::echo().await?;
        let stream = dialer.connect(&echo.address.to_string().parse()?).await?;
        let mut pinger = Self {
            stream,
            _echo: echo,
        };
        pinger.median(WARM_UP).await?;
        Ok(pinger)
    }

    /// One round trip.
    pub(crate) async fn once(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let trip = async {
            self.stream.write_all(&[7; LENGTH]).await?;
            let mut back = [0; LENGTH];
            self.stream.read_exact(&mut back).await?;
            anyhow::ensure!(back == [7; LENGTH], "other bytes came back");
            Ok(())
        };
        timeout(TRIP_LIMIT, trip)
            .await
            .context("a round trip did not end")??;
        Ok(began.elapsed())
    }

    /// The median of so many.
    pub(crate) async fn median(&mut self, trips: usize) -> Result<Duration> {
        let mut took = Vec::with_capacity(trips);
        for _ in 0..trips {
            took.push(self.once().await?);
        }
        took.sort_unstable();
        Ok(took[trips / 2])
    }
}

/// A keystroke and its echo.
const LENGTH: usize = 64;

/// Until both ends have found their pace.
const WARM_UP: usize = 50;

/// Far beyond what a stalled tunnel is told from a slow one by.
const TRIP_LIMIT: Duration = Duration::from_secs(10);

/// The median of ratios.
pub(crate) fn median_of(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
