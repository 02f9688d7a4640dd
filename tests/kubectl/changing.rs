//! What changes objects.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::kubectl::{Way, here};
use crate::setting::{NAMESPACE, Setting};

/// Close to what etcd takes.
const LARGE: usize = 900 * 1024;

fn configmap(name: &str, key: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "data": { key: value },
    })
}

/// As the managed cluster has it, asked directly.
fn object(way: &Way<'_>, what: &str) -> Result<Value> {
    let text = way.directly(&here(&["get", what, "-o", "json"]))?;
    serde_json::from_str(&text).context("not JSON")
}

pub(crate) fn apply(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let name = format!("applied-{way}");
        let what = format!("configmap/{name}");
        let file = setting.file(&name);
        for (value, outcome) in [
            ("one", "created"),
            ("one", "unchanged"),
            ("two", "configured"),
        ] {
            std::fs::write(&file, configmap(&name, "key", value).to_string())?;
            let path = file.to_str().context("an odd path")?;
            let said = way.kubectl(&["apply", "-f", path])?;
            ensure!(said == format!("{what} {outcome}\n"), "{way}: {said}");
            ensure!(object(&way, &what)?["data"]["key"] == value, "{way}");
        }
        let other = configmap(&name, "key", "three").to_string();
        std::fs::write(&file, &other)?;
        let path = file.to_str().context("an odd path")?;
        let said = way.ask(&["diff", "-f", path])?;
        ensure!(
            said.code == Some(1) && said.stdout.contains("+  key: three"),
            "{way}: {said:?}"
        );
        let said = way.with_input(&["apply", "--dry-run=server", "-f", "-"], other.as_bytes())?;
        ensure!(said.contains("server dry run"), "{way}: {said}");
        ensure!(object(&way, &what)?["data"]["key"] == "two", "{way}");
        let said = way.with_input(&["replace", "-f", "-"], other.as_bytes())?;
        ensure!(said == format!("{what} replaced\n"), "{way}: {said}");
        way.kubectl(&["delete", "-f", path])?;
        let said = way.ask_directly(&here(&["get", &what]))?;
        ensure!(said.stderr.contains("(NotFound)"), "{way}: {said:?}");
    }
    Ok(())
}

pub(crate) fn large_objects(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let name = format!("large-{way}");
        let what = format!("configmap/{name}");
        for letter in ["a", "b"] {
            let value = letter.repeat(LARGE);
            let manifest = configmap(&name, "key", &value).to_string();
            let said = way.with_input(
                &["apply", "--server-side", "--field-manager=suite", "-f", "-"],
                manifest.as_bytes(),
            )?;
            ensure!(
                said == format!("{what} serverside-applied\n"),
                "{way}: {said}"
            );
            let data = object(&way, &what)?["data"]["key"].take();
            ensure!(data == value, "{way}: not what was applied");
        }
        let conflict = way.ask(&here(&[
            "annotate",
            &what,
            "of=another",
            "--field-manager=another",
        ]))?;
        ensure!(conflict.code == Some(0), "{way}: {conflict:?}");
        // Refused by the kube-apiserver in its own words, with the body on its way.
        let more = configmap(&name, "key", &"c".repeat(4 * LARGE)).to_string();
        let file = setting.file(&name);
        std::fs::write(&file, more)?;
        let path = file.to_str().context("an odd path")?;
        let arguments = [
            "apply",
            "--server-side",
            "--field-manager=suite",
            "-f",
            path,
        ];
        let said = way.ask(&arguments)?;
        ensure!(
            said.code == Some(1) && said == way.ask_directly(&arguments)?,
            "{way}: {said:?}"
        );
        way.kubectl(&here(&["delete", &what]))?;
    }
    Ok(())
}

