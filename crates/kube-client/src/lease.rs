//! What a Lease says.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// When it ends unless it is renewed. One that says neither since when nor for how long it holds
/// does not hold.
#[must_use]
pub fn ends_at(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.as_ref().or(spec.acquire_time.as_ref());
    let (MicroTime(renewed), seconds) = renewed.zip(spec.lease_duration_seconds)?;
    let holds = SignedDuration::from_secs(i64::from(seconds));
    renewed.checked_add(holds).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    use super::*;

    #[test]
    fn a_lease_lasts_from_its_last_renewal() {
        let at = |text: &str| Some(MicroTime(text.parse().unwrap()));
        let lease = |renew, acquire, seconds| Lease {
            spec: Some(LeaseSpec {
                renew_time: renew,
                acquire_time: acquire,
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        let late = || at("2026-01-01T00:00:31Z");
        let early = || at("2026-01-01T00:00:30Z");
        for (lease, end) in [
            (lease(late(), None, Some(30)), Some("2026-01-01T00:01:01Z")),
            (lease(early(), None, Some(30)), Some("2026-01-01T00:01:00Z")),
            (
                lease(early(), late(), Some(30)),
                Some("2026-01-01T00:01:00Z"),
            ),
            (lease(None, late(), Some(30)), Some("2026-01-01T00:01:01Z")),
            (lease(None, None, Some(30)), None),
            (lease(late(), None, None), None),
            (Lease::default(), None),
        ] {
            let end = end.map(|text| text.parse().unwrap());
            assert_eq!(ends_at(&lease), end, "{lease:?}");
        }
    }
}
