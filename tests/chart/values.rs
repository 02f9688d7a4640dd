//! docs/chart-values.md, made of values.schema.json (meanings, forms) and values.yaml (defaults).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::Helm;
use crate::is_committed;

pub(crate) fn table(helm: &Helm) -> Result<()> {
    let (schema, values) = read(helm)?;
    let mut made = INTRODUCTION.to_owned();
    for row in rows(&schema, &values)? {
        let Row {
            name,
            form,
            default,
            meaning,
        } = row;
        writeln!(made, "| `{name}` | {form} | {default} | {meaning} |")?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/chart-values.md");
    ensure!(
        is_committed(&path, &made)?,
        "docs/chart-values.md is not what the chart says: UPDATE_GOLDEN=1 writes it"
    );
    Ok(())
}

/// Every value has a default in values.yaml and a meaning in the schema.
pub(crate) fn defaults(helm: &Helm) -> Result<()> {
    let (schema, values) = read(helm)?;
    let described: BTreeSet<String> = rows(&schema, &values)?
        .into_iter()
        .map(|row| row.name)
        .collect();
    let mut defaulted = BTreeSet::new();
    leaves("", &values, &mut defaulted);
    let undescribed: Vec<_> = defaulted.difference(&described).collect();
    ensure!(undescribed.is_empty(), "not in the schema: {undescribed:?}");
    let without: Vec<_> = described
        .difference(&defaulted)
        .filter(|name| !WITHOUT_DEFAULT.contains(&name.as_str()))
        .collect();
    ensure!(without.is_empty(), "not in values.yaml: {without:?}");
    Ok(())
}

struct Row {
    name: String,
    form: String,
    default: String,
    meaning: String,
}

fn read(helm: &Helm) -> Result<(Value, Value)> {
    let file = |name: &str| {
        std::fs::read_to_string(helm.chart().join(name)).with_context(|| name.to_owned())
    };
    let schema = serde_json::from_str(&file("values.schema.json")?)?;
    let values = serde_saphyr::from_str(&file("values.yaml")?)?;
    Ok((schema, values))
}

fn rows(schema: &Value, values: &Value) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    collect("", schema, values, &mut rows)?;
    Ok(rows)
}

fn collect(prefix: &str, schema: &Value, values: &Value, rows: &mut Vec<Row>) -> Result<()> {
    let properties = schema["properties"].as_object();
    for (key, property) in properties.context("a schema without properties")? {
        let name = format!("{prefix}{key}");
        let default = &values[key];
        if property.get("properties").is_some() {
            collect(&format!("{name}."), property, default, rows)?;
            continue;
        }
        let meaning = property["description"].as_str();
        rows.push(Row {
            form: form(property),
            default: if default.is_null() {
                String::new()
            } else {
                format!("`{default}`")
            },
            meaning: meaning
                .with_context(|| format!("{name} has no description"))?
                .replace('|', "\\|"),
            name,
        });
    }
    Ok(())
}

/// What a value may look like.
fn form(property: &Value) -> String {
    if let Some(choices) = property["enum"].as_array() {
        let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        return choices.join(", ");
    }
    let kind = match &property["type"] {
        // Null is for those who leave the value empty in YAML.
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    let kind = kind.unwrap_or_default();
    match (property["minimum"].as_i64(), property["maximum"].as_i64()) {
        (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
        _ => kind.to_owned(),
    }
}

fn leaves(prefix: &str, values: &Value, names: &mut BTreeSet<String>) {
    for (key, value) in values.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        if value.is_object() {
            leaves(&format!("{name}."), value, names);
        } else {
            names.insert(name);
        }
    }
}

/// Taken for the sake of others: Helm's own, and a former name.
const WITHOUT_DEFAULT: &[&str] = &["global", "featureGates.clusterProfileAccessProvider"];

const INTRODUCTION: &str = "\
# Values of the Helm chart

Made from `charts/cluster-proxy/values.schema.json` and `values.yaml`:
`UPDATE_GOLDEN=1 make test SUITE=chart`. The schema refuses everything else.

| value | form | default | meaning |
|---|---|---|---|
";
