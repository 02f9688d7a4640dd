//! A small Kubernetes API in the process, for quickstart and fast tests.
//!
//! It follows kube-apiserver 1.35 in what it offers: core objects, RBAC, authentication and
//! authorization reviews, leases, certificate signing requests, custom resources; get, list,
//! watch, create, update, the four kinds of patch, delete; tables, discovery, impersonation,
//! service account tokens. `tests/contract.rs` holds what is the same here and there, and runs
//! against both.
//!
//! What it does not do:
//! - run programs: pods are shown as running by an embedded kubelet, write a line every two
//!   seconds and answer exec, attach and port-forward with 501;
//! - keep anything: the state is in memory and ends with the process;
//! - network: addresses of Services and pods are given out, and nothing listens there;
//! - controllers but four: namespaces that terminate, garbage collection by owner references,
//!   aggregated roles, the kubelet. A Deployment is an object without pods, a
//!   CertificateSigningRequest is signed by nobody;
//! - schemas: unknown fields are kept, defaults are few; OpenAPI says so;
//! - the checks against escalation (`escalate`, `bind`), Node authorization, quotas, webhooks;
//! - answers in protobuf (bodies are taken, for kubectl); CBOR; lists in pages (`limit` gives everything); ownership of fields for
//!   managers that do not apply.

mod admission;
mod answer;
mod authentication;
mod clock;
mod cluster;
mod config;
mod controllers;
mod discovery;
mod embedded;
mod failure;
mod handlers;
mod impersonation;
mod kubeconfig;
mod names;
mod negotiation;
mod object;
mod objects;
mod patch;
mod pods;
mod protobuf;
mod query;
mod rbac;
mod request;
mod resources;
mod reviews;
mod selectors;
mod server;
mod store;
mod table;

pub use config::{Config, DEFAULT_ISSUER, Listener};
pub use embedded::{EmbeddedKube, Error};
pub use server::LocalAddress;
