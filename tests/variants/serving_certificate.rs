//! Without cert-manager: the manager signs the user-server's certificate.

use anyhow::{Context as _, Result, ensure};

use crate::setting::{PODS, Setting, USER_SERVER, condition_is, eventually, message};

/// The chart without an entrypoint, and a request that believes nobody but the CA in the Secret.
pub(crate) fn signed_by_the_manager(setting: &Setting) -> Result<()> {
    setting.install(&[])?;
    setting.is_available("managed");
    setting.goes_through("managed", "managed");
    let configuration = setting.configuration()?;
    let signed = condition_is(&configuration, "UserServerSecretSigned", "True")?;
    ensure!(message(signed).starts_with("Expiry:"), "{signed}");
    Ok(())
}

/// Every name of the Service and each of `additionalSANs`, and no other.
pub(crate) fn names(setting: &Setting) -> Result<()> {
    let service = USER_SERVER.split('.').next().context("no name")?;
    let in_cluster = format!("{USER_SERVER}.cluster.local");
    for name in [service, USER_SERVER, &in_cluster, "proxy.lab.test"] {
        let answer = setting.ask_server(name, "managed", PODS)?;
        ensure!(answer.code == 200, "{name}: {}", answer.code);
    }
    let refused = setting.ask_server("other.lab.test", "managed", PODS);
    let refused = refused.err().context("other.lab.test was believed")?;
    // curl's code for a certificate that does not prove the name.
    ensure!(refused.to_string().contains("(60)"), "{refused}");
    Ok(())
}

/// A name that is added is served before long, by the pod that has been there all the time.
pub(crate) fn another_name(setting: &Setting) -> Result<()> {
    let pod = || {
        let uids = "jsonpath={.items[*].metadata.uid}";
        let label = "component=cluster-proxy-addon-user";
        setting.hub(&["get", "pods", "-l", label, "-o", uids])
    };
    let before = pod()?;
    setting.install_at_address(&["userServer.additionalSANs={proxy.lab.test,added.lab.test}"])?;
    eventually("the added name is served", || {
        let answer = setting.ask_server("added.lab.test", "managed", PODS)?;
        ensure!(answer.code == 200, "{}", answer.code);
        Ok(())
    });
    ensure!(pod()? == before, "the user-server was replaced for a name");
    Ok(())
}
