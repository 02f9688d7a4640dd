//! Status conditions, written only when they say something new.

use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition that is true or false now.
#[must_use]
pub fn condition(
    kind: &str,
    holds: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(Timestamp::now()),
    }
}

/// `kept` with `wanted` in it, or `None` when that changes nothing. Conditions of other types stay,
/// and the time of the last transition is that of the last change of status.
#[must_use]
pub fn merged(kept: &[Condition], wanted: Vec<Condition>) -> Option<Vec<Condition>> {
    let mut merged = kept.to_vec();
    for mut new in wanted {
        match merged.iter_mut().find(|old| old.type_ == new.type_) {
            Some(old) => {
                if old.status == new.status {
                    new.last_transition_time = old.last_transition_time.clone();
                }
                *old = new;
            }
            None => merged.push(new),
        }
    }
    (merged != kept).then_some(merged)
}

/// A time as Go prints it, which is what upstream's messages hold.
#[must_use]
pub fn go_time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| "unknown".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_news_is_written() {
        let old = Condition {
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            ..condition("A", true, "Fine", "m", Some(1))
        };
        let other = condition("Other", false, "Theirs", "", None);
        let kept = [old.clone(), other.clone()];
        let same = condition("A", true, "Fine", "m", Some(1));
        assert_eq!(merged(&kept, vec![same]), None);

        let message = merged(&kept, vec![condition("A", true, "Fine", "n", Some(2))]).unwrap();
        assert_eq!(message[0].message, "n");
        assert_eq!(message[0].last_transition_time, old.last_transition_time);
        assert_eq!(message[1], other);

        let status = merged(&kept, vec![condition("A", false, "Broken", "", Some(2))]).unwrap();
        assert!(status[0].last_transition_time.0 > Timestamp::UNIX_EPOCH);
        let added = merged(&kept, vec![condition("B", true, "Fine", "", None)]).unwrap();
        assert_eq!(added.len(), 3);
    }

    #[test]
    fn times_are_printed_as_go_does() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        assert_eq!(go_time(time), "1970-01-02 00:00:00 +0000 UTC");
    }
}
