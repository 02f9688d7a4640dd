//! The real OpenID provider, and a user's login there.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_testkit::free_port;
use cluster_proxy_testkit::process::Running;
use serde_json::Value;

/// A provider that can be stopped, and started with another key.
pub(crate) struct Issuer {
    folder: PathBuf,
    modules: PathBuf,
    port: u16,
    pub(crate) ca_pem: String,
    running: RefCell<Option<Running>>,
}

pub(crate) const CLIENT_ID: &str = "cluster-proxy";

impl Issuer {
    /// Makes its certificate in `folder`; it does not run yet.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let modules = std::env::var_os("CLUSTER_PROXY_OIDC_MODULES")
            .context("CLUSTER_PROXY_OIDC_MODULES is not set: run this suite by `tests/run oidc`")?;
        let ca = CertificateAuthority::generate()?;
        let issued = ca.issue(&Leaf::server(vec!["localhost".to_owned()]))?;
        std::fs::write(folder.join("issuer.crt"), &issued.cert_pem)?;
        std::fs::write(folder.join("issuer.key"), &*issued.key_pem)?;
        std::fs::write(folder.join("issuer-ca.crt"), ca.cert_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            modules: modules.into(),
            port: free_port()?,
            ca_pem: ca.cert_pem().to_owned(),
            running: RefCell::default(),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Starts it, or starts it again, signing with the key of this name.
    pub(crate) fn start(&self, key: &str) -> Result<()> {
        self.stop()?;
        let file = |name: &str| self.folder.join(name);
        let mut node = Command::new("node");
        node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/oidc/provider.mjs"))
            .env("PORT", self.port.to_string())
            .env("CERT", file("issuer.crt"))
            .env("KEY", file("issuer.key"))
            .env("KEYS_FILE", file("issuer-keys.json"))
            .env("KEY_ID", key)
            .env("MODULES", &self.modules);
        let running = Running::start("issuer", node)?;
        running.wait_for_line("issuer ready", Duration::from_secs(20))?;
        *self.running.borrow_mut() = Some(running);
        Ok(())
    }

    /// Ends it as a machine that fails does.
    pub(crate) fn stop(&self) -> Result<()> {
        if let Some(mut running) = self.running.borrow_mut().take() {
            running.kill()?;
        }
        Ok(())
    }

    /// An ID token, by the authorization code flow with the provider's own pages.
    pub(crate) fn login(&self, user: &str) -> Result<String> {
        let browser = Browser {
            ca: self.folder.join("issuer-ca.crt"),
            cookies: tempfile::NamedTempFile::new()?,
        };
        let mut url = format!(
            "{}/auth?client_id={CLIENT_ID}&response_type=code&scope=openid&redirect_uri={CALLBACK}",
            self.url()
        );
        let login = format!("login={user}");
        let signing_in = ["prompt=login", &login, "password=any"];
        let mut forms = [&signing_in[..], &["prompt=consent"]].into_iter();
        // Five redirects and two pages.
        for _ in 0..10 {
            let page = browser.go(&url, &[])?;
            let next = if page.redirect.is_empty() {
                let form = forms
                    .next()
                    .with_context(|| format!("{url}: {}", page.body))?;
                browser.go(&url, form)?.redirect
            } else {
                page.redirect
            };
            if let Some(answer) = next.strip_prefix(CALLBACK) {
                let code = answer
                    .split(['?', '&'])
                    .find_map(|pair| pair.strip_prefix("code="))
                    .with_context(|| format!("no code: {answer}"))?;
                return self.exchange(&browser, code);
            }
            url = next;
        }
        bail!("the login did not end")
    }

    fn exchange(&self, browser: &Browser, code: &str) -> Result<String> {
        let code = format!("code={code}");
        let redirect = format!("redirect_uri={CALLBACK}");
        let form = ["grant_type=authorization_code", &code, &redirect];
        // Secrets of clients go by HTTP Basic unless a client is registered otherwise.
        let page = browser.go_as(
            &format!("{}/token", self.url()),
            &form,
            &["--user", "cluster-proxy:a-secret-of-this-suite-alone"],
        )?;
        let answer: Value = serde_json::from_str(&page.body)?;
        let token = answer["id_token"].as_str();
        Ok(token
            .with_context(|| format!("no ID token: {answer}"))?
            .to_owned())
    }
}

/// curl with its cookies.
struct Browser {
    ca: PathBuf,
    cookies: tempfile::NamedTempFile,
}

struct Page {
    redirect: String,
    body: String,
}

impl Browser {
    fn go(&self, url: &str, form: &[&str]) -> Result<Page> {
        self.go_as(url, form, &[])
    }

    fn go_as(&self, url: &str, form: &[&str], more: &[&str]) -> Result<Page> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--write-out", "\n%{redirect_url}"])
            .arg("--cacert")
            .arg(&self.ca)
            .arg("--cookie")
            .arg(self.cookies.path())
            .arg("--cookie-jar")
            .arg(self.cookies.path())
            .args(more);
        for field in form {
            curl.args(["--data-urlencode", field]);
        }
        let output = curl.arg(url).output().context("curl cannot be run")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{url}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (body, redirect) = said.rsplit_once('\n').context("curl said nothing")?;
        Ok(Page {
            redirect: redirect.to_owned(),
            body: body.to_owned(),
        })
    }
}

const CALLBACK: &str = "https://client.invalid/callback";
