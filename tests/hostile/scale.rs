//! How much of everything: enough to fail in a CI run, and the full numbers.

/// Whether the full numbers are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os("CLUSTER_PROXY_LONG").is_some_and(|value| value == "1")
}

/// `ci`, or `long` where the full numbers are wanted.
pub(crate) fn of<T>(ci: T, long: T) -> T {
    if is_long() { long } else { ci }
}
