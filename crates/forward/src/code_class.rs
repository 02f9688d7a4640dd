//! Status codes as a metric label: five values, whatever the codes.

use std::fmt;

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// The class of a status code: `2xx` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeClass(u16);

impl CodeClass {
    /// The class of `status`; codes beyond 599, which HTTP does not define, count as `5xx`.
    pub fn of(status: StatusCode) -> Self {
        Self((status.as_u16() / 100).min(5))
    }

    const fn as_str(self) -> &'static str {
        match self.0 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        }
    }
}

impl EncodeLabelValue for CodeClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_class() {
        for (code, class) in [
            (101, "1xx"),
            (200, "2xx"),
            (404, "4xx"),
            (599, "5xx"),
            (999, "5xx"),
        ] {
            let status = StatusCode::from_u16(code).expect("a code");
            assert_eq!(CodeClass::of(status).as_str(), class);
        }
    }
}
