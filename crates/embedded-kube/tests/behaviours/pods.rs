//! Pods, which a kubelet runs: a real one, or the embedded one in name.

use serde_json::json;

use crate::client::{Space, Target, eventually};

pub(crate) async fn a_pod_runs_and_has_a_log(target: &Target) {
    let space = Space::new(target).await;
    let (admin, all, one) = (&space.admin, space.core("pods"), space.core("pods/one"));
    let account = space.core("serviceaccounts/default");
    eventually("the default account is there", async || {
        (admin.get(&account).await.code == 200).then_some(())
    })
    .await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"},
        "spec": {"containers": [{
            "name": "main", "image": target.image, "imagePullPolicy": "Never",
            "command": ["sh", "-c", "echo hello; exec sleep 3600"],
        }], "terminationGracePeriodSeconds": 1},
    });
    let made = admin.post(&all, &pod).await.expect(201);
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let running = eventually("the pod runs", async || {
        let found = admin.get(&one).await.expect(200);
        let status = &found["status"]["containerStatuses"][0];
        (found["status"]["phase"] == "Running" && status["ready"] == true).then_some(found)
    })
    .await;
    assert!(running["status"]["podIP"].is_string());
    assert!(running["spec"]["nodeName"].is_string());
    let by_phase = format!("{all}?fieldSelector=status.phase%3DRunning");
    let listed = admin.get(&by_phase).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let shown = target
        .admin()
        .with("Accept", table)
        .get(&one)
        .await
        .expect(200);
    let cells = shown["rows"][0]["cells"].as_array().cloned();
    assert_eq!(
        cells.unwrap_or_default()[..4],
        [json!("one"), json!("1/1"), json!("Running"), json!("0")]
    );

    let log = space.core("pods/one/log");
    let text = eventually("the pod has written", async || {
        let text = admin.get(&log).await.bytes;
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    })
    .await;
    assert!(text.contains(target.log), "{text}");
    let mut follow = admin
        .stream(&format!("{log}?follow=true&timestamps=true&tailLines=1"))
        .await;
    let line = follow.next().await.unwrap_or_default();
    let (time, text) = line.split_once(' ').unwrap_or_default();
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    assert!(text.contains(target.log), "{line}");
    let other = format!("{log}?container=other");
    assert_eq!(
        admin.get(&other).await.refused(400, "BadRequest"),
        "container other is not valid for pod one"
    );

    // A token that is bound to the pod ends with it.
    let request = json!({"spec": {"boundObjectRef": {
        "apiVersion": "v1", "kind": "Pod", "name": "one", "uid": running["metadata"]["uid"],
    }}});
    let path = space.core("serviceaccounts/default/token");
    let issued = admin.post(&path, &request).await.expect(201);
    let token = issued["status"]["token"].as_str().unwrap_or_default();
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let bound = target.with_token(token);
    let answered = bound.post(whoami, &json!({})).await.expect(201);
    let extra = &answered["status"]["userInfo"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["one"])
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        json!([running["spec"]["nodeName"]])
    );

    let image = json!({"spec": {"containers": [{"name": "main", "command": ["true"]}]}});
    let changed = admin
        .patch(&one, "strategic-merge-patch+json", &image)
        .await;
    changed.refused(422, "Invalid");
    let leaving = admin.delete(&one).await.expect(200);
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    while follow.next().await.is_some() {}
    eventually("the pod is gone", async || {
        (admin.get(&one).await.code == 404).then_some(())
    })
    .await;
    eventually("its token ends", async || {
        (bound.get("/api").await.code == 401).then_some(())
    })
    .await;
    space.end().await;
}
