//! The columns of each kind, as `kubectl get` shows them (pkg/printers/internalversion).

use serde_json::{Value, json};

use super::pods;
use crate::clock;
use crate::object::{list, name, number, text, texts};
use crate::selectors::format_labels;

/// A column: its head, and how an object's cell comes about.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    name: String,
    /// `string`, `integer` or `date`.
    kind: String,
    /// `name` for the name of the object, which kubectl treats apart.
    format: &'static str,
    /// Only with `-o wide`.
    wide: bool,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Of(fn(&Value) -> Value),
    /// A JSON pointer, from a custom definition.
    At(String),
}

impl Column {
    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": "",
            "priority": i32::from(self.wide),
        })
    }

    pub(super) fn cell(&self, object: &Value) -> Value {
        match &self.content {
            Content::Of(content) => content(object),
            Content::At(pointer) => match object.pointer(pointer) {
                Some(Value::String(time)) if self.kind == "date" => clock::age(time).into(),
                Some(Value::Array(_) | Value::Object(_)) | None => Value::Null,
                Some(plain) => plain.clone(),
            },
        }
    }

    fn string(name: &str, content: fn(&Value) -> Value) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string".to_owned(),
            format: "",
            wide: false,
            content: Content::Of(content),
        }
    }

    fn wide(name: &str, content: fn(&Value) -> Value) -> Self {
        Self {
            wide: true,
            ..Self::string(name, content)
        }
    }

    fn name() -> Self {
        Self {
            format: "name",
            ..Self::string("Name", |it| name(it).into())
        }
    }

    fn age() -> Self {
        Self::string("Age", |it| age_at(it, "/metadata/creationTimestamp"))
    }
}

pub(crate) fn name_and_age() -> Vec<Column> {
    vec![Column::name(), Column::age()]
}

pub(crate) fn created_at() -> Vec<Column> {
    let created = Column::string("Created At", |it| {
        text(it, "/metadata/creationTimestamp").into()
    });
    vec![
        Column::name(),
        Column {
            kind: "date".to_owned(),
            ..created
        },
    ]
}

pub(crate) fn pod() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Ready", |it| pods::summary(it).ready.into()),
        Column::string("Status", |it| pods::summary(it).status.into()),
        Column::string("Restarts", |it| pods::summary(it).restarts.into()),
        Column::age(),
        Column::wide("IP", |it| or_none(text(it, "/status/podIP"))),
        Column::wide("Node", |it| or_none(text(it, "/spec/nodeName"))),
        Column::wide("Nominated Node", |it| {
            or_none(text(it, "/status/nominatedNodeName"))
        }),
        Column::wide("Readiness Gates", |_| NONE.into()),
    ]
}

pub(crate) fn namespace() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Status", |it| text(it, "/status/phase").into()),
        Column::age(),
    ]
}

pub(crate) fn config_map() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Data", |it| {
            (entries(it, "/data") + entries(it, "/binaryData")).into()
        }),
        Column::age(),
    ]
}

pub(crate) fn secret() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Type", |it| text(it, "/type").into()),
        Column::string("Data", |it| entries(it, "/data").into()),
        Column::age(),
    ]
}

pub(crate) fn service() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Type", |it| text(it, "/spec/type").into()),
        Column::string("Cluster-IP", |it| or_none(text(it, "/spec/clusterIP"))),
        Column::string("External-IP", |it| external_ip(it).into()),
        Column::string("Port(s)", |it| or_none(&service_ports(it))),
        Column::age(),
        Column::wide("Selector", |it| format_labels(it, "/spec/selector").into()),
    ]
}

pub(crate) fn node() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Status", |it| node_status(it).into()),
        Column::string("Roles", |_| NONE.into()),
        Column::age(),
        Column::string("Version", |it| {
            text(it, "/status/nodeInfo/kubeletVersion").into()
        }),
        Column::wide("Internal-IP", |it| node_address(it, "InternalIP")),
        Column::wide("External-IP", |it| node_address(it, "ExternalIP")),
        Column::wide("OS-Image", |it| {
            or_unknown(text(it, "/status/nodeInfo/osImage"))
        }),
        Column::wide("Kernel-Version", |it| {
            or_unknown(text(it, "/status/nodeInfo/kernelVersion"))
        }),
        Column::wide("Container-Runtime", |it| {
            or_unknown(text(it, "/status/nodeInfo/containerRuntimeVersion"))
        }),
    ]
}

pub(crate) fn event() -> Vec<Column> {
    let name = Column {
        wide: true,
        ..Column::name()
    };
    vec![
        Column::string("Last Seen", |it| match text(it, "/lastTimestamp") {
            "" => age_at(it, "/eventTime"),
            time => clock::age(time).into(),
        }),
        Column::string("Type", |it| text(it, "/type").into()),
        Column::string("Reason", |it| text(it, "/reason").into()),
        Column::string("Object", |it| {
            let kind = text(it, "/involvedObject/kind").to_ascii_lowercase();
            format!("{kind}/{}", text(it, "/involvedObject/name")).into()
        }),
        Column::wide("Subobject", |it| {
            text(it, "/involvedObject/fieldPath").into()
        }),
        Column::wide("Source", |it| text(it, "/source/component").into()),
        Column::string("Message", |it| text(it, "/message").trim().into()),
        Column::wide("First Seen", |it| age_at(it, "/firstTimestamp")),
        Column::wide("Count", |it| number(it, "/count").unwrap_or(1).into()),
        name,
    ]
}

