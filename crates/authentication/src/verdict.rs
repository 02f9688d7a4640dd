//! What the `error` of a TokenReview's status means: "this token is not valid", or "I could not
//! find out".
//!
//! The kube-apiserver asks several authenticators and joins what each says:
//! `[invalid bearer token, service account token has expired]`. The phrases below are judgements
//! about the token (from `pkg/serviceaccount`, `bearertoken`, `oidc` and `tokenreview` of
//! Kubernetes 1.20 to 1.35). The text counts as a "no" only when it consists of them entirely: in
//! `[invalid bearer token, Post "https://webhook…": connection refused]` one authenticator was
//! never heard, and the token may well be its.

/// Whether the text says no, and nothing else.
pub(crate) fn is_plain_no(error: &str) -> bool {
    let joined = error
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let mut rest = joined.unwrap_or(error);
    loop {
        let Some(after) = PHRASES.iter().find_map(|phrase| strip(rest, phrase)) else {
            return false;
        };
        if after.is_empty() {
            return true;
        }
        let Some(next) = after.strip_prefix(", ") else {
            return false;
        };
        rest = next;
    }
}

/// What follows a phrase: its pieces in order, the first at the beginning, with anything between
/// them.
fn strip<'a>(text: &'a str, phrase: &[&str]) -> Option<&'a str> {
    let (first, pieces) = phrase.split_first()?;
    let mut rest = text.strip_prefix(first)?;
    for piece in pieces {
        rest = rest.split_once(piece)?.1;
    }
    Some(rest)
}

const PHRASES: &[&[&str]] = &[
    &["invalid bearer token"],
    // Signed by somebody else who uses the same issuer name, as two clusters often do.
    &["invalid signature, no keys found"],
    &["square/go-jose: error in cryptographic primitive"],
    &["go-jose/go-jose: error in cryptographic primitive"],
    &["token issuer \"", "\" is invalid"],
    &[
        "token audiences [",
        "] is invalid for the target audiences [",
        "]",
    ],
    // A service account's token whose time or whose owner is gone.
    &["service account token has expired"],
    &["service account token is not valid yet"],
    &["service account token is issued in the future"],
    &["service account token has been invalidated"],
    &["Token has expired"],
    &["Token has been invalidated"],
    &["Token does not match server's copy"],
    &["serviceaccounts \"", "\" not found"],
    &["service account UID (", ") does not match claim (", ")"],
    &["ServiceAccount UID (", ") does not match claim (", ")"],
    &[
        "secret UID (",
        ") does not match service account secret ref claim (",
        ")",
    ],
    &[
        "pod UID (",
        ") does not match service account pod ref claim (",
        ")",
    ],
    &[
        "node UID (",
        ") does not match service account node ref claim (",
        ")",
    ],
    &["service account ", " has been deleted"],
    &["ServiceAccount ", " has been deleted"],
    &[
        "the token in secret ",
        " has been marked invalid. Use tokens from the TokenRequest API",
        " label from the secret to temporarily allow use of this token",
    ],
    // A service account's token of the old kind, made by hand.
    &["sub claim is missing"],
    &["sub claim is invalid"],
    &["namespace claim is missing"],
    &["secretName claim is missing"],
    &["serviceAccountName claim is missing"],
    &["serviceAccountUID claim is missing"],
    // An ID token of the configured issuer that is out of date, or meant for somebody else.
    &[
        "oidc: verify token: oidc: token is expired (Token Expiry: ",
        ")",
    ],
    &[
        "oidc: verify token: oidc: expected audience ",
        " got [",
        "]",
    ],
    &["oidc: verify token: failed to verify signature: failed to verify id token signature"],
    &["oidc: email not verified"],
    // OpenShift says this of a token that it does not have.
    &["token lookup failed"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judgements_about_the_token_are_a_no() {
        for text in [
            "invalid bearer token",
            "invalid signature, no keys found",
            "[invalid bearer token, service account token has expired]",
            "[invalid bearer token, Token has been invalidated]",
            "[invalid bearer token, square/go-jose: error in cryptographic primitive]",
            "go-jose/go-jose: error in cryptographic primitive",
            "[invalid signature, no keys found, invalid bearer token]",
            "[invalid bearer token, token audiences [\"a\" \"b\"] is invalid for the target \
             audiences [\"https://kubernetes.default.svc\"]]",
            "token audiences [\"a\"] is invalid for the target audiences [\"b\"]",
            "serviceaccounts \"ci\" not found",
            "service account UID (1) does not match claim (2)",
            "[service account default/ci has been deleted, invalid bearer token]",
            "oidc: verify token: oidc: token is expired (Token Expiry: 2026-01-02 03:04:05 +0000 \
             UTC)",
            "oidc: verify token: oidc: expected audience in [\"a\"] got [\"b\"]",
            "[invalid bearer token, token lookup failed]",
            "[invalid bearer token, namespace claim is missing]",
            // An audience that looks like the end of the phrase.
            "[invalid bearer token, token audiences [\"a] is b\" \"c\\\"d\"] is invalid for the target \
             audiences [\"https://kubernetes.default.svc\"]]",
        ] {
            assert!(is_plain_no(text), "{text}");
        }
    }

    #[test]
    fn anything_else_in_the_text_is_a_failure() {
        for text in [
            "",
            "[]",
            ", ",
            "invalid bearer token, ",
            "[invalid bearer token, ]",
            "invalid bearer tokens",
            "[invalid bearer token, Post \"https://webhook/authenticate\": dial tcp 10.0.0.1:443: \
             connect: connection refused]",
            "[invalid bearer token, invalid signature, no keys found, Post \"https://webhook\": EOF]",
            "[invalid bearer token, token audiences [\"a\"] is invalid for the target audiences \
             [\"b\"], Post \"https://webhook\": EOF]",
            "[invalid bearer token, oidc: authenticator not initialized]",
            "[Post \"https://webhook\": context deadline exceeded, invalid bearer token]",
            "Post \"https://webhook/authenticate\": x509: certificate signed by unknown authority",
            "context deadline exceeded",
            "etcdserver: request timed out",
            "oidc: authenticator not initialized",
            "oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed",
            "serviceaccounts \"ci\" is forbidden",
            "the server is currently unable to handle the request",
        ] {
            assert!(!is_plain_no(text), "{text}");
        }
    }
}
