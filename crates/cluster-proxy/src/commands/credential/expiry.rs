//! Until when a token is good, and when another one is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cluster_proxy_identity::Token;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// What a JWT says (RFC 7519, `exp`). Other tokens say nothing; nothing is verified, since it only
/// decides when to ask again.
pub(super) fn of_jwt(token: &Token) -> Option<Timestamp> {
    let mut parts = token.expose().split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = &claims["exp"];
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seconds, and jiff checks them"
    )]
    let seconds = seconds
        .as_i64()
        .or_else(|| seconds.as_f64().map(|seconds| seconds as i64))?;
    Timestamp::from_second(seconds).ok()
}

/// The earlier of two, where both are known.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// When clients ask again: client-go does so after this time and not before, and a token must be
/// good until the hub has seen it.
///
/// # Errors
/// A token that is no longer good.
pub(super) fn to_renew(
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Timestamp> {
    let Some(expires) = expires else {
        return Ok(None);
    };
    let left = expires.duration_since(now);
    if left <= SignedDuration::ZERO {
        return Err(expires);
    }
    let margin = MARGIN.min(left / 10);
    let renew = expires.checked_sub(margin).unwrap_or(expires);
    // Whole seconds, as Kubernetes writes times.
    Ok(Timestamp::from_second(renew.as_second()).ok())
}

/// For clocks that differ and requests on their way.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn jwt(claims: &str) -> Option<Timestamp> {
        let payload = URL_SAFE_NO_PAD.encode(claims);
        of_jwt(&Token::parse(&format!("e30.{payload}.c2ln")).expect("a token"))
    }

    #[test]
    fn the_end_is_read_from_a_jwt_and_from_nothing_else() {
        assert_eq!(jwt(r#"{"exp":1900000000}"#), Some(at(1_900_000_000)));
        assert_eq!(jwt(r#"{"exp":1900000000.5}"#), Some(at(1_900_000_000)));
        for without in ["{}", r#"{"exp":"soon"}"#, "[]", "x", r#"{"exp":1e300}"#] {
            assert_eq!(jwt(without), None, "{without}");
        }
        for opaque in ["abc", "a.b", "a.%.c", "sha256~x"] {
            assert_eq!(of_jwt(&Token::parse(opaque).expect("a token")), None);
        }
    }

    #[test]
    fn another_is_asked_for_in_time_and_an_old_one_is_refused() {
        assert_eq!(to_renew(None, at(0)), Ok(None));
        assert_eq!(to_renew(Some(at(3600)), at(0)), Ok(Some(at(3540))));
        assert_eq!(to_renew(Some(at(100)), at(0)), Ok(Some(at(90))));
        assert_eq!(to_renew(Some(at(100)), at(100)), Err(at(100)));
        assert_eq!(to_renew(Some(at(100)), at(5000)), Err(at(100)));
        assert_eq!(earlier(Some(at(1)), Some(at(2))), Some(at(1)));
        assert_eq!(earlier(None, Some(at(2))), Some(at(2)));
    }
}
