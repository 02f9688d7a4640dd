//! What an agent's containers request and are limited to.

use cluster_proxy_kube_api::addon::ContainerResourceRequirements;
use cluster_proxy_kube_api::names::AGENT_DEPLOYMENT;
use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::error::RenderError;

/// Requirements and for which containers they are.
#[derive(Debug, Default)]
pub(super) struct Requirements(Vec<(Regex, Value)>);

impl Requirements {
    /// Reads the ids, each `resource:name:container` of regular expressions, of which `*` alone
    /// stands for all.
    pub(super) fn new(given: &[ContainerResourceRequirements]) -> Result<Self, RenderError> {
        let mut requirements = Vec::with_capacity(given.len());
        for one in given {
            let id = &one.container_id;
            let wrong = || RenderError::ContainerId { given: id.clone() };
            let parts: Vec<_> = id.split(':').collect();
            if parts.len() != 3 {
                return Err(wrong());
            }
            let parts = parts.iter().map(|part| match *part {
                "*" => ".+".to_owned(),
                part => format!("(?:{part})"),
            });
            let pattern = format!("^{}$", parts.collect::<Vec<_>>().join(":"));
            let regex = RegexBuilder::new(&pattern)
                .size_limit(MAX_REGEX_BYTES)
                .build()
                .map_err(|_| wrong())?;
            let quantities = [&one.resources.limits, &one.resources.requests];
            for (resource, quantity) in quantities.into_iter().flatten().flatten() {
                if !is_quantity(&quantity.0) {
                    return Err(RenderError::Quantity {
                        container: id.clone(),
                        resource: resource.clone(),
                        given: quantity.0.clone(),
                    });
                }
            }
            let resources = json!({
                "limits": one.resources.limits,
                "requests": one.resources.requests,
            });
            requirements.push((regex, resources));
        }
        Ok(Self(requirements))
    }

    /// What holds for a container of the agent's Deployment: the last that fits.
    pub(super) fn of(&self, container: &str) -> Option<&Value> {
        let id = format!("deployments:{AGENT_DEPLOYMENT}:{container}");
        let fits = |(regex, _): &&(Regex, Value)| regex.is_match(&id);
        self.0
            .iter()
            .rev()
            .find(fits)
            .map(|(_, resources)| resources)
    }
}

/// Whether Kubernetes takes `text` as an amount of a resource that is not negative: a decimal
/// number and a suffix (`k8s.io/apimachinery/pkg/api/resource`).
fn is_quantity(text: &str) -> bool {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
    let dots = number.bytes().filter(|byte| *byte == b'.').count();
    let exponent = suffix.strip_prefix(['e', 'E']);
    let is_exponent = exponent.is_some_and(|exponent| exponent.parse::<i16>().is_ok());
    has_digit && dots <= 1 && (SUFFIXES.contains(&suffix) || is_exponent)
}

/// Of powers of ten and of two.
const SUFFIXES: [&str; 16] = [
    "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
];

/// Compiled, an id takes a few kilobytes; one that takes a megabyte is a mistake.
const MAX_REGEX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn requirements(ids: &[&str]) -> Result<Requirements, RenderError> {
        let given: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| {
                serde_json::from_value(json!({
                    "containerID": id, "resources": {"limits": {"cpu": n.to_string()}},
                }))
                .unwrap()
            })
            .collect();
        Requirements::new(&given)
    }

    #[test]
    fn the_last_that_fits_counts() {
        let given = requirements(&[
            "*:*:*",
            "deployments:cluster-proxy-.*:(proxy|addon)-agent",
            "deployments:other:*",
            "deployments:cluster-proxy-proxy-agent:proxy",
        ])
        .unwrap();
        assert_eq!(given.of("proxy-agent").unwrap()["limits"]["cpu"], "1");
        assert_eq!(given.of("service-proxy").unwrap()["limits"]["cpu"], "0");
        assert_eq!(Requirements::default().of("proxy-agent"), None);
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for good in [
            "0", "1", "+1", ".5", "1.", "100m", "1.5Gi", "12e6", "12E-3", "3E",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in [
            "", ".", "-1", "1GB", "1 Gi", "1.2.3", "Mi", "1mi", "1e", "1e+", "ü",
        ] {
            assert!(!is_quantity(bad), "{bad}");
        }
        let given = json!({
            "containerID": "*:*:*", "resources": {"requests": {"memory": "64MB"}},
        });
        let error = Requirements::new(&[serde_json::from_value(given).unwrap()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "resourceRequirements of *:*:*: memory is \"64MB\", which is no quantity such as 100m \
             or 64Mi"
        );
    }

    #[test]
    fn an_id_that_is_none_is_an_error() {
        for id in ["", "a:b", "a:b:c:d", "a:b:(", "a:b:.{1000000}"] {
            let error = requirements(&[id]).unwrap_err();
            assert_eq!(
                error,
                RenderError::ContainerId {
                    given: id.to_owned()
                }
            );
        }
    }
}
