//! What konnectivity asks a kube-apiserver: whose token an agent shows, and how many servers have
//! Leases. Go's programs and ours take part together, with a real kube-apiserver and accounts that
//! have the rights that docs/konnectivity.md names and no others.

mod hub;
mod programs;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::curl;

use crate::hub::{AUDIENCE, Hub};
use crate::programs::{Agent, Server, Whose, Workshop};

struct Fixture {
    hub: Hub,
    workshop: Workshop,
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "accounts",
        || {
            Ok(Fixture {
                hub: Hub::new()?,
                workshop: Workshop::new()?,
            })
        },
        &[
            ("an agent's token lets it in", Fixture::tokens_let_in),
            ("no other token does", Fixture::other_tokens_do_not),
            ("a review that fails is no denial", Fixture::no_review),
            ("servers are counted by their Leases", Fixture::leases),
        ],
    )
}

/// Until an agent is connected, or refused.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Two renewals.
const LEASE_LIMIT: Duration = Duration::from_secs(40);

impl Fixture {
    /// Every mix with a program of ours in it.
    fn tokens_let_in(&self) -> Result<()> {
        let token = self.hub.token("agent", AUDIENCE)?;
        for (server, agent) in [
            (Whose::Ours, Whose::Ours),
            (Whose::Ours, Whose::Go),
            (Whose::Go, Whose::Ours),
        ] {
            let server = Server::start(&self.workshop, server, &self.review_flags())?;
            let agent = Agent::start(&self.workshop, agent, &server, &[token_flag(&token)])?;
            agent.connected(CONNECT_LIMIT);
        }
        Ok(())
    }

    fn other_tokens_do_not(&self) -> Result<()> {
        let server = Server::start(&self.workshop, Whose::Ours, &self.review_flags())?;
        let mut shown = Vec::new();
        for (account, audience, reason, said) in [
            (
                "other",
                AUDIENCE,
                "other_user",
                "and this server takes system:serviceaccount:",
            ),
            (
                "agent",
                "https://elsewhere",
                "denied",
                "the hub does not accept its token",
            ),
        ] {
            let token = self.hub.token(account, audience)?;
            shown.push(std::fs::read_to_string(&token)?);
            for whose in [Whose::Ours, Whose::Go] {
                let agent = Agent::start(&self.workshop, whose, &server, &[token_flag(&token)])?;
                refused(&server, &agent, reason, said)?;
                ensure!(
                    !agent.is_ready()?,
                    "{whose:?} agent with a token of {account}"
                );
            }
        }
        let ours = Agent::start(&self.workshop, Whose::Ours, &server, &[])?;
        refused(&server, &ours, "missing", "it showed no token")?;
        let log = server.program.lines().join("\n");
        for token in shown {
            let signature = token.rsplit('.').next().context("no JWT")?;
            ensure!(!log.contains(signature), "a token is in the server's log");
        }
        Ok(())
    }

    /// The server's account has no right to ask.
    fn no_review(&self) -> Result<()> {
        let mut flags = self.review_flags();
        flags.push(format!(
            "--kubeconfig={}",
            self.hub.kubeconfig("other").display()
        ));
        let server = Server::start(&self.workshop, Whose::Ours, &flags)?;
        let token = self.hub.token("agent", AUDIENCE)?;
        for whose in [Whose::Ours, Whose::Go] {
            let agent = Agent::start(&self.workshop, whose, &server, &[token_flag(&token)])?;
            refused(&server, &agent, "not_reviewed", "could not be reviewed")?;
            ensure!(!agent.is_ready()?, "{whose:?} agent was let in");
        }
        let line = server
            .program
            .wait_for_line("could not be reviewed", CONNECT_LIMIT)?;
        ensure!(
            line.contains("403"),
            "the server's log has no cause: {line}"
        );
        Ok(())
    }

    /// One server of each, and one agent of each: all count two; one, once ours has ended.
    fn leases(&self) -> Result<()> {
        let namespace = format!("--lease-namespace={}", self.hub.namespace);
        let keep = |id: &str| {
            [
                "--enable-lease-controller".to_owned(),
                format!("--server-id={id}"),
                format!("--kubeconfig={}", self.hub.kubeconfig("server").display()),
                namespace.clone(),
                self.workshop.certificates.flag("cluster-ca-cert", "ca.crt"),
            ]
        };
        let _go = Server::start(&self.workshop, Whose::Go, &keep("go"))?;
        let both = [
            "konnectivity-proxy-server-go",
            "konnectivity-proxy-server-ours",
        ];
        let count = [
            "--count-server-leases".to_owned(),
            format!("--kubeconfig={}", self.hub.kubeconfig("agent").display()),
            namespace.clone(),
            self.workshop.certificates.flag("agent-cert", "agent.crt"),
            self.workshop.certificates.flag("agent-key", "agent.key"),
        ];
        let have = |wanted: &[&str]| {
            eventually_blocking(LEASE_LIMIT, "the servers have their Leases", || {
                let leases = self.hub.leases()?;
                ensure!(leases == wanted, "{leases:?}, not {wanted:?}");
                Ok(())
            });
        };
        for whose in [Whose::Ours, Whose::Go] {
            let mut ours = Server::start(&self.workshop, Whose::Ours, &keep("ours"))?;
            have(&both);
            let agent = Agent::start(&self.workshop, whose, &ours, &count)?;
            agent.connected(CONNECT_LIMIT);
            agent.counts(2, LEASE_LIMIT);
            ours.program.terminate_within(CONNECT_LIMIT)?;
            have(&both[..1]);
            agent.counts(1, LEASE_LIMIT);
        }
        Ok(())
    }

    /// A server that takes the account `agent` alone.
    fn review_flags(&self) -> Vec<String> {
        vec![
            format!("--agent-namespace={}", self.hub.namespace),
            "--agent-service-account=agent".to_owned(),
            format!("--authentication-audience={AUDIENCE}"),
            format!("--kubeconfig={}", self.hub.kubeconfig("server").display()),
        ]
    }
}

/// Waits until the server has refused the agent. Ours logs what it is told; Go's looks for other
/// headers first, whoever the server is, and logs that they are missing.
fn refused(server: &Server, agent: &Agent, reason: &str, said: &str) -> Result<()> {
    if agent.whose == Whose::Ours {
        agent.program.wait_for_line(said, CONNECT_LIMIT)?;
    }
    let before = server.refusals(reason)?;
    eventually_blocking(CONNECT_LIMIT, "the server refuses the agent", || {
        let refusals = server.refusals(reason)?;
        ensure!(refusals > before, "{refusals} {reason}");
        Ok(())
    });
    Ok(())
}

fn token_flag(token: &std::path::Path) -> String {
    format!("--service-account-token-path={}", token.display())
}

/// What a program answers at its health port.
fn health(port: u16, path: &str) -> Result<(u16, String)> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let answer = curl(Command::new("curl"), &[&url])?;
    Ok((answer.code, answer.body))
}

/// The last lines of a program, for what failed.
fn last_words(program: &Running) -> String {
    let lines = program.lines();
    let first = lines.len().saturating_sub(10);
    lines[first..].join("\n    ")
}
