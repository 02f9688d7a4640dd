//! The real helm and the chart of this repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Where the story installs it.
pub(crate) const NAMESPACE: &str = "open-cluster-management-addon";

/// The helm that `LAB_HELM` names.
#[derive(Debug)]
pub(crate) struct Helm {
    program: PathBuf,
    chart: PathBuf,
}

impl Helm {
    pub(crate) fn find() -> Result<Self> {
        let program = std::env::var_os("LAB_HELM")
            .context("LAB_HELM names no helm: run `make test SUITE=chart`")?;
        let program = PathBuf::from(program);
        ensure!(program.is_file(), "{}: not built", program.display());
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/cluster-proxy");
        Ok(Self { program, chart })
    }

    pub(crate) fn chart(&self) -> &Path {
        &self.chart
    }

    /// What the chart makes with these `--set`s, without its CRDs.
    pub(crate) fn template(&self, sets: &[&str]) -> Result<String> {
        self.run(&["template", "cluster-proxy"], sets)
    }

    /// The same as objects.
    pub(crate) fn objects(&self, sets: &[&str]) -> Result<Vec<Value>> {
        let rendered = self.template(sets)?;
        let documents = serde_saphyr::from_multiple::<Value>(&rendered)?;
        Ok(documents.into_iter().filter(Value::is_object).collect())
    }

    /// What a user reads after the installation. Only an installation renders the notes, and that
    /// needs a cluster: here they are an object of a copy of the chart.
    pub(crate) fn notes(&self, sets: &[&str]) -> Result<String> {
        let copy = tempfile::tempdir()?;
        let templates = copy.path().join("templates");
        std::fs::create_dir(&templates)?;
        for name in ["Chart.yaml", "values.yaml", "templates/_helpers.tpl"] {
            std::fs::copy(self.chart.join(name), copy.path().join(name)).context(name)?;
        }
        let notes = std::fs::read_to_string(self.chart.join("templates/NOTES.txt"))?;
        let object = format!(
            "{{{{- define \"notes\" }}}}{notes}{{{{ end -}}}}\n\
             kind: Notes\nnotes: {{{{ include \"notes\" . | toJson }}}}\n"
        );
        std::fs::write(templates.join("notes.yaml"), object)?;
        let helm = Self {
            program: self.program.clone(),
            chart: copy.path().to_owned(),
        };
        let objects = helm.objects(sets)?;
        let notes = objects.first().and_then(|it| it["notes"].as_str());
        Ok(notes.context("no notes")?.to_owned())
    }

    /// Why the schema refuses this `--set`.
    pub(crate) fn refuses(&self, set: &str) -> Result<String> {
        let output = self.output(&["template", "cluster-proxy"], &[set])?;
        if output.status.success() {
            bail!("{set} is taken");
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            said.contains("don't meet the specifications of the schema"),
            "{set} is refused by something other than the schema: {said}"
        );
        Ok(said)
    }

    pub(crate) fn run(&self, command: &[&str], sets: &[&str]) -> Result<String> {
        let output = self.output(command, sets)?;
        ensure!(
            output.status.success(),
            "helm {command:?} {sets:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    fn output(&self, command: &[&str], sets: &[&str]) -> Result<Output> {
        let mut helm = Command::new(&self.program);
        helm.args(command).arg(&self.chart).args(["-n", NAMESPACE]);
        // A helm without a cluster takes the version of its own libraries, or none.
        helm.args(["--kube-version", "1.33.0"]);
        for set in sets {
            helm.args(["--set", set]);
        }
        // Whatever cluster and plugins its user has are none of this.
        helm.env("KUBECONFIG", "/dev/null")
            .env("HELM_PLUGINS", "/dev/null")
            .output()
            .with_context(|| format!("{} cannot be run", self.program.display()))
    }
}
