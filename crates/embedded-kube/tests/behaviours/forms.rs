//! The forms of answers and bodies, and what is served at all.

use serde_json::{Value, json};

use crate::client::{Space, Target};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// The names of a table's columns, those of `-o wide` in parentheses.
fn columns(table: &Value) -> Vec<String> {
    let columns = table["columnDefinitions"].as_array().cloned();
    columns
        .unwrap_or_default()
        .iter()
        .map(|column| {
            let name = column["name"].as_str().unwrap_or_default();
            if column["priority"] == 0 {
                name.to_owned()
            } else {
                format!("({name})")
            }
        })
        .collect()
}

pub(crate) async fn answers_come_as_tables(target: &Target) {
    let space = Space::new(target).await;
    let admin = target.admin().with("Accept", TABLE);
    for (path, expected) in [
        (
            space.core("pods"),
            &[
                "Name",
                "Ready",
                "Status",
                "Restarts",
                "Age",
                "(IP)",
                "(Node)",
                "(Nominated Node)",
                "(Readiness Gates)",
            ][..],
        ),
        (space.core("configmaps"), &["Name", "Data", "Age"]),
        (space.core("secrets"), &["Name", "Type", "Data", "Age"]),
        (space.core("serviceaccounts"), &["Name", "Age"]),
        (
            space.core("services"),
            &[
                "Name",
                "Type",
                "Cluster-IP",
                "External-IP",
                "Port(s)",
                "Age",
                "(Selector)",
            ],
        ),
        (
            space.group("apps/v1", "deployments"),
            &[
                "Name",
                "Ready",
                "Up-to-date",
                "Available",
                "Age",
                "(Containers)",
                "(Images)",
                "(Selector)",
            ],
        ),
        (
            space.group("rbac.authorization.k8s.io/v1", "rolebindings"),
            &[
                "Name",
                "Role",
                "Age",
                "(Users)",
                "(Groups)",
                "(ServiceAccounts)",
            ],
        ),
        (
            space.group("rbac.authorization.k8s.io/v1", "roles"),
            &["Name", "Created At"],
        ),
        (
            space.group("coordination.k8s.io/v1", "leases"),
            &["Name", "Holder", "Age"],
        ),
        ("/api/v1/namespaces".to_owned(), &["Name", "Status", "Age"]),
        (
            "/api/v1/nodes".to_owned(),
            &[
                "Name",
                "Status",
                "Roles",
                "Age",
                "Version",
                "(Internal-IP)",
                "(External-IP)",
                "(OS-Image)",
                "(Kernel-Version)",
                "(Container-Runtime)",
            ],
        ),
        (
            space.core("events"),
            &[
                "Last Seen",
                "Type",
                "Reason",
                "Object",
                "(Subobject)",
                "(Source)",
                "Message",
                "(First Seen)",
                "(Count)",
                "(Name)",
            ],
        ),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            &[
                "Name",
                "Age",
                "SignerName",
                "Requestor",
                "RequestedDuration",
                "Condition",
            ],
        ),
    ] {
        let table = admin.get(&path).await.expect(200);
        assert_eq!(table["kind"], "Table", "{path}");
        assert_eq!(table["apiVersion"], "meta.k8s.io/v1", "{path}");
        assert_eq!(columns(&table), expected, "{path}");
    }

    let all = space.core("configmaps");
    let object = json!({"metadata": {"name": "one"}, "data": {"a": "1", "b": "2"}});
    let made = space.admin.post(&all, &object).await.expect(201);
    let table = admin.get(&space.core("configmaps/one")).await.expect(200);
    let row = &table["rows"][0];
    assert_eq!(row["cells"][0], "one");
    assert_eq!(row["cells"][1], 2);
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["uid"], made["metadata"]["uid"]);
    let path = space.core("configmaps/one?includeObject=Object");
    let table = admin.get(&path).await.expect(200);
    assert_eq!(table["rows"][0]["object"]["data"]["a"], "1");
    let path = space.core("configmaps/one?includeObject=None");
    let table = admin.get(&path).await.expect(200);
    assert_eq!(table["rows"][0]["object"], Value::Null);

    let path = format!("{all}?watch=1&fieldSelector=metadata.name%3Done");
    let mut watch = admin.stream(&path).await;
    let (kind, table) = watch.event().await;
    assert_eq!(kind, "ADDED");
    assert_eq!(columns(&table), ["Name", "Data", "Age"]);
    let patch = json!({"data": {"c": "3"}});
    let path = space.core("configmaps/one");
    space
        .admin
        .patch(&path, "merge-patch+json", &patch)
        .await
        .expect(200);
    let (kind, table) = watch.event().await;
    assert_eq!(kind, "MODIFIED");
    assert_eq!(table["rows"][0]["cells"][1], 3);
    assert_eq!(columns(&table), Vec::<String>::new(), "only once");
    space.end().await;
}

