//! `--oidc-*`: the OpenID provider whose ID tokens are accepted.

use cluster_proxy_authentication::{OidcSettings, OidcSettingsError, SigningAlgorithm};
use cluster_proxy_identity::tls::ClientTls;
use cluster_proxy_kube_client::{ConfigMapName, Connection};
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_service_proxy::{OidcCa, OidcConfig};

/// The flags of the kube-apiserver's OIDC authenticator, and two more.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "OIDC")]
pub(super) struct OidcFlags {
    /// Issuer of ID tokens, an https:// URL: tokens with just this `iss` that neither cluster
    /// accepts are verified here. Without it the other flags about OIDC have no effect.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "URL"
    )]
    oidc_issuer_url: String,
    /// Audience that an ID token must have.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    oidc_client_id: String,
    /// Claim that is the user's name. With `email`, an `email_verified` must be true.
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    oidc_username_claim: String,
    /// Before the user's name; `-` for nothing [default: `<issuer>#`, and nothing before an email].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "PREFIX"
    )]
    oidc_username_prefix: String,
    /// Claim that holds the groups, a string or a list of strings.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "CLAIM"
    )]
    oidc_groups_claim: String,
    /// Before each group.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "PREFIX"
    )]
    oidc_groups_prefix: String,
    /// Refuse users and groups that begin with one of these, separated by commas; empty for no
    /// check. Some names are refused all the same (docs/oidc.md) [default: system:].
    #[arg(long, value_name = "PREFIXES")]
    oidc_reserved_name_prefixes: Vec<String>,
    /// ConfigMap in the pod's namespace with the issuer's CA under `ca.crt`, watched; while it is
    /// missing or invalid no ID token is accepted [default: the CAs of this machine].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    oidc_ca_configmap: String,
    /// Algorithms that may sign ID tokens, separated by commas: RS, PS and ES with 256, 384 and
    /// 512 [default: RS256].
    #[arg(long, value_name = "ALGORITHMS")]
    oidc_signing_algs: Vec<String>,
    /// A claim that an ID token must have with just this value, a string; repeat for more.
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
    /// Namespace of --oidc-ca-configmap [default: the one of this cluster's credentials].
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// What the flags say, before a cluster is known.
pub(super) struct CheckedOidc {
    settings: OidcSettings,
    ca_config_map: Option<String>,
    namespace: Option<String>,
}

impl OidcFlags {
    /// `None` without an issuer.
    pub(super) fn settings(self) -> Result<Option<CheckedOidc>, StartError> {
        let (issuer, client) = (&self.oidc_issuer_url, &self.oidc_client_id);
        match (issuer.is_empty(), client.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => return Err(alone("--oidc-client-id", "--oidc-issuer-url")),
            (false, true) => return Err(alone("--oidc-issuer-url", "--oidc-client-id")),
            (false, false) => {}
        }
        let mut settings = OidcSettings::new(issuer, client)
            .and_then(|settings| {
                settings.username(&self.oidc_username_claim, &self.oidc_username_prefix)
            })
            .map_err(usage)?
            .groups(&self.oidc_groups_claim, &self.oidc_groups_prefix);
        if !self.oidc_reserved_name_prefixes.is_empty() {
            let prefixes = elements(&self.oidc_reserved_name_prefixes);
            let prefixes = prefixes.map(str::to_owned).collect();
            settings = settings.reserved(prefixes).map_err(usage)?;
        }
        let algorithms = elements(&self.oidc_signing_algs)
            .map(str::parse::<SigningAlgorithm>)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StartError::usage("--oidc-signing-algs", error))?;
        if !algorithms.is_empty() {
            settings.algorithms = algorithms;
        }
        for required in &self.oidc_required_claim {
            let pair = required
                .split_once('=')
                .filter(|(claim, _)| !claim.is_empty());
            let (claim, value) = pair.ok_or_else(|| {
                StartError::usage(
                    "--oidc-required-claim",
                    format_args!("{required:?} is not CLAIM=VALUE"),
                )
            })?;
            let claim = (claim.to_owned(), value.to_owned());
            settings.required_claims.push(claim);
        }
        Ok(Some(CheckedOidc {
            settings,
            ca_config_map: Some(self.oidc_ca_configmap).filter(|name| !name.is_empty()),
            namespace: self.namespace.filter(|namespace| !namespace.is_empty()),
        }))
    }
}

