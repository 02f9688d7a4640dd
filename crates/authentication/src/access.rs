//! Asking a kube-apiserver what somebody may do (`authorization.k8s.io/v1` SubjectAccessReview).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster_proxy_identity::User;
use futures_util::FutureExt;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::api::exchange;
use crate::flights::Flights;
use crate::review::{MAX_CONCURRENT_REVIEWS, MAX_SLOT_WAIT, REVIEW_DEADLINE, ReviewError};
use crate::shelf::{Fingerprint, Shelf};

/// What a kube-apiserver says of somebody who wants to do something.
#[derive(Debug, Clone)]
pub enum Access {
    /// It may.
    Allowed,
    /// It may not: nobody says that it may.
    Denied,
    /// The question was not answered. Never to be taken for a "no" or a "yes".
    Failed(ReviewError),
}

/// Asks one kube-apiserver, a bounded number of times at once, and remembers answers for seconds.
/// Clones share it.
#[derive(Clone)]
pub struct AccessReviewer(Arc<Inner>);

struct Inner {
    client: Client,
    ttl: Duration,
    slots: Semaphore,
    known: Mutex<Shelf<bool>>,
    flights: Flights<Access>,
}

impl AccessReviewer {
    /// Remembers answers for `ttl`; zero keeps none, and still shares equal questions in flight.
    #[must_use]
    pub fn new(client: Client, ttl: Duration) -> Self {
        Self(Arc::new(Inner {
            client,
            ttl,
            slots: Semaphore::new(MAX_CONCURRENT_REVIEWS),
            known: Mutex::new(Shelf::new(MAX_KNOWN)),
            flights: Flights::new(),
        }))
    }

    /// Whether `user` may do what `attributes` say. Takes no longer than [`REVIEW_DEADLINE`].
    pub async fn review(&self, user: &User, attributes: &ResourceAttributes) -> Access {
        let body = question(user, attributes);
        let key = Fingerprint::from(Sha256::digest(&body));
        let known = self.known().get(&key, Instant::now());
        match known {
            Some(true) => return Access::Allowed,
            Some(false) => return Access::Denied,
            None => {}
        }
        let this = self.clone();
        let ask = move || {
            async move {
                let access = match timeout(REVIEW_DEADLINE, this.ask(body)).await {
                    Ok(Ok(true)) => Access::Allowed,
                    Ok(Ok(false)) => Access::Denied,
                    Ok(Err(error)) => Access::Failed(error),
                    Err(_elapsed) => Access::Failed(ReviewError::TimedOut),
                };
                this.remember(key, &access);
                access
            }
            .boxed()
        };
        self.0.flights.share(key, ask).await
    }

    async fn ask(&self, body: Vec<u8>) -> Result<bool, ReviewError> {
        let _slot = timeout(MAX_SLOT_WAIT, self.0.slots.acquire())
            .await
            .map_err(|_elapsed| ReviewError::Overloaded)?
            .expect("the semaphore is never closed");
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(SUBJECT_ACCESS_REVIEWS);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json.clone());
        request.headers_mut().insert(ACCEPT, json);
        let answer = exchange(&self.0.client, request).await?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| ReviewError::Malformed {
                what: "no SubjectAccessReview status in it",
            })?;
        // An evaluationError beside a "no" is how RBAC tells of a binding to a role that is gone,
        // for everybody and for ever: the kube-apiserver itself takes it for a "no".
        let SubjectAccessReviewStatus {
            allowed, denied, ..
        } = answer.status;
        Ok(allowed && denied != Some(true))
    }

    fn remember(&self, key: Fingerprint, access: &Access) {
        let allowed = match access {
            Access::Allowed => true,
            Access::Denied => false,
            Access::Failed(_) => return,
        };
        if !self.0.ttl.is_zero() {
            let now = Instant::now();
            self.known().put(key, allowed, now + self.0.ttl, now);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Shelf<bool>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AccessReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessReviewer")
            .field("ttl", &self.0.ttl)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    status: SubjectAccessReviewStatus,
}

fn question(user: &User, attributes: &ResourceAttributes) -> Vec<u8> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
            resource_attributes: Some(attributes.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    serde_json::to_vec(&review).expect("a SubjectAccessReview has string keys")
}

/// Answers of ten seconds, about 100 bytes each.
const MAX_KNOWN: usize = 20_000;

const SUBJECT_ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

#[cfg(test)]
mod tests;
