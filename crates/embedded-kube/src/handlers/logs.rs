//! `pods/<name>/log`: what a container wrote, and with `follow` what it goes on to write.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::watch::Receiver;

use super::Admitted;
use crate::answer::{self, Body};
use crate::clock;
use crate::cluster::Cluster;
use crate::failure::{Cause, Failure, Subject};
use crate::object;
use crate::pods::logs::{Line, Log, Written};
use crate::pods::{self};
use crate::query::Query;
use crate::request::ResourcePath;
use crate::resources::PODS;

pub(super) fn answer(
    request: &Admitted<'_>,
    path: &ResourcePath,
) -> Result<Response<Body>, Failure> {
    let options = Options::parse(request.query, &path.name)?;
    let about = Subject {
        resource: PODS,
        name: &path.name,
        ..Subject::default()
    };
    let cluster = request.cluster;
    let pod = cluster
        .store
        .get(PODS, &path.namespace, &path.name)
        .ok_or_else(|| Failure::not_found(&about))?;
    let container = container(&pod, request.query.get("container"))?;
    if options.previous {
        return Err(Failure::bad_request(format!(
            "previous terminated container {container:?} in pod {:?} not found",
            path.name
        )));
    }
    if object::text(&pod, "/status/phase") == "Pending" {
        return Err(Failure::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: ContainerCreating",
            path.name
        )));
    }
    let reader = Reader::new(
        cluster,
        &cluster.logs.log(object::uid(&pod), &container),
        options,
    );
    let chunks = stream::unfold(reader, |mut reader| async {
        reader.next().await.map(|chunk| (chunk, reader))
    });
    Ok(answer::stream(chunks, answer::TEXT))
}

/// The container that a request means.
fn container(pod: &Value, wanted: &str) -> Result<String, Failure> {
    let name = object::name(pod);
    let names: Vec<_> = pods::containers(pod).collect();
    if !wanted.is_empty() {
        return if names.contains(&wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Failure::bad_request(format!(
                "container {wanted} is not valid for pod {name}"
            )))
        };
    }
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        several => Err(Failure::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            several.join(" ")
        ))),
    }
}

/// `PodLogOptions`.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    tail: Option<usize>,
    limit: Option<usize>,
}

impl Options {
    fn parse(query: &Query, pod: &str) -> Result<Self, Failure> {
        let refuse = |field, value: i64, why| {
            let about = Subject {
                resource: "PodLogOptions",
                name: pod,
                ..Subject::default()
            };
            let cause = Cause::invalid(field, &value.into(), why);
            Err(Failure::invalid(&about, &[cause]))
        };
        let (tail, limit) = (query.number("tailLines")?, query.number("limitBytes")?);
        let seconds = query.number("sinceSeconds")?;
        match (tail, limit, seconds) {
            (Some(tail @ ..0), ..) => {
                return refuse("tailLines", tail, "must be greater than or equal to 0");
            }
            (_, Some(limit @ ..1), _) => {
                return refuse("limitBytes", limit, "must be greater than 0");
            }
            (.., Some(seconds @ ..1)) => {
                return refuse("sinceSeconds", seconds, "must be greater than 0");
            }
            _ => {}
        }
        let since = match (seconds, query.optional("sinceTime")) {
            (Some(seconds), None) => {
                let ago = SignedDuration::from_secs(seconds);
                Timestamp::now().checked_sub(ago).ok()
            }
            (None, Some(text)) => Some(text.parse().map_err(|_| {
                Failure::bad_request(format!("sinceTime: invalid value {text:?}: no time"))
            })?),
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(Failure::bad_request(
                    "at most one of `sinceTime` or `sinceSeconds` may be specified",
                ));
            }
        };
        let size = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            follow: query.is_set("follow"),
            previous: query.is_set("previous"),
            timestamps: query.is_set("timestamps"),
            since,
            tail: tail.map(size),
            limit: limit.map(size),
        })
    }
}

/// Reads one container's log for one client.
struct Reader {
    cluster: Arc<Cluster>,
    log: Arc<Log>,
    written: Receiver<Written>,
    options: Options,
    pending: VecDeque<Line>,
    /// The number of the first line not yet taken.
    next: u64,
    /// Bytes that the client still takes.
    left: usize,
}

impl Reader {
    fn new(cluster: &Arc<Cluster>, log: &Arc<Log>, options: Options) -> Self {
        // Follow before reading: no line falls between the two.
        let written = log.follow();
        let (mut lines, next) = log.read(0);
        if let Some(since) = options.since {
            lines.retain(|line| line.time >= since);
        }
        if let Some(tail) = options.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        Self {
            cluster: Arc::clone(cluster),
            log: Arc::clone(log),
            written,
            options,
            pending: lines.into(),
            next,
            left: options.limit.unwrap_or(usize::MAX),
        }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 {
                return None;
            }
            if let Some(line) = self.pending.pop_front() {
                let mut text = if self.options.timestamps {
                    format!("{} {}\n", clock::nanoseconds(line.time), line.text)
                } else {
                    format!("{}\n", line.text)
                }
                .into_bytes();
                text.truncate(self.left);
                self.left -= text.len();
                return Some(text.into());
            }
            if !self.options.follow {
                return None;
            }
            let written = *self.written.borrow_and_update();
            let (lines, next) = self.log.read(self.next);
            self.next = next;
            self.pending.extend(lines);
            if !self.pending.is_empty() {
                continue;
            }
            if written.ended {
                return None;
            }
            tokio::select! {
                changed = self.written.changed() => changed.ok()?,
                () = self.cluster.drain.closing() => return None,
            }
        }
    }
}