pub(crate) async fn answers_come_as_metadata_alone(target: &Target) {
    let space = Space::new(target).await;
    let all = space.core("secrets");
    let object = json!({"metadata": {"name": "one"}, "stringData": {"a": "1"}});
    let made = space.admin.post(&all, &object).await.expect(201);
    assert_eq!(made["data"], json!({"a": "MQ=="}));
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let listed = target
        .admin()
        .with("Accept", list)
        .get(&all)
        .await
        .expect(200);
    assert_eq!(listed["kind"], "PartialObjectMetadataList");
    assert_eq!(listed["items"][0]["metadata"]["name"], "one");
    assert_eq!(listed["items"][0].get("data"), None);
    let one = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let path = space.core("secrets/one");
    let found = target
        .admin()
        .with("Accept", one)
        .get(&path)
        .await
        .expect(200);
    assert_eq!(found["kind"], "PartialObjectMetadata");
    let other = target.admin().with("Accept", "text/html").get(&path).await;
    assert_eq!(other.code, 406);
    space.end().await;
}

pub(crate) async fn bodies_are_taken_in_other_forms(target: &Target) {
    let space = Space::new(target).await;
    let all = space.core("configmaps");
    let yaml = "metadata:\n  name: one\ndata:\n  k: v\n";
    let send = async |content_type: &str, body: &'static [u8]| {
        space
            .admin
            .send(http::Method::POST, &all, content_type, body.into())
            .await
    };
    let full: &[u8] = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  k: v\n";
    assert!(full.ends_with(yaml.as_bytes()));
    let made = send("application/yaml", full).await.expect(201);
    assert_eq!(made["data"], json!({"k": "v"}));
    // runtime.Unknown of a v1 ConfigMap named `two`.
    let protobuf: &[u8] =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x07\x0a\x05\x0a\x03two\x1a\x00\x22\x00";
    let made = send("application/vnd.kubernetes.protobuf", protobuf)
        .await
        .expect(201);
    assert_eq!(made["metadata"]["name"], "two");
    send("text/plain", b"{}")
        .await
        .refused(415, "UnsupportedMediaType");
    send("application/json", b"{")
        .await
        .refused(400, "BadRequest");
    space.end().await;
}

pub(crate) async fn discovery_lists_what_is_served(target: &Target) {
    let admin = target.admin();
    let version = admin.get("/version").await.expect(200);
    assert_eq!(version["major"], "1");
    assert!(version["gitVersion"].is_string());
    let versions = admin.get("/api").await.expect(200);
    assert_eq!(versions["kind"], "APIVersions");
    assert_eq!(versions["versions"], json!(["v1"]));
    let groups = admin.get("/apis").await.expect(200);
    assert_eq!(groups["kind"], "APIGroupList");
    for group in [
        "apiextensions.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "rbac.authorization.k8s.io",
    ] {
        let listed = groups["groups"].as_array().cloned().unwrap_or_default();
        assert!(listed.iter().any(|it| it["name"] == group), "{group}");
        let one = admin.get(&format!("/apis/{group}")).await.expect(200);
        assert_eq!(one["kind"], "APIGroup");
        assert_eq!(one["preferredVersion"]["version"], "v1");
    }
    let core = admin.get("/api/v1").await.expect(200);
    assert_eq!(core["kind"], "APIResourceList");
    assert_eq!(core["groupVersion"], "v1");
    let named = |name: &str| {
        let resources = core["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|it| it["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not listed"))
    };
    let pods = named("pods");
    assert_eq!(pods["kind"], "Pod");
    assert_eq!(pods["singularName"], "pod");
    assert_eq!(pods["namespaced"], true);
    assert_eq!(pods["shortNames"], json!(["po"]));
    let verbs = pods["verbs"].as_array().cloned().unwrap_or_default();
    for verb in [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ] {
        assert!(verbs.contains(&json!(verb)), "{verb}");
    }
    assert_eq!(named("pods/log")["kind"], "Pod");
    assert_eq!(named("serviceaccounts/token")["kind"], "TokenRequest");
    assert_eq!(named("namespaces")["namespaced"], false);
    let index = admin.get("/openapi/v3").await.expect(200);
    let place = &index["paths"]["api/v1"]["serverRelativeURL"];
    let document = admin
        .get(place.as_str().unwrap_or_default())
        .await
        .expect(200);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"]["kind"],
        "ConfigMap"
    );
    assert_eq!(admin.get("/healthz").await.bytes, "ok");
    assert_eq!(admin.get("/livez").await.bytes, "ok");
}

pub(crate) async fn paths_that_are_not_served_are_refused(target: &Target) {
    let space = Space::new(target).await;
    let admin = &space.admin;
    for path in [
        "/nothing",
        "/api/v2/pods",
        "/apis/example.com/v1/widgets",
        "/api/v1/nothings",
    ] {
        assert_eq!(admin.get(path).await.code, 404, "{path}");
    }
    let deep = space.core("configmaps/one/two/three");
    assert_eq!(admin.get(&deep).await.code, 404);
    assert_eq!(admin.get(&space.core("nodes")).await.code, 404);
    let review = "/apis/authentication.k8s.io/v1/tokenreviews";
    admin.get(review).await.refused(405, "MethodNotAllowed");
    let body = json!({"metadata": {"name": "one"}});
    let path = space.core("configmaps/one");
    admin
        .post(&path, &body)
        .await
        .refused(405, "MethodNotAllowed");
    let field = space.core("configmaps?fieldSelector=data.k%3Dv");
    admin.get(&field).await.refused(400, "BadRequest");
    let label = space.core("configmaps?labelSelector=a%20b");
    admin.get(&label).await.refused(400, "BadRequest");
    space.end().await;
}
