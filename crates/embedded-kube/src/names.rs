//! Names that objects may have (apimachinery's `util/validation`), and names made up for those
//! that ask with `generateName`.

use uuid::Uuid;

use crate::failure::Cause;
use crate::resources::NameRule;

/// What is wrong with a name, if anything.
pub(crate) fn check(rule: NameRule, name: &str) -> Option<Cause> {
    let why = match rule {
        NameRule::Subdomain if !is_subdomain(name) => SUBDOMAIN_WORDS,
        NameRule::Label if !is_label(name) => LABEL_WORDS,
        NameRule::Label1035 if !is_label_1035(name) => LABEL_1035_WORDS,
        NameRule::PathSegment if matches!(name, "." | "..") => "may not be '.' or '..'",
        NameRule::PathSegment if name.contains('/') => "may not contain '/'",
        NameRule::PathSegment if name.contains('%') => "may not contain '%'",
        _ => return None,
    };
    Some(Cause::invalid("metadata.name", &name.into(), why))
}

/// For a field whose value is an RFC 1123 label and is none.
pub(crate) fn not_a_label(field: &str, value: &str) -> Cause {
    Cause::invalid(field, &value.into(), LABEL_WORDS)
}

/// What is wrong with a label, if anything.
pub(crate) fn check_label(key: &str, value: &str) -> Option<Cause> {
    if !is_qualified(key) {
        let why = format!("name part must {QUALIFIED_WORDS}");
        return Some(Cause::invalid("metadata.labels", &key.into(), &why));
    }
    if !value.is_empty() && !is_label_part(value) {
        let why = format!("a valid label must be an empty string or {QUALIFIED_WORDS}");
        return Some(Cause::invalid("metadata.labels", &value.into(), &why));
    }
    None
}

/// `[prefix/]name`, as label keys are.
pub(crate) fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_part(name),
        None => is_label_part(key),
    }
}

fn is_label_part(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|it| it.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it))
}

/// The prefix, shortened to leave room, and five characters.
pub(crate) fn generate(prefix: &str) -> String {
    let mut end = prefix.len().min(MAX_GENERATED_BASE);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let suffix = Uuid::new_v4()
        .as_bytes()
        .iter()
        .take(GENERATED_SUFFIX)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect::<String>();
    format!("{}{suffix}", &prefix[..end])
}

/// RFC 1123 label.
pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_dns_part(name)
}

/// RFC 1123 subdomain; its parts have no limit of their own in Kubernetes.
pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= MAX_SUBDOMAIN && name.split('.').all(is_dns_part)
}

fn is_dns_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(plain)
        && text.bytes().last().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

fn is_label_1035(name: &str) -> bool {
    is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;
const GENERATED_SUFFIX: usize = 5;
const MAX_GENERATED_BASE: usize = MAX_LABEL - GENERATED_SUFFIX;

/// Without vowels and look-alikes, as in apimachinery's `util/rand`: no words come about.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const QUALIFIED_WORDS: &str = "consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character";
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
    alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
    (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
    or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric \
    characters or '-', start with an alphabetic character, and end with an alphanumeric \
    character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
    '[a-z]([-a-z0-9]*[a-z0-9])?')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_their_kind() {
        for (rule, name, fits) in [
            (NameRule::Subdomain, "a.b-c.d", true),
            (NameRule::Subdomain, "A", false),
            (NameRule::Subdomain, "a..b", false),
            (NameRule::Subdomain, "-a", false),
            (NameRule::Subdomain, "ä", false),
            (NameRule::Label, "1-a", true),
            (NameRule::Label, "a.b", false),
            (NameRule::Label1035, "a1", true),
            (NameRule::Label1035, "1a", false),
            (NameRule::PathSegment, "system:a", true),
            (NameRule::PathSegment, "a/b", false),
        ] {
            assert_eq!(check(rule, name).is_none(), fits, "{name}");
        }
        for (key, value, fits) in [
            ("app", "web", true),
            ("example.com/Tier_1", "", true),
            ("a b", "x", false),
            ("/a", "x", false),
            ("a", "c d", false),
            ("a", "-x", false),
        ] {
            assert_eq!(check_label(key, value).is_none(), fits, "{key}={value}");
        }
        assert!(is_subdomain(&"a".repeat(253)));
        assert!(!is_subdomain(&"a".repeat(254)));
        assert!(!is_label(&"a".repeat(64)));
    }

    #[test]
    fn generated_names_fit_in_a_label() {
        let name = generate(&"a".repeat(80));
        assert_eq!(name.len(), MAX_LABEL);
        assert!(is_label(&generate("web-")));
        assert_ne!(generate("web-"), generate("web-"));
        assert_eq!(generate(&"ä".repeat(40)).chars().count(), 34);
    }
}