impl CheckedOidc {
    /// The configuration on the cluster that `managed` reaches.
    pub(super) fn config(self, managed: &Connection) -> Result<OidcConfig, StartError> {
        let ca =
            match self.ca_config_map {
                Some(name) => OidcCa::ConfigMap(ConfigMapName {
                    namespace: self
                        .namespace
                        .unwrap_or_else(|| managed.namespace().to_owned()),
                    name,
                }),
                None => OidcCa::Roots(ClientTls::from_system(&[], &[], Vec::new()).map_err(
                    |error| StartError::failed(format_args!("--oidc-issuer-url: {error}")),
                )?),
            };
        Ok(OidcConfig {
            settings: self.settings,
            ca,
        })
    }
}

/// The elements of comma lists, as Go reads them: an empty value is an empty list.
fn elements(values: &[String]) -> impl Iterator<Item = &str> {
    values
        .iter()
        .filter(|value| !value.is_empty())
        .flat_map(|value| value.split(','))
}

fn alone(flag: &str, other: &str) -> StartError {
    StartError::usage(flag, format_args!("needs {other} with it"))
}

fn usage(error: OidcSettingsError) -> StartError {
    let flag = match error {
        OidcSettingsError::Issuer(_) => "--oidc-issuer-url",
        OidcSettingsError::ClientId => "--oidc-client-id",
        OidcSettingsError::UsernameClaim => "--oidc-username-claim",
        OidcSettingsError::EmptyReservedPrefix => "--oidc-reserved-name-prefixes",
    };
    StartError::usage(flag, error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        oidc: OidcFlags,
    }

    fn settings(flags: &[&str]) -> Result<Option<CheckedOidc>, String> {
        let line = std::iter::once("service-proxy").chain(flags.iter().copied());
        let line = Line::try_parse_from(line).expect("known flags");
        line.oidc.settings().map_err(|error| error.to_string())
    }

    fn with_issuer(flags: &[&str]) -> Result<OidcSettings, String> {
        let issuer = [
            "--oidc-issuer-url=https://issuer",
            "--oidc-client-id=client",
        ];
        let checked = settings(&[&issuer, flags].concat())?;
        Ok(checked.expect("an issuer is set").settings)
    }

    #[test]
    fn without_an_issuer_nothing_else_counts() {
        for flags in [
            &[][..],
            &["--oidc-issuer-url=", "--oidc-client-id="],
            &[
                "--oidc-signing-algs=HS256",
                "--oidc-required-claim=x",
                "--oidc-username-claim=",
            ],
        ] {
            assert!(settings(flags).expect("no error").is_none(), "{flags:?}");
        }
    }

    #[test]
    fn wrong_values_name_their_flag() {
        for (flags, said) in [
            (
                &["--oidc-issuer-url=https://a"][..],
                "--oidc-issuer-url: needs --oidc-client-id",
            ),
            (
                &["--oidc-client-id=a"],
                "--oidc-client-id: needs --oidc-issuer-url",
            ),
            (
                &["--oidc-issuer-url=http://a", "--oidc-client-id=c"],
                "--oidc-issuer-url: the issuer \"http://a\" is not",
            ),
        ] {
            let error = settings(flags).err().expect("an error");
            assert!(error.starts_with(said), "{error}");
        }
        for (flag, said) in [
            ("--oidc-username-claim=", "--oidc-username-claim: "),
            (
                "--oidc-reserved-name-prefixes=a:,",
                "--oidc-reserved-name-prefixes: ",
            ),
            (
                "--oidc-reserved-name-prefixes=,",
                "--oidc-reserved-name-prefixes: ",
            ),
            (
                "--oidc-signing-algs=RS256,none",
                "--oidc-signing-algs: \"none\" is no",
            ),
            (
                "--oidc-signing-algs=HS256",
                "--oidc-signing-algs: \"HS256\" is no",
            ),
            (
                "--oidc-required-claim=a",
                "--oidc-required-claim: \"a\" is not CLAIM=VALUE",
            ),
            (
                "--oidc-required-claim==a",
                "--oidc-required-claim: \"=a\" is not",
            ),
        ] {
            let error = with_issuer(&[flag]).expect_err(flag);
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn lists_are_read_as_go_reads_them() {
        let set = with_issuer(&[]).expect("defaults");
        assert_eq!(set.algorithms, [SigningAlgorithm::Rs256]);
        let set = with_issuer(&[
            "--oidc-signing-algs=ES512,PS256",
            "--oidc-signing-algs=RS384",
        ]);
        let algorithms = set.expect("algorithms").algorithms;
        assert_eq!(
            algorithms
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["ES512", "PS256", "RS384"]
        );
        with_issuer(&["--oidc-reserved-name-prefixes="]).expect("no check");
        let claims = ["--oidc-required-claim=a=b=c,d", "--oidc-required-claim=e="];
        assert_eq!(
            with_issuer(&claims).expect("claims").required_claims,
            [("a", "b=c,d"), ("e", "")].map(|(claim, value)| (claim.to_owned(), value.to_owned()))
        );
    }
}