pub(crate) fn patch(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let name = format!("patched-{way}");
        let what = format!("configmap/{name}");
        way.kubectl(&here(&[
            "create",
            "configmap",
            &name,
            "--from-literal=first=1",
        ]))?;
        let patches = [
            (
                "strategic",
                r#"{"data":{"second":"2"}}"#,
                json!({"first": "1", "second": "2"}),
            ),
            (
                "merge",
                r#"{"data":{"first":null}}"#,
                json!({"second": "2"}),
            ),
            (
                "json",
                r#"[{"op":"test","path":"/data/second","value":"2"},{"op":"add","path":"/data/third","value":"3"}]"#,
                json!({"second": "2", "third": "3"}),
            ),
        ];
        for (kind, patch, wanted) in patches {
            let said = way.kubectl(&here(&["patch", &what, "--type", kind, "-p", patch]))?;
            ensure!(said == format!("{what} patched\n"), "{way}: {said}");
            let data = &object(&way, &what)?["data"];
            ensure!(*data == wanted, "{way}: {kind}: {data}");
        }
        way.kubectl(&here(&["label", &what, "labelled=yes"]))?;
        let said = way.kubectl(&here(&["delete", "configmap", "-l", "labelled=yes"]))?;
        ensure!(
            said.contains(&format!("\"{name}\" deleted")),
            "{way}: {said}"
        );
    }
    Ok(())
}

pub(crate) fn wait(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let name = format!("waited-{way}");
        let what = format!("configmap/{name}");
        way.kubectl(&here(&[
            "wait",
            "--for=condition=Ready",
            "pod",
            "-l",
            "suite=kubectl",
        ]))?;
        let said = way.ask(&here(&[
            "wait",
            "--for=jsonpath={.status.phase}=Failed",
            "pod/worker",
            "--timeout=1s",
        ]))?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("timed out waiting"),
            "{way}: {said:?}"
        );
        way.kubectl(&here(&["create", "configmap", &name]))?;
        let (waited, deleted) = std::thread::scope(|scope| {
            let waiting = scope
                .spawn(|| way.kubectl(&here(&["wait", "--for=delete", &what, "--timeout=20s"])));
            // Whether it comes before the wait or after it, both must succeed.
            std::thread::sleep(std::time::Duration::from_millis(700));
            let deleted = way.directly(&here(&["delete", &what]));
            (waiting.join().expect("no panic"), deleted)
        });
        deleted?;
        let waited = waited?;
        ensure!(
            waited.is_empty() || waited.contains("condition met"),
            "{way}: {waited}"
        );
    }
    Ok(())
}

pub(crate) fn rollout(setting: &Setting) -> Result<()> {
    let name = "rolled";
    let what = "deployment/rolled";
    let labels = json!({ "app": name });
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "main",
                        "image": setting.lab.tools_image(),
                        "imagePullPolicy": "Never",
                        "command": ["sleep", "3600"],
                    }],
                },
            },
        },
    });
    let first = setting.versions().next().context("no kubectl")?;
    first.with_input(&["apply", "-f", "-"], manifest.to_string().as_bytes())?;
    let status = here(&["rollout", "status", what, "--timeout=40s"]);
    for way in setting.versions() {
        let done = "deployment \"rolled\" successfully rolled out\n";
        let said = way.kubectl(&status)?;
        ensure!(said.ends_with(done), "{way}: {said}");
        let before = revision(&way, what)?;
        let said = way.kubectl(&here(&["rollout", "restart", what]))?;
        ensure!(
            said == "deployment.apps/rolled restarted\n",
            "{way}: {said}"
        );
        let said = way.kubectl(&status)?;
        ensure!(
            said.starts_with("Waiting for deployment") && said.ends_with(done),
            "{way}: {said}"
        );
        ensure!(revision(&way, what)? == before + 1, "{way}");
        let said = way.kubectl(&here(&["rollout", "history", what]))?;
        ensure!(said.contains("REVISION"), "{way}: {said}");
        way.kubectl(&here(&["rollout", "undo", what]))?;
        way.kubectl(&status)?;
        ensure!(revision(&way, what)? == before + 2, "{way}");
        for replicas in [2, 1] {
            way.kubectl(&here(&["scale", what, &format!("--replicas={replicas}")]))?;
            way.kubectl(&status)?;
            ensure!(
                object(&way, what)?["status"]["readyReplicas"] == replicas,
                "{way}"
            );
        }
    }
    first.kubectl(&here(&["delete", what]))?;
    Ok(())
}

fn revision(way: &Way<'_>, what: &str) -> Result<u64> {
    let object = object(way, what)?;
    let revision = &object["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    let revision = revision.as_str().context("no revision")?;
    revision.parse().context("a revision that is no number")
}
