//! Which Services of managed clusters may be reached: the list in a ConfigMap, any number of keys,
//! each value a YAML list of `{namespace, service, port?, protocol?, authorization?}`.
//!
//! A list is taken whole or not at all: with one wrong entry the last good list stays. Without a
//! ConfigMap nothing is exposed.

use std::collections::BTreeMap;
use std::fmt;

use cluster_proxy_identity::{Scheme, ServicePort, ServiceTarget};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The exposed Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExposedServices(Vec<Entry>);

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    namespace: String,
    service: String,
    /// As it must be asked for; any without it.
    port: Option<ServicePort>,
    /// Any without it.
    scheme: Option<Scheme>,
    passes_authorization: bool,
}

/// A Service that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// The Service, by the port that the list names where the URL names none.
    pub(crate) target: ServiceTarget,
    /// It may see `Authorization`.
    pub(crate) passes_authorization: bool,
}

impl ExposedServices {
    /// Reads the values of a ConfigMap.
    ///
    /// # Errors
    /// The first thing that is wrong, and under which key.
    pub(crate) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ExposedServicesError> {
        let mut all = Vec::new();
        for (key, text) in data {
            let wrong = |entry: Option<usize>, cause: String| ExposedServicesError {
                key: key.clone(),
                entry,
                cause,
            };
            if text.trim().is_empty() {
                continue;
            }
            let entries: Option<Vec<RawEntry>> =
                serde_saphyr::from_str(text).map_err(|error| wrong(None, one_line(&error)))?;
            for (number, raw) in entries.unwrap_or_default().into_iter().enumerate() {
                let entry =
                    Entry::try_from(raw).map_err(|cause| wrong(Some(number), cause.to_owned()))?;
                all.push(entry);
            }
            if all.len() > MAX_ENTRIES {
                return Err(wrong(None, format!("more than {MAX_ENTRIES} entries")));
            }
        }
        Ok(Self(all))
    }

    /// The Service, if an entry lists it.
    ///
    /// Where the URL names no port and all entries that list the Service name the same one, that
    /// is it; an entry without a port leaves it to the Service.
    pub(crate) fn find(&self, target: &ServiceTarget) -> Option<Exposed> {
        let listed = self.0.iter().filter(|entry| entry.lists(target));
        let matching: Vec<&Entry> = match target.port() {
            ServicePort::Only => listed.collect(),
            port => listed.filter(|entry| entry.allows(port)).collect(),
        };
        let first = matching.first()?;
        let target = if *target.port() == ServicePort::Only {
            let mut ports = matching.iter().map(|entry| &entry.port);
            if ports.clone().any(Option::is_none) {
                target.clone()
            } else if ports.all(|port| *port == first.port) {
                target.clone().with_port(first.port.clone()?)
            } else {
                return None;
            }
        } else {
            target.clone()
        };
        Some(Exposed {
            target,
            passes_authorization: matching.iter().any(|entry| entry.passes_authorization),
        })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Entry {
    fn lists(&self, target: &ServiceTarget) -> bool {
        self.namespace == target.namespace()
            && self.service == target.service()
            && self.scheme.is_none_or(|scheme| scheme == target.scheme())
    }

    fn allows(&self, asked: &ServicePort) -> bool {
        self.port.as_ref().is_none_or(|port| port == asked)
    }
}

/// An entry as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(default)]
    namespace: Scalar,
    #[serde(default)]
    service: Scalar,
    #[serde(default)]
    port: Scalar,
    #[serde(default)]
    protocol: Scalar,
    #[serde(default)]
    authorization: Scalar,
}

impl TryFrom<RawEntry> for Entry {
    type Error = &'static str;

    fn try_from(raw: RawEntry) -> Result<Self, Self::Error> {
        let RawEntry {
            namespace: Scalar(namespace),
            service: Scalar(service),
            port: Scalar(port),
            protocol: Scalar(protocol),
            authorization: Scalar(authorization),
        } = raw;
        if namespace.is_empty() {
            return Err("namespace is required");
        }
        if service.is_empty() {
            return Err("service is required");
        }
        Ok(Self {
            namespace,
            service,
            port: match port.as_str() {
                "" => None,
                port => Some(port.parse().map_err(
                    |_| "port is neither a number from 1 to 65535 nor the name of a port",
                )?),
            },
            scheme: match protocol.as_str() {
                "" => None,
                protocol => Some(
                    protocol
                        .parse()
                        .map_err(|_| "protocol is neither http nor https")?,
                ),
            },
            passes_authorization: match authorization.as_str() {
                "" | "remove" => false,
                "pass" => true,
                _ => return Err("authorization is neither remove nor pass"),
            },
        })
    }
}

/// Text, or a number or boolean taken for its text: `port: 9090` is the port "9090".
#[derive(Default)]
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number or a boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::default())
    }
}

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExposedServicesError {
    key: String,
    entry: Option<usize>,
    cause: String,
}

impl fmt::Display for ExposedServicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {:?}: ", self.key)?;
        if let Some(entry) = self.entry {
            write!(f, "entry[{entry}]: ")?;
        }
        f.write_str(&self.cause)
    }
}

impl std::error::Error for ExposedServicesError {}

/// The first line: the parser goes on to draw where it was.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// A ConfigMap has 1 MiB, which is 30,000 of the shortest; each is looked at for each request.
const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests;
