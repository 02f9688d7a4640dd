//! The service-proxy's arguments about whom it believes and as whom it asks.

use cluster_proxy_kube_api::managed_proxy_configuration::ProxyAgent;
use cluster_proxy_kube_api::names::INFORMATIVE_EXTRA;
use serde_json::Value;

use super::customization::{Customization, Variables};
use super::error::RenderError;

/// As whom the service-proxy asks, and the arguments that say so.
#[derive(Debug)]
pub(super) struct ServiceProxyArguments {
    /// The arguments.
    pub(super) arguments: Vec<String>,
    /// Whether it impersonates anybody.
    pub(super) impersonates: bool,
    /// Whether it impersonates uids.
    pub(super) uid: bool,
    /// Keys of extra attributes that it impersonates.
    pub(super) extra_keys: Vec<String>,
    /// ConfigMap with the CA of the OIDC issuer, which it watches.
    pub(super) oidc_ca: Option<String>,
}

impl ServiceProxyArguments {
    pub(super) fn new(
        agent: &ProxyAgent,
        customization: &Customization<'_>,
    ) -> Result<Self, RenderError> {
        let variables = &customization.variables;
        let additional = &agent.additional_service_proxy_args;
        if arguments_of(additional, "enable-impersonation")
            .next()
            .is_some()
        {
            return Err(RenderError::ImpersonationArgument);
        }
        let own_issuers = arguments_of(additional, "oidc-issuer-url").count();
        let oidc = oidc(variables)?;
        if own_issuers > 1 || (own_issuers == 1 && !oidc.is_empty()) {
            return Err(RenderError::OidcTwice);
        }
        let has_issuer = !oidc.is_empty()
            || arguments_of(additional, "oidc-issuer-url").any(|value| value != Some(""));

        let impersonates = customization.impersonation || has_issuer;
        let uid = impersonates && variables.boolean("impersonateUID")?.unwrap_or(true);
        let extra_keys = match variables.list("impersonateExtraKeys") {
            _ if !impersonates => Vec::new(),
            Some(keys) => keys.into_iter().map(str::to_owned).collect(),
            None => INFORMATIVE_EXTRA.map(str::to_owned).to_vec(),
        };

        let mut arguments = vec![format!(
            "--enable-impersonation={}",
            customization.impersonation
        )];
        if uid {
            arguments.push("--impersonate-uid".to_owned());
        }
        let keys = extra_keys.iter();
        arguments.extend(keys.map(|key| format!("--impersonate-extra-key={key}")));
        let oidc_ca = variables
            .text("oidcCAConfigMap")
            .filter(|_| !oidc.is_empty())
            .or_else(|| {
                arguments_of(additional, "oidc-ca-configmap")
                    .flatten()
                    .last()
            })
            .map(str::to_owned);
        arguments.extend(oidc);
        arguments.extend_from_slice(additional);
        Ok(Self {
            arguments,
            impersonates,
            uid,
            extra_keys,
            oidc_ca,
        })
    }
}

/// The values of a flag; `None` for one whose value is the next argument. `_` and `-` are the same
/// in names.
fn arguments_of<'a>(
    arguments: &'a [String],
    flag: &'static str,
) -> impl Iterator<Item = Option<&'a str>> {
    arguments.iter().filter_map(move |argument| {
        let argument = argument.strip_prefix("--")?;
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        (name.replace('_', "-") == flag).then_some(value)
    })
}

/// The arguments about ID tokens, if the variables name an issuer.
fn oidc(variables: &Variables<'_>) -> Result<Vec<String>, RenderError> {
    let (issuer, client) = match (
        variables.text("oidcIssuerURL"),
        variables.text("oidcClientID"),
    ) {
        (None, None) => return Ok(Vec::new()),
        (Some(issuer), Some(client)) => (issuer, client),
        _ => return Err(RenderError::OidcIncomplete),
    };
    if !issuer.starts_with("https://") {
        return Err(RenderError::Variable {
            name: "oidcIssuerURL",
            given: issuer.to_owned(),
            wanted: "a URL that begins with https://",
        });
    }
    let mut arguments = vec![
        format!("--oidc-issuer-url={issuer}"),
        format!("--oidc-client-id={client}"),
    ];
    for (variable, flag) in [
        ("oidcUsernameClaim", "oidc-username-claim"),
        ("oidcUsernamePrefix", "oidc-username-prefix"),
        ("oidcGroupsClaim", "oidc-groups-claim"),
        ("oidcGroupsPrefix", "oidc-groups-prefix"),
        ("oidcCAConfigMap", "oidc-ca-configmap"),
    ] {
        if let Some(value) = variables.text(variable) {
            arguments.push(format!("--{flag}={value}"));
        }
    }
    let reserved = variables
        .list("oidcReservedNamePrefixes")
        .unwrap_or_else(|| vec!["system:"]);
    arguments.push(format!(
        "--oidc-reserved-name-prefixes={}",
        reserved.join(",")
    ));
    if let Some(algorithms) = variables
        .list("oidcSigningAlgs")
        .filter(|list| !list.is_empty())
    {
        if let Some(unknown) = algorithms
            .iter()
            .find(|it| !SIGNING_ALGORITHMS.contains(it))
        {
            return Err(RenderError::Variable {
                name: "oidcSigningAlgs",
                given: (*unknown).to_owned(),
                wanted: "a list of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512",
            });
        }
        arguments.push(format!("--oidc-signing-algs={}", algorithms.join(",")));
    }
    if let Some(json) = variables.text("oidcRequiredClaimsJSON") {
        arguments.extend(required_claims(json)?);
    }
    Ok(arguments)
}

fn required_claims(json: &str) -> Result<Vec<String>, RenderError> {
    let wrong = || RenderError::Variable {
        name: "oidcRequiredClaimsJSON",
        given: json.to_owned(),
        wanted: "a JSON object of strings",
    };
    let Ok(Value::Object(claims)) = serde_json::from_str(json) else {
        return Err(wrong());
    };
    let claims = claims.iter().map(|(claim, value)| match value {
        Value::String(value) => Ok(format!("--oidc-required-claim={claim}={value}")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong())
        }
    });
    claims.collect()
}

/// With which ID tokens may be signed, as a kube-apiserver takes them.
const SIGNING_ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
];
