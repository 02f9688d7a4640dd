//! Which images an agent's containers run: mirrors replace where they come from.

use cluster_proxy_kube_api::addon::ImageMirror;
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::names::IMAGE_REGISTRIES;
use kube::ResourceExt as _;
use serde::Deserialize;

use super::error::RenderError;

/// Where a cluster's images come from.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    of_cluster: Vec<ImageMirror>,
    of_config: Vec<ImageMirror>,
}

impl Mirrors {
    /// Those of the cluster's annotation, and before them those of an AddOnDeploymentConfig.
    pub(super) fn new(
        cluster: &ManagedCluster,
        of_config: &[ImageMirror],
    ) -> Result<Self, RenderError> {
        let of_cluster = match cluster.annotation(IMAGE_REGISTRIES) {
            None => Vec::new(),
            Some(json) => {
                let read: Result<ImageRegistries, _> = serde_json::from_str(json);
                read.map_err(|error| RenderError::ClusterAnnotation {
                    annotation: IMAGE_REGISTRIES,
                    cluster: cluster.name_any(),
                    cause: error.to_string(),
                })?
                .registries
            }
        };
        Ok(Self {
            of_cluster,
            of_config: of_config.to_vec(),
        })
    }

    /// The image that stands in for `image`. Of several mirrors that fit, the last counts.
    pub(super) fn replace(&self, image: &str) -> String {
        [&self.of_config, &self.of_cluster]
            .into_iter()
            .flat_map(|mirrors| mirrors.iter().rev())
            .find_map(|mirror| mirrored(mirror, image))
            .unwrap_or_else(|| image.to_owned())
    }
}

/// The annotation's content; it has more than we need.
#[derive(Deserialize)]
struct ImageRegistries {
    #[serde(default)]
    registries: Vec<ImageMirror>,
}

/// `image` from the mirror, if the mirror is for it. A source is a registry, a repository or a part
/// of its path, and ends where a part of the name does.
fn mirrored(mirror: &ImageMirror, image: &str) -> Option<String> {
    let target = mirror.mirror.trim_end_matches('/');
    let source = mirror.source.trim_end_matches('/');
    let rest = if source.is_empty() {
        let name = image.rsplit('/').next().unwrap_or(image);
        if target.is_empty() {
            return Some(name.to_owned());
        }
        return Some(format!("{target}/{name}"));
    } else {
        image.strip_prefix(source)?
    };
    let ends = rest.is_empty() || rest.starts_with(['/', ':', '@']);
    ends.then(|| format!("{target}{rest}"))
}

/// `image` with the parts that variables replace: the place (`registry`), the name, the tag.
pub(super) fn with_parts(
    image: &str,
    registry: Option<&str>,
    name: Option<&str>,
    tag: Option<&str>,
) -> String {
    let (place, rest) = match image.rsplit_once('/') {
        Some((place, rest)) => (place, rest),
        None => ("", image),
    };
    let end = rest.find([':', '@']).unwrap_or(rest.len());
    let (own_name, version) = rest.split_at(end);
    let place = registry.unwrap_or(place).trim_end_matches('/');
    let version = match tag {
        Some(tag) => format!(":{tag}"),
        None => version.to_owned(),
    };
    let name = name.unwrap_or(own_name);
    if place.is_empty() {
        format!("{name}{version}")
    } else {
        format!("{place}/{name}{version}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mirror(source: &str, mirror: &str) -> ImageMirror {
        ImageMirror {
            source: source.to_owned(),
            mirror: mirror.to_owned(),
        }
    }

    #[test]
    fn the_last_mirror_that_fits_counts() {
        let mirrors = Mirrors {
            of_cluster: vec![
                mirror("quay.io/ocm", "first"),
                mirror("quay.io/ocm/", "second/"),
            ],
            of_config: vec![],
        };
        assert_eq!(mirrors.replace("quay.io/ocm/a:v1"), "second/a:v1");
        assert_eq!(
            mirrors.replace("quay.io/ocm-extra/a:v1"),
            "quay.io/ocm-extra/a:v1"
        );
        assert_eq!(
            mirrors.replace("docker.io/a@sha256:0"),
            "docker.io/a@sha256:0"
        );
        let mirrors = Mirrors {
            of_config: vec![mirror("", "m:5000")],
            ..mirrors
        };
        assert_eq!(mirrors.replace("quay.io/ocm/a:v1"), "m:5000/a:v1");
    }

    #[test]
    fn parts_are_replaced_one_by_one() {
        let parts = |image, registry, name, tag| with_parts(image, registry, name, tag);
        assert_eq!(parts("r:5000/a/b:v1", None, None, None), "r:5000/a/b:v1");
        assert_eq!(parts("r:5000/a/b:v1", Some("q/"), None, None), "q/b:v1");
        assert_eq!(parts("r/b@sha256:0", None, None, Some("v2")), "r/b:v2");
        assert_eq!(parts("b", None, Some("c"), None), "c");
    }

    #[test]
    fn an_annotation_that_is_no_json_is_an_error() {
        let cluster: ManagedCluster = serde_json::from_value(json!({
            "metadata": {"name": "c", "annotations": {IMAGE_REGISTRIES: "{"}}, "spec": {},
        }))
        .unwrap();
        let error = Mirrors::new(&cluster, &[]).unwrap_err().to_string();
        assert!(
            error.contains("image-registries of ManagedCluster c"),
            "{error}"
        );
    }
}
