//! The messages of Kubernetes' API, field by field, from the `generated.proto` files of
//! `k8s.io/api` and `k8s.io/apimachinery` 0.35.
//!
//! Complete for the kinds that `kubectl create` makes and for reviews, tokens, leases and events.
//! Of a Deployment's pods there is what `kubectl create deployment` writes.

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// A pointer in Go: there, even if it is zero.
    pub(super) optional: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Bytes,
    Number,
    Bool,
    Message(&'static [Field]),
    /// `Time`, or `MicroTime`.
    Time {
        micro: bool,
    },
    /// A message whose only field is the value (`Quantity`, `ExtraValue`).
    Wrapped(&'static [Field]),
    /// A message of bytes that are JSON (`FieldsV1`).
    Json,
    IntOrString,
    /// From texts.
    Map(&'static Self),
    /// Passed over: the status of a question, which is the server's to write.
    Ignored,
}

/// The message of a kind.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    // Every group and version has the same.
    if kind == "DeleteOptions" {
        return Some(DELETE_OPTIONS);
    }
    KINDS
        .iter()
        .find(|(version, name, _)| *version == api_version && *name == kind)
        .map(|(_, _, fields)| *fields)
}

/// `runtime.Unknown`, around every object.
pub(super) const UNKNOWN: &[Field] = &[
    message(1, "typeMeta", &[text(1, "apiVersion"), text(2, "kind")]),
    field(2, "raw", Kind::Bytes),
    text(3, "contentEncoding"),
    text(4, "contentType"),
];

pub(super) const TIME: &[Field] = &[optional(number(1, "seconds")), number(2, "nanos")];

pub(super) const RAW: &[Field] = &[field(1, "Raw", Kind::Bytes)];

pub(super) const INT_OR_STRING: &[Field] =
    &[number(1, "type"), number(2, "intVal"), text(3, "strVal")];

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const AUTHENTICATION: &str = "authentication.k8s.io/v1";
const AUTHORIZATION: &str = "authorization.k8s.io/v1";

const KINDS: &[(&str, &str, &[Field])] = &[
    (
        "v1",
        "ConfigMap",
        &[
            METADATA,
            texts_by_name(2, "data"),
            field(3, "binaryData", Kind::Map(&Kind::Bytes)),
            optional(flag(4, "immutable")),
        ],
    ),
    ("v1", "Event", EVENT),
    (
        "v1",
        "Namespace",
        &[
            METADATA,
            message(2, "spec", &[texts(1, "finalizers")]),
            message(3, "status", &[text(1, "phase")]),
        ],
    ),
    (
        "v1",
        "Secret",
        &[
            METADATA,
            field(2, "data", Kind::Map(&Kind::Bytes)),
            text(3, "type"),
            texts_by_name(4, "stringData"),
            optional(flag(5, "immutable")),
        ],
    ),
    (
        "v1",
        "Service",
        &[
            METADATA,
            message(2, "spec", SERVICE_SPEC),
            message(3, "status", &[message(1, "loadBalancer", &[])]),
        ],
    ),
    (
        "v1",
        "ServiceAccount",
        &[
            METADATA,
            repeated(message(2, "secrets", OBJECT_REFERENCE)),
            repeated(message(3, "imagePullSecrets", &[text(1, "name")])),
            optional(flag(4, "automountServiceAccountToken")),
        ],
    ),
    (
        "apps/v1",
        "Deployment",
        &[
            METADATA,
            message(2, "spec", DEPLOYMENT_SPEC),
            message(3, "status", DEPLOYMENT_STATUS),
        ],
    ),
    (RBAC, "Role", &[METADATA, RULES]),
    (
        RBAC,
        "ClusterRole",
        &[
            METADATA,
            RULES,
            message(
                3,
                "aggregationRule",
                &[repeated(message(1, "clusterRoleSelectors", LABEL_SELECTOR))],
            ),
        ],
    ),
    (RBAC, "RoleBinding", BINDING),
    (RBAC, "ClusterRoleBinding", BINDING),
    ("coordination.k8s.io/v1", "Lease", LEASE),
    (
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        SIGNING_REQUEST,
    ),
    (AUTHENTICATION, "TokenRequest", TOKEN_REQUEST),
    (
        AUTHENTICATION,
        "TokenReview",
        &[
            METADATA,
            message(2, "spec", &[text(1, "token"), texts(2, "audiences")]),
            IGNORED_STATUS,
        ],
    ),
    (
        AUTHENTICATION,
        "SelfSubjectReview",
        &[METADATA, field(2, "status", Kind::Ignored)],
    ),
    (AUTHORIZATION, "SubjectAccessReview", ACCESS_REVIEW),
    (AUTHORIZATION, "LocalSubjectAccessReview", ACCESS_REVIEW),
    (
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        &[
            METADATA,
            message(2, "spec", &[RESOURCE_ATTRIBUTES, PATH_ATTRIBUTES]),
            IGNORED_STATUS,
        ],
    ),
    (
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        &[
            METADATA,
            message(2, "spec", &[text(1, "namespace")]),
            IGNORED_STATUS,
        ],
    ),
];

const METADATA: Field = message(1, "metadata", OBJECT_META);

const OBJECT_META: &[Field] = &[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(4, "selfLink"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    number(7, "generation"),
    time(8, "creationTimestamp"),
    time(9, "deletionTimestamp"),
    optional(number(10, "deletionGracePeriodSeconds")),
    texts_by_name(11, "labels"),
    texts_by_name(12, "annotations"),
    repeated(message(
        13,
        "ownerReferences",
        &[
            text(1, "kind"),
            text(3, "name"),
            text(4, "uid"),
            text(5, "apiVersion"),
            optional(flag(6, "controller")),
            optional(flag(7, "blockOwnerDeletion")),
        ],
    )),
    texts(14, "finalizers"),
    repeated(message(
        17,
        "managedFields",
        &[
            text(1, "manager"),
            text(2, "operation"),
            text(3, "apiVersion"),
            time(4, "time"),
            text(6, "fieldsType"),
            field(7, "fieldsV1", Kind::Json),
            text(8, "subresource"),
        ],
    )),
];

const OBJECT_REFERENCE: &[Field] = &[
    text(1, "kind"),
    text(2, "namespace"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    text(6, "resourceVersion"),
    text(7, "fieldPath"),
];

const LABEL_SELECTOR: &[Field] = &[
    texts_by_name(1, "matchLabels"),
    repeated(message(2, "matchExpressions", REQUIREMENT)),
];

const REQUIREMENT: &[Field] = &[text(1, "key"), text(2, "operator"), texts(3, "values")];

const EVENT: &[Field] = &[
    METADATA,
    message(2, "involvedObject", OBJECT_REFERENCE),
    text(3, "reason"),
    text(4, "message"),
    message(5, "source", &[text(1, "component"), text(2, "host")]),
    time(6, "firstTimestamp"),
    time(7, "lastTimestamp"),
    number(8, "count"),
    text(9, "type"),
    micro_time(10, "eventTime"),
    message(
        11,
        "series",
        &[number(1, "count"), micro_time(2, "lastObservedTime")],
    ),
    text(12, "action"),
    message(13, "related", OBJECT_REFERENCE),
    text(14, "reportingComponent"),
    text(15, "reportingInstance"),
];

const SERVICE_SPEC: &[Field] = &[
    repeated(message(
        1,
        "ports",
        &[
            text(1, "name"),
            text(2, "protocol"),
            number(3, "port"),
            field(4, "targetPort", Kind::IntOrString),
            number(5, "nodePort"),
            text(6, "appProtocol"),
        ],
    )),
    texts_by_name(2, "selector"),
    text(3, "clusterIP"),
    text(4, "type"),
    texts(5, "externalIPs"),
    text(7, "sessionAffinity"),
    text(8, "loadBalancerIP"),
    texts(9, "loadBalancerSourceRanges"),
    text(10, "externalName"),
    text(11, "externalTrafficPolicy"),
    number(12, "healthCheckNodePort"),
    flag(13, "publishNotReadyAddresses"),
    text(17, "ipFamilyPolicy"),
    texts(18, "clusterIPs"),
    texts(19, "ipFamilies"),
    optional(flag(20, "allocateLoadBalancerNodePorts")),
    text(21, "loadBalancerClass"),
    text(22, "internalTrafficPolicy"),
    text(23, "trafficDistribution"),
];

const POD_SPEC: &[Field] = &[
    repeated(message(2, "containers", CONTAINER)),
    text(3, "restartPolicy"),
    optional(number(4, "terminationGracePeriodSeconds")),
    optional(number(5, "activeDeadlineSeconds")),
    text(6, "dnsPolicy"),
    texts_by_name(7, "nodeSelector"),
    text(8, "serviceAccountName"),
    text(9, "serviceAccount"),
    text(10, "nodeName"),
    flag(11, "hostNetwork"),
    flag(12, "hostPID"),
    flag(13, "hostIPC"),
    message(14, "securityContext", &[]),
    repeated(message(15, "imagePullSecrets", &[text(1, "name")])),
    text(16, "hostname"),
    text(17, "subdomain"),
    text(19, "schedulerName"),
    repeated(message(20, "initContainers", CONTAINER)),
    optional(flag(21, "automountServiceAccountToken")),
    text(24, "priorityClassName"),
    optional(number(25, "priority")),
    optional(flag(30, "enableServiceLinks")),
    text(31, "preemptionPolicy"),
];

const CONTAINER: &[Field] = &[
    text(1, "name"),
    text(2, "image"),
    texts(3, "command"),
    texts(4, "args"),
    text(5, "workingDir"),
    repeated(message(
        6,
        "ports",
        &[
            text(1, "name"),
            number(2, "hostPort"),
            number(3, "containerPort"),
            text(4, "protocol"),
            text(5, "hostIP"),
        ],
    )),
    repeated(message(7, "env", &[text(1, "name"), text(2, "value")])),
    message(
        8,
        "resources",
        &[
            field(1, "limits", Kind::Map(&QUANTITY)),
            field(2, "requests", Kind::Map(&QUANTITY)),
        ],
    ),
    text(13, "terminationMessagePath"),
    text(14, "imagePullPolicy"),
    flag(16, "stdin"),
    flag(17, "stdinOnce"),
    flag(18, "tty"),
    text(20, "terminationMessagePolicy"),
];

const DEPLOYMENT_SPEC: &[Field] = &[
    optional(number(1, "replicas")),
    message(2, "selector", LABEL_SELECTOR),
    message(3, "template", &[METADATA, message(2, "spec", POD_SPEC)]),
    message(
        4,
        "strategy",
        &[
            text(1, "type"),
            message(
                2,
                "rollingUpdate",
                &[
                    field(1, "maxUnavailable", Kind::IntOrString),
                    field(2, "maxSurge", Kind::IntOrString),
                ],
            ),
        ],
    ),
    number(5, "minReadySeconds"),
    optional(number(6, "revisionHistoryLimit")),
    flag(7, "paused"),
    optional(number(9, "progressDeadlineSeconds")),
];

const DEPLOYMENT_STATUS: &[Field] = &[
    number(1, "observedGeneration"),
    number(2, "replicas"),
    number(3, "updatedReplicas"),
    number(4, "availableReplicas"),
    number(5, "unavailableReplicas"),
    repeated(message(
        6,
        "conditions",
        &[
            text(1, "type"),
            text(2, "status"),
            text(4, "reason"),
            text(5, "message"),
            time(6, "lastUpdateTime"),
            time(7, "lastTransitionTime"),
        ],
    )),
    number(7, "readyReplicas"),
    optional(number(8, "collisionCount")),
    optional(number(9, "terminatingReplicas")),
];

const RULES: Field = repeated(message(
    2,
    "rules",
    &[
        texts(1, "verbs"),
        texts(2, "apiGroups"),
        texts(3, "resources"),
        texts(4, "resourceNames"),
        texts(5, "nonResourceURLs"),
    ],
));

const BINDING: &[Field] = &[
    METADATA,
    repeated(message(
        2,
        "subjects",
        &[
            text(1, "kind"),
            text(2, "apiGroup"),
            text(3, "name"),
            text(4, "namespace"),
        ],
    )),
    message(
        3,
        "roleRef",
        &[text(1, "apiGroup"), text(2, "kind"), text(3, "name")],
    ),
];

const LEASE: &[Field] = &[
    METADATA,
    message(
        2,
        "spec",
        &[
            optional(text(1, "holderIdentity")),
            optional(number(2, "leaseDurationSeconds")),
            micro_time(3, "acquireTime"),
            micro_time(4, "renewTime"),
            optional(number(5, "leaseTransitions")),
            text(6, "strategy"),
            text(7, "preferredHolder"),
        ],
    ),
];

const SIGNING_REQUEST: &[Field] = &[
    METADATA,
    message(
        2,
        "spec",
        &[
            field(1, "request", Kind::Bytes),
            text(2, "username"),
            text(3, "uid"),
            texts(4, "groups"),
            texts(5, "usages"),
            field(6, "extra", Kind::Map(&EXTRA_VALUE)),
            text(7, "signerName"),
            optional(number(8, "expirationSeconds")),
        ],
    ),
    message(
        3,
        "status",
        &[
            repeated(message(
                1,
                "conditions",
                &[
                    text(1, "type"),
                    text(2, "reason"),
                    text(3, "message"),
                    time(4, "lastUpdateTime"),
                    time(5, "lastTransitionTime"),
                    text(6, "status"),
                ],
            )),
            field(2, "certificate", Kind::Bytes),
        ],
    ),
];

const TOKEN_REQUEST: &[Field] = &[
    METADATA,
    message(
        2,
        "spec",
        &[
            texts(1, "audiences"),
            message(
                3,
                "boundObjectRef",
                &[
                    text(1, "kind"),
                    text(2, "apiVersion"),
                    text(3, "name"),
                    text(4, "uid"),
                ],
            ),
            optional(number(4, "expirationSeconds")),
        ],
    ),
    message(
        3,
        "status",
        &[text(1, "token"), time(2, "expirationTimestamp")],
    ),
];

const ACCESS_REVIEW: &[Field] = &[
    METADATA,
    message(
        2,
        "spec",
        &[
            RESOURCE_ATTRIBUTES,
            PATH_ATTRIBUTES,
            text(3, "user"),
            texts(4, "groups"),
            field(5, "extra", Kind::Map(&EXTRA_VALUE)),
            text(6, "uid"),
        ],
    ),
    IGNORED_STATUS,
];

const RESOURCE_ATTRIBUTES: Field = optional(message(
    1,
    "resourceAttributes",
    &[
        text(1, "namespace"),
        text(2, "verb"),
        text(3, "group"),
        text(4, "version"),
        text(5, "resource"),
        text(6, "subresource"),
        text(7, "name"),
        message(8, "fieldSelector", SELECTOR_ATTRIBUTES),
        message(9, "labelSelector", SELECTOR_ATTRIBUTES),
    ],
));

const SELECTOR_ATTRIBUTES: &[Field] = &[
    text(1, "rawSelector"),
    repeated(message(2, "requirements", REQUIREMENT)),
];

const PATH_ATTRIBUTES: Field = optional(message(
    2,
    "nonResourceAttributes",
    &[text(1, "path"), text(2, "verb")],
));

const IGNORED_STATUS: Field = field(3, "status", Kind::Ignored);

const DELETE_OPTIONS: &[Field] = &[
    optional(number(1, "gracePeriodSeconds")),
    message(
        2,
        "preconditions",
        &[text(1, "uid"), text(2, "resourceVersion")],
    ),
    optional(flag(3, "orphanDependents")),
    text(4, "propagationPolicy"),
    texts(5, "dryRun"),
];

const QUANTITY: Kind = Kind::Wrapped(&[text(1, "string")]);

const EXTRA_VALUE: Kind = Kind::Wrapped(&[texts(1, "items")]);

const fn field(number: u64, name: &'static str, kind: Kind) -> Field {
    Field {
        number,
        name,
        kind,
        repeated: false,
        optional: false,
    }
}

const fn text(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Text)
}

const fn texts(number: u64, name: &'static str) -> Field {
    repeated(text(number, name))
}

const fn texts_by_name(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Map(&Kind::Text))
}

const fn number(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Number)
}

const fn flag(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Bool)
}

const fn time(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Time { micro: false })
}

const fn micro_time(number: u64, name: &'static str) -> Field {
    field(number, name, Kind::Time { micro: true })
}

const fn message(number: u64, name: &'static str, fields: &'static [Field]) -> Field {
    field(number, name, Kind::Message(fields))
}

const fn repeated(field: Field) -> Field {
    Field {
        repeated: true,
        ..field
    }
}

const fn optional(field: Field) -> Field {
    Field {
        optional: true,
        ..field
    }
}