pub(crate) fn deployment() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Ready", |it| {
            let ready = number(it, "/status/readyReplicas").unwrap_or(0);
            let wanted = number(it, "/spec/replicas").unwrap_or(1);
            format!("{ready}/{wanted}").into()
        }),
        Column::string("Up-to-date", |it| {
            number(it, "/status/updatedReplicas").unwrap_or(0).into()
        }),
        Column::string("Available", |it| {
            number(it, "/status/availableReplicas").unwrap_or(0).into()
        }),
        Column::age(),
        Column::wide("Containers", |it| each_container(it, "/name")),
        Column::wide("Images", |it| each_container(it, "/image")),
        Column::wide("Selector", |it| {
            format_labels(it, "/spec/selector/matchLabels").into()
        }),
    ]
}

pub(crate) fn lease() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Holder", |it| text(it, "/spec/holderIdentity").into()),
        Column::age(),
    ]
}

pub(crate) fn binding() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Role", |it| {
            let kind = text(it, "/roleRef/kind");
            format!("{kind}/{}", text(it, "/roleRef/name")).into()
        }),
        Column::age(),
        Column::wide("Users", |it| subjects(it, "User")),
        Column::wide("Groups", |it| subjects(it, "Group")),
        Column::wide("ServiceAccounts", |it| subjects(it, "ServiceAccount")),
    ]
}

pub(crate) fn certificate_signing_request() -> Vec<Column> {
    vec![
        Column::name(),
        Column::age(),
        Column::string("SignerName", |it| or_none(text(it, "/spec/signerName"))),
        Column::string("Requestor", |it| text(it, "/spec/username").into()),
        Column::string("RequestedDuration", |it| {
            or_none(&number(it, "/spec/expirationSeconds").map_or_else(String::new, clock::human))
        }),
        Column::string("Condition", |it| signing_state(it).into()),
    ]
}

/// The columns of a custom kind: its name, and what its definition adds, or its age.
pub(crate) fn custom(additional: &[Value]) -> Vec<Column> {
    let mut columns = vec![Column::name()];
    for column in additional {
        // The paths in use are fields after fields; a filter finds nothing here.
        let path = text(column, "/jsonPath").replace('.', "/");
        columns.push(Column {
            name: text(column, "/name").to_owned(),
            kind: text(column, "/type").to_owned(),
            format: "",
            wide: number(column, "/priority").unwrap_or(0) > 0,
            content: Content::At(path),
        });
    }
    if additional.is_empty() {
        columns.push(Column::age());
    }
    columns
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE } else { text }.into()
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>" } else { text }.into()
}

fn age_at(object: &Value, pointer: &str) -> Value {
    clock::age(text(object, pointer)).into()
}

fn entries(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

fn external_ip(service: &Value) -> String {
    let given: Vec<_> = texts(service, "/spec/externalIPs").collect();
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        _ if !given.is_empty() => given.join(","),
        "LoadBalancer" => "<pending>".to_owned(),
        _ => NONE.to_owned(),
    }
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<_> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let of_node = number(port, "/nodePort").map_or_else(String::new, |it| format!(":{it}"));
            let protocol = text(port, "/protocol");
            format!("{}{of_node}/{protocol}", port["port"])
        })
        .collect();
    ports.join(",")
}

fn node_status(node: &Value) -> String {
    let ready = list(node, "/status/conditions")
        .iter()
        .find(|it| it["type"] == "Ready");
    let state = match ready {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        format!("{state},SchedulingDisabled")
    } else {
        state.to_owned()
    }
}

fn node_address(node: &Value, kind: &str) -> Value {
    let address = list(node, "/status/addresses")
        .iter()
        .find(|it| it["type"] == kind);
    or_none(address.map_or("", |it| text(it, "/address")))
}

fn each_container(object: &Value, pointer: &str) -> Value {
    let parts: Vec<_> = list(object, "/spec/template/spec/containers")
        .iter()
        .map(|it| text(it, pointer))
        .collect();
    parts.join(",").into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let named: Vec<_> = list(binding, "/subjects")
        .iter()
        .filter(|it| it["kind"] == kind)
        .map(|it| match text(it, "/namespace") {
            "" => text(it, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text(it, "/name")),
        })
        .collect();
    named.join(", ").into()
}

fn signing_state(request: &Value) -> String {
    let has = |kind: &str| {
        list(request, "/status/conditions")
            .iter()
            .any(|it| it["type"] == kind)
    };
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(request, "/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

const NONE: &str = "<none>";

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(columns: &[Column], object: &Value) -> Vec<String> {
        columns
            .iter()
            .map(|column| match column.cell(object) {
                Value::String(text) => text,
                other => other.to_string(),
            })
            .collect()
    }

    #[test]
    fn cells_read_as_in_kubectl() {
        let service = json!({
            "metadata": {"name": "web"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.7", "selector": {"app": "web"},
                "ports": [
                    {"port": 80, "nodePort": 30080, "protocol": "TCP"},
                    {"port": 53, "protocol": "UDP"},
                ],
            },
        });
        assert_eq!(
            cells(&super::service(), &service),
            [
                "web",
                "NodePort",
                "10.96.0.7",
                "<none>",
                "80:30080/TCP,53/UDP",
                "<unknown>",
                "app=web"
            ]
        );
        let request = json!({
            "metadata": {"name": "csr"},
            "spec": {"signerName": "a/b", "username": "jane", "expirationSeconds": 600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "LS0t"},
        });
        assert_eq!(
            cells(&certificate_signing_request(), &request),
            ["csr", "<unknown>", "a/b", "jane", "10m", "Approved,Issued"]
        );
    }

    #[test]
    fn custom_columns_follow_their_paths() {
        let columns = custom(&[
            json!({"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}),
            json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}),
        ]);
        let object = json!({"metadata": {"name": "x"}, "spec": {"mode": "fast", "size": 3}});
        assert_eq!(cells(&columns, &object), ["x", "fast", "3"]);
        assert_eq!(columns[2].definition()["priority"], 1);
    }
}
