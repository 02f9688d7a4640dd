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
        for (account, audience, said) in [
            (
                "other",
                AUDIENCE,
                "and this server takes system:serviceaccount:",
            ),
            (
                "agent",
                "https://elsewhere",
                "the hub does not accept its token",
            ),
        ] {
            let token = self.hub.token(account, audience)?;
            for whose in [Whose::Ours, Whose::Go] {
                let agent = Agent::start(&self.workshop, whose, &server, &[token_flag(&token)])?;
                agent.program.wait_for_line(said, CONNECT_LIMIT)?;
                ensure!(
                    !agent.is_ready()?,
                    "{whose:?} agent with a token of {account}"
                );
            }
        }
        let ours = Agent::start(&self.workshop, Whose::Ours, &server, &[])?;
        ours.program
            .wait_for_line("it showed no token", CONNECT_LIMIT)?;
        let log = server.program.lines().join("\n");
        for token in ["agent", "other"] {
            let token = std::fs::read_to_string(self.hub.token(token, AUDIENCE)?)?;
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
            agent
                .program
                .wait_for_line("could not be reviewed", CONNECT_LIMIT)?;
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
                self.workshop.flag("cluster-ca-cert", "ca.crt"),
            ]
        };
        let mut ours = Server::start(&self.workshop, Whose::Ours, &keep("ours"))?;
        let _go = Server::start(&self.workshop, Whose::Go, &keep("go"))?;
        let both = [
            "konnectivity-proxy-server-go",
            "konnectivity-proxy-server-ours",
        ];
        eventually_blocking(LEASE_LIMIT, "both servers have Leases", || {
            let leases = self.hub.leases()?;
            ensure!(leases == both, "{leases:?}");
            Ok(())
        });
        let count = [
            "--count-server-leases".to_owned(),
            format!("--kubeconfig={}", self.hub.kubeconfig("agent").display()),
            namespace.clone(),
            self.workshop.flag("agent-cert", "agent.crt"),
            self.workshop.flag("agent-key", "agent.key"),
        ];
        let agents = [Whose::Ours, Whose::Go]
            .map(|whose| Agent::start(&self.workshop, whose, &ours, &count));
        for agent in agents {
            let agent = agent?;
            agent.connected(CONNECT_LIMIT);
            agent.counts(2, LEASE_LIMIT);
            if agent.whose == Whose::Ours {
                ours.program.terminate_within(CONNECT_LIMIT)?;
                eventually_blocking(CONNECT_LIMIT, "our Lease is gone", || {
                    let leases = self.hub.leases()?;
                    ensure!(leases == both[..1], "{leases:?}");
                    Ok(())
                });
                agent.counts(1, LEASE_LIMIT);
                ours = Server::start(&self.workshop, Whose::Ours, &keep("ours"))?;
                eventually_blocking(LEASE_LIMIT, "our Lease is there again", || {
                    let leases = self.hub.leases()?;
                    ensure!(leases == both, "{leases:?}");
                    Ok(())
                });
            }
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
