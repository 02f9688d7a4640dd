//! `watch=true`: changes one by one, as JSON documents that follow one another.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};

use super::Admitted;
use super::objects::{include_object, present};
use crate::answer::{self, Body};
use crate::cluster::Cluster;
use crate::failure::{Cause, Failure};
use crate::negotiation::{self, Form};
use crate::query::Query;
use crate::request::ResourcePath;
use crate::resources::Resource;
use crate::selectors::Selector;
use crate::store::{Change, Start, Subscription};
use crate::table::{self, IncludeObject};

pub(super) fn answer(
    request: &Admitted<'_>,
    resource: &Arc<Resource>,
    path: &ResourcePath,
) -> Result<Response<Body>, Failure> {
    let query = request.query;
    let selector = Selector::parse(
        resource,
        query.optional("labelSelector"),
        query.optional("fieldSelector"),
    )?;
    let beginning = Beginning::parse(query)?;
    let namespace = Some(path.namespace.as_str()).filter(|it| !it.is_empty());
    let lifetime = query
        .number("timeoutSeconds")?
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map_or(MAX_LIFETIME, Duration::from_secs);
    let encoder = Encoder {
        resource: Arc::clone(resource),
        form: negotiation::form(&request.head.headers)?,
        include: include_object(request)?,
        headers: true,
    };
    let subscribed = request
        .cluster
        .store
        .subscribe(&resource.shelf, namespace, beginning.start);
    let watch = match subscribed {
        Ok(subscription) => Watch::new(
            request.cluster,
            selector,
            encoder,
            subscription,
            &beginning,
            lifetime,
            query.is_set("allowWatchBookmarks"),
        ),
        // As in Kubernetes: once a watch is allowed, it fails by an event.
        Err(expired) => {
            let event = encode(&json!({"type": "ERROR", "object": expired.to_status()}));
            return Ok(answer::stream(
                stream::once(std::future::ready(event)),
                answer::JSON,
            ));
        }
    };
    let events = stream::unfold(watch, |mut watch| async {
        watch.next().await.map(|event| (event, watch))
    });
    Ok(answer::stream(events, answer::JSON))
}

/// How a watch begins.
struct Beginning {
    start: Start,
    /// Whether the objects that are there come as ADDED.
    objects: bool,
    /// Whether a bookmark tells where they end (KEP-3157).
    mark_end: bool,
}

impl Beginning {
    fn parse(query: &Query) -> Result<Self, Failure> {
        let version = match query.get("resourceVersion") {
            "" | "0" => None,
            text => Some(text.parse().map_err(|_| {
                Failure::bad_request(format!("resourceVersion: Invalid value: {text:?}"))
            })?),
        };
        let initial = query
            .optional("sendInitialEvents")
            .map(|_| query.is_set("sendInitialEvents"));
        if initial.is_some() && query.get("resourceVersionMatch") != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            let cause = Cause::forbidden("resourceVersionMatch", why);
            return Err(Failure::invalid_options("ListOptions", cause));
        }
        Ok(match (initial, version) {
            (Some(true), _) => Self {
                start: Start::Now,
                objects: true,
                mark_end: query.is_set("allowWatchBookmarks"),
            },
            (_, Some(version)) => Self {
                start: Start::After(version),
                objects: false,
                mark_end: false,
            },
            (initial, None) => Self {
                start: Start::Now,
                objects: initial.is_none(),
                mark_end: false,
            },
        })
    }
}

/// One watch of one client.
struct Watch {
    cluster: Arc<Cluster>,
    selector: Selector,
    encoder: Encoder,
    objects: VecDeque<Arc<Value>>,
    /// The version at which the objects above are.
    mark_end: Option<u64>,
    missed: VecDeque<Arc<Change>>,
    changes: tokio::sync::mpsc::Receiver<Arc<Change>>,
    /// The version up to which the client knows everything.
    version: u64,
    bookmarks: Option<Interval>,
    end: Pin<Box<Sleep>>,
}

impl Watch {
    fn new(
        cluster: &Arc<Cluster>,
        selector: Selector,
        encoder: Encoder,
        subscription: Subscription,
        beginning: &Beginning,
        lifetime: Duration,
        bookmarks: bool,
    ) -> Self {
        let mut objects: VecDeque<_> = subscription.objects.into();
        objects.retain(|object| beginning.objects && selector.matches(object));
        let bookmarks = bookmarks.then(|| {
            let mut bookmarks = interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
            bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            bookmarks
        });
        Self {
            cluster: Arc::clone(cluster),
            selector,
            encoder,
            objects,
            mark_end: beginning.mark_end.then_some(subscription.version),
            missed: subscription.missed,
            changes: subscription.changes,
            version: subscription.version,
            bookmarks,
            end: Box::pin(sleep(lifetime)),
        }
    }

    /// The next event; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(object) = self.objects.pop_front() {
            return Some(self.encoder.event("ADDED", &object));
        }
        if let Some(version) = self.mark_end.take() {
            return Some(self.encoder.bookmark(version, true));
        }
        loop {
            let change = if let Some(missed) = self.missed.pop_front() {
                missed
            } else {
                tokio::select! {
                    change = self.changes.recv() => change?,
                    () = tick(&mut self.bookmarks) => {
                        return Some(self.encoder.bookmark(self.version, false));
                    }
                    () = &mut self.end => return None,
                    () = self.cluster.drain.closing() => return None,
                }
            };
            self.version = self.version.max(change.version);
            if let Some(event) = self.seen(&change) {
                return Some(event);
            }
        }
    }

    /// A change as the selector sees it: what does not match any more is gone for this client.
    fn seen(&mut self, change: &Change) -> Option<Bytes> {
        let matching = |object: &Option<Arc<Value>>| {
            object
                .clone()
                .filter(|object| self.selector.matches(object))
        };
        match (matching(&change.before), matching(&change.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(self.encoder.event("ADDED", &after)),
            (Some(_), Some(after)) => Some(self.encoder.event("MODIFIED", &after)),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                crate::object::metadata_mut(&mut last).insert(
                    "resourceVersion".to_owned(),
                    change.version.to_string().into(),
                );
                Some(self.encoder.event("DELETED", &Arc::new(last)))
            }
        }
    }
}

/// Writes events in the form that the client takes.
struct Encoder {
    resource: Arc<Resource>,
    form: Form,
    include: IncludeObject,
    /// A table's columns stand in its first event only.
    headers: bool,
}

impl Encoder {
    fn event(&mut self, kind: &str, object: &Arc<Value>) -> Bytes {
        let object = match self.form {
            Form::Plain => present(&self.resource, object),
            Form::Partial => table::partial(object),
            Form::Table => {
                let headers = std::mem::take(&mut self.headers);
                table::single(&self.resource, object, self.include, headers)
            }
        };
        encode(&json!({"type": kind, "object": object}))
    }

    /// The version alone, and perhaps that the objects there were end here.
    fn bookmark(&mut self, version: u64, end: bool) -> Bytes {
        let mut object = json!({
            "apiVersion": self.resource.api_version(),
            "kind": self.resource.kind,
            "metadata": {"resourceVersion": version.to_string()},
        });
        if end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.event("BOOKMARK", &Arc::new(object))
    }
}

fn encode(event: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(event).expect("a JSON value is always written");
    bytes.push(b'\n');
    bytes.into()
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// The longest watch: the kube-apiserver's lie between 30 and 60 minutes.
const MAX_LIFETIME: Duration = Duration::from_secs(45 * 60);

/// How often a watch that takes bookmarks gets one, as in Kubernetes.
const BOOKMARKS: Duration = Duration::from_secs(60);
