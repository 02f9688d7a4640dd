//! What is read from the hub about a cluster, and written there.

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::TUNNEL_REACHABLE;
use jiff::Timestamp;
use kube::Resource;
use serde_json::{Map, Value};

use super::request::Asked;
use super::verdict::Verdict;
use crate::addon::{self, Condition, State};
use crate::context::Context;
use crate::deployment_config::{self, ConfigProblem};
use crate::failure::RequestFailure;
use crate::render::Answers;

/// What became of a write.
pub(super) enum Written {
    Told,
    /// The addon is not there any more, or somebody else was faster.
    Not,
}

/// Who answers in a cluster, as its agent is rendered. What cannot be used leaves the agent as it
/// was, of which the flags are the best guess.
pub(super) async fn whom_to_ask(
    context: &Context,
    references: &Value,
) -> Result<Option<Asked>, RequestFailure> {
    let status = Map::from_iter([("configReferences".to_owned(), references.clone())]);
    let config = match deployment_config::in_force(&context.client, &status).await {
        Ok(config) => config,
        Err(ConfigProblem::Request(failure)) => return Err(failure),
        Err(_) => None,
    };
    let of = |config| Answers::new(config, &context.config);
    let answers = of(config.as_ref().map(|it| &it.spec)).or_else(|_| of(None));
    Ok(match answers {
        Ok(answers) if answers.service_proxy => Some(Asked::ServiceProxy),
        Ok(answers) if answers.kube_api_proxy => Some(Asked::KubeApiserver),
        _ => None,
    })
}

/// Other controllers write into the same status, often at the same time: who was late reads it
/// again.
pub(super) async fn tell_until_told(
    context: &Context,
    cluster: &ClusterName,
    verdict: &Verdict,
) -> Result<Written, RequestFailure> {
    for _ in 0..TRIES {
        match tell(context, cluster, verdict).await {
            Err(failure) if failure.is_conflict() => {}
            written => return written,
        }
    }
    Ok(Written::Not)
}

/// Writes the verdict into the addon's status as it is now, and an Event when the state changes.
async fn tell(
    context: &Context,
    cluster: &ClusterName,
    verdict: &Verdict,
) -> Result<Written, RequestFailure> {
    let read = addon::read_addon(&context.client, cluster).await?;
    let Some(object) = read.filter(|it| !addon::is_leaving(it)) else {
        return Ok(Written::Not);
    };
    let mut status = addon::status(&object);
    let before = addon::find_condition(&status, TUNNEL_REACHABLE);
    let before = before.map(|it| (it["status"].clone(), it["reason"].clone()));
    let condition = Condition {
        kind: TUNNEL_REACHABLE,
        state: verdict.state,
        reason: verdict.reason,
        message: verdict.message.clone(),
    };
    addon::set_condition(&mut status, &condition, Timestamp::now());
    let resource = addon::addon_resource();
    addon::write_status(&context.client, &resource, &object, &status).await?;
    let now = (Value::from(verdict.state.as_str()), verdict.reason.into());
    if before.as_ref() != Some(&now) {
        let about = object.object_ref(&resource);
        let message = verdict.message.as_str();
        match verdict.state {
            State::True => {
                context
                    .events
                    .normal(&about, TUNNEL_REACHABLE, message)
                    .await
            }
            State::False => {
                context
                    .events
                    .warning(&about, verdict.reason, message)
                    .await
            }
            State::Unknown => {}
        }
    }
    Ok(Written::Told)
}

/// Of a write that others were faster than.
const TRIES: usize = 3;
