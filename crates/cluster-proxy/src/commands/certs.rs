//! `certs`: a CA and every certificate that an installation by hand needs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_identity::ca::{CertificateAuthority, Leaf};
use cluster_proxy_runtime::error::StartError;
use serde_json::json;

/// Make a CA and every certificate that an installation by hand needs.
///
/// Writes into --out (made if absent):
///
///   ca.crt, ca.key                         the CA; ca.key stays where this runs
///   hub/proxy-server.{crt,key}             proxy-server --server-cert, -key
///   hub/agent-server.{crt,key}             proxy-server --cluster-cert, -key
///   hub/user-server.{crt,key}              user-server --server-cert, -key
///   hub/user-server-client.{crt,key}       user-server --proxy-cert, -key
///   clusters/NAME/proxy-agent.{crt,key}    proxy-agent --agent-cert, -key
///   clusters/NAME/service-proxy.{crt,key}  service-proxy --cert, --key
///
/// A second run with another --cluster adds to what is there: an existing CA is
/// used, existing certificates are kept unless --renew is given. Each role needs
/// ca.crt beside its own pair, and nothing of another role.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Folder to write into, made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// A managed cluster's name; repeat for more.
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<ClusterName>,

    /// A host name or IP address under which agents and the user-server reach the proxy-server,
    /// and users the user-server; repeat for more. localhost, 127.0.0.1 and the Services' names
    /// are always there.
    #[arg(long = "san", value_name = "HOST")]
    sans: Vec<String>,

    /// Namespace of the Services on the hub, for their names.
    #[arg(
        long,
        default_value = "open-cluster-management-addon",
        value_name = "NAMESPACE"
    )]
    namespace: String,

    /// Make the certificates of this command line anew; the CA stays.
    #[arg(long)]
    renew: bool,

    /// How the list of files is printed.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, StartError> {
    let Args {
        out,
        clusters,
        sans,
        namespace,
        renew,
        output,
    } = args;
    let folder = Folder { root: out, renew };
    let (ca, ca_state) = folder.authority()?;
    let mut written = vec![Written {
        file: "ca.crt".into(),
        state: ca_state,
    }];

    for (file, leaf) in leaves(&clusters, &sans, &namespace) {
        let state = folder.pair(&ca, &file, &leaf)?;
        written.push(Written {
            file: format!("{file}.crt"),
            state,
        });
    }
    print(&folder.root, &written, output);
    Ok(ExitCode::SUCCESS)
}

/// One certificate of the list that is printed.
struct Written {
    file: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Made,
    Kept,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Kept => "kept",
        }
    }
}

/// The files' names without `.crt` and `.key`, and what each certificate says.
fn leaves(clusters: &[ClusterName], sans: &[String], namespace: &str) -> Vec<(String, Leaf)> {
    let hosts = |service: &str| {
        let mut hosts = vec![
            service.to_owned(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        hosts.extend(
            sans.iter()
                .filter(|san| !hosts.contains(san))
                .cloned()
                .collect::<Vec<_>>(),
        );
        hosts
    };
    let mut leaves = vec![
        (
            "hub/proxy-server".to_owned(),
            Leaf::proxy_server(hosts("proxy-entrypoint")),
        ),
        (
            "hub/agent-server".to_owned(),
            Leaf::agent_server(hosts("proxy-entrypoint")),
        ),
        (
            "hub/user-server".to_owned(),
            Leaf::user_server_serving(hosts("cluster-proxy-addon-user")),
        ),
        (
            "hub/user-server-client".to_owned(),
            Leaf::user_server_client(),
        ),
    ];
    for cluster in clusters {
        leaves.push((
            format!("clusters/{cluster}/proxy-agent"),
            Leaf::proxy_agent(cluster),
        ));
        leaves.push((
            format!("clusters/{cluster}/service-proxy"),
            Leaf::service_proxy(cluster),
        ));
    }
    leaves
}

struct Folder {
    root: PathBuf,
    renew: bool,
}

impl Folder {
    /// The CA of the folder, made if there is none.
    fn authority(&self) -> Result<(CertificateAuthority, State), StartError> {
        let (cert, key) = (self.root.join("ca.crt"), self.root.join("ca.key"));
        let (has_cert, has_key) = (cert.exists(), key.exists());
        if has_cert != has_key {
            let (there, absent) = if has_cert {
                (&cert, &key)
            } else {
                (&key, &cert)
            };
            return Err(StartError::failed(format_args!(
                "--out {}: {} is there without {}; put it back, or remove both to begin anew",
                self.root.display(),
                there.display(),
                absent.display(),
            )));
        }
        if has_cert {
            let ca = CertificateAuthority::from_pem(&read(&cert)?, &read(&key)?)
                .map_err(|error| failed(&cert, &error))?;
            return Ok((ca, State::Kept));
        }
        let ca = CertificateAuthority::generate().map_err(|error| failed(&cert, &error))?;
        write(&key, &ca.key_pem(), PRIVATE)?;
        write(&cert, ca.cert_pem(), PUBLIC)?;
        Ok((ca, State::Made))
    }

    fn pair(
        &self,
        ca: &CertificateAuthority,
        file: &str,
        leaf: &Leaf,
    ) -> Result<State, StartError> {
        let cert = self.root.join(format!("{file}.crt"));
        let key = self.root.join(format!("{file}.key"));
        if !self.renew && cert.exists() && key.exists() {
            return Ok(State::Kept);
        }
        let issued = ca.issue(leaf).map_err(|error| failed(&cert, &error))?;
        write(&key, &issued.key_pem, PRIVATE)?;
        write(&cert, &issued.cert_pem, PUBLIC)?;
        Ok(State::Made)
    }
}

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn read(path: &Path) -> Result<String, StartError> {
    fs::read_to_string(path).map_err(|error| failed(path, &error))
}

/// Writes beside the file and renames, so that nobody ever reads half of it.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), StartError> {
    let parent = path.parent().expect("every file lies in the folder");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(|error| failed(parent, &error))?;
    let half = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&half)
        .map_err(|error| failed(&half, &error))?;
    file.write_all(content.as_bytes())
        .map_err(|error| failed(&half, &error))?;
    fs::rename(&half, path).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::failed(format_args!("--out {}: {error}", path.display()))
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn print(root: &Path, written: &[Written], output: Output) {
    match output {
        Output::Table => {
            println!("{:<8}FILE", "STATE");
            for Written { file, state } in written {
                println!("{:<8}{}", state.as_str(), root.join(file).display());
            }
        }
        Output::Json => {
            let files: Vec<_> = written
                .iter()
                .map(|Written { file, state }| {
                    json!({ "certificate": root.join(file), "state": state.as_str() })
                })
                .collect();
            println!("{}", json!({ "files": files }));
        }
    }
}
