use cluster_proxy_tunnel::DialError;
use serde_json::json;
use tokio::time::advance;

use super::*;

fn addon(cluster: &str, conditions: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
        "metadata": {"name": "cluster-proxy", "namespace": cluster},
        "status": {"namespace": "agents", "conditions": conditions},
    });
    serde_json::from_value(object).unwrap()
}

fn deployed(cluster: &str) -> DynamicObject {
    addon(
        cluster,
        &json!([{"type": "ManifestApplied", "status": "True"}]),
    )
}

fn pace() -> Pace {
    Pace::default()
}

fn name() -> ClusterName {
    "managed".parse().unwrap()
}

fn lost() -> RequestError {
    let details = "no lane".to_owned();
    DialError::NoAgent { details }.into()
}

/// A fleet with one deployed cluster whose service-proxy is to be asked.
fn known() -> Fleet {
    let mut fleet = Fleet::default();
    fleet.see(&deployed("managed"), Instant::now(), false);
    let (found, step) = fleet.take_due(Instant::now()).unwrap();
    let references = Value::Null;
    assert_eq!(
        (found, step),
        (
            name(),
            Step::FindOut {
                references: references.clone()
            }
        )
    );
    fleet.found_out(&name(), &references, Some(Asked::ServiceProxy));
    fleet
}

/// The next request, whenever it is due; how long that takes, and what its answer is news of.
async fn ask(fleet: &mut Fleet, answer: Result<u64, RequestError>) -> (Duration, Option<Verdict>) {
    let wait = fleet.next().expect("it is asked again") - Instant::now();
    advance(wait).await;
    let (cluster, step) = fleet.take_due(Instant::now()).unwrap();
    assert_eq!(step, Step::Ask(Asked::ServiceProxy));
    assert_eq!(fleet.next(), None, "nobody is asked twice at once");
    let answer = answer.map(Duration::from_millis);
    let answer = answer.as_ref().map(|time| *time);
    let news = fleet.asked(&cluster, Asked::ServiceProxy, answer, Instant::now());
    if let Some(verdict) = &news {
        fleet.wrote(&cluster, verdict);
    }
    (wait, news)
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_an_agent_is_unknown_and_not_asked() {
    let mut fleet = Fleet::default();
    fleet.see(&addon("managed", &json!([])), Instant::now(), false);
    let (cluster, step) = fleet.take_due(Instant::now()).unwrap();
    let Step::Tell(verdict) = step else {
        panic!("{step:?}")
    };
    assert_eq!(
        (verdict.state, verdict.reason),
        (State::Unknown, "AgentNotDeployed")
    );
    fleet.wrote(&cluster, &verdict);
    fleet.rest(&cluster);
    assert_eq!(fleet.next(), None);
    fleet.see(&deployed("managed"), Instant::now(), false);
    advance(pace().soon).await;
    let (_, step) = fleet.take_due(Instant::now()).unwrap();
    assert!(matches!(step, Step::FindOut { .. }), "{step:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_are_told_once_and_a_failure_when_it_is_sure() {
    let mut fleet = known();
    let (wait, news) = ask(&mut fleet, Ok(30)).await;
    let news = news.unwrap();
    assert_eq!((wait, news.state), (Duration::ZERO, State::True));
    assert!(
        news.message.contains("and back in 30 ms"),
        "{}",
        news.message
    );
    // One slow answer is no news; a way that has become longer is.
    let mut told = Vec::new();
    for time in [35, 400, 28, 31, 100, 110, 105] {
        let (wait, news) = ask(&mut fleet, Ok(time)).await;
        assert_eq!(wait, pace().interval);
        told.extend(news.map(|it| it.round_trip.unwrap().as_millis()));
    }
    assert_eq!(told, [100]);

    let (_, news) = ask(&mut fleet, Err(lost())).await;
    assert_eq!(news, None, "one failure may be a rollout");
    let (wait, news) = ask(&mut fleet, Err(lost())).await;
    assert_eq!((wait, news), (pace().confirm, None));
    let (wait, news) = ask(&mut fleet, Err(lost())).await;
    let news = news.unwrap();
    assert_eq!(wait, pace().confirm);
    assert_eq!(
        (news.state, news.reason),
        (State::False, "AgentNotConnected")
    );
    let mut waits = Vec::new();
    for _ in 0..6 {
        let (wait, news) = ask(&mut fleet, Err(lost())).await;
        assert_eq!(news, None);
        waits.push(wait.as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 80, 120, 120]);
    let (_, news) = ask(&mut fleet, Ok(30)).await;
    assert_eq!(news.unwrap().state, State::True);
}

#[tokio::test(start_paused = true)]
async fn an_agent_may_take_its_time_to_start() {
    let mut fleet = known();
    let begun = Instant::now();
    let news = loop {
        if let (_, Some(news)) = ask(&mut fleet, Err(lost())).await {
            break news;
        }
    };
    assert_eq!(news.state, State::False);
    assert_eq!(begun.elapsed(), pace().first_grace);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_and_does_not_ask_all_at_once() {
    let condition = json!([
        {"type": "ManifestApplied", "status": "False"},
        {"type": TUNNEL_REACHABLE, "status": "True", "reason": "RequestAnswered",
         "message": "a request … and back in 31 ms"},
    ]);
    let mut fleet = Fleet::default();
    let begun = Instant::now();
    for number in 0..1000 {
        let object = addon(&format!("cluster-{number}"), &condition);
        fleet.see(&object, begun, true);
    }
    let mut in_a_second = HashMap::new();
    while let Some(next) = fleet.next() {
        advance(next - Instant::now()).await;
        // One that has been asked before is asked while its next version cannot be applied.
        let (cluster, step) = fleet.take_due(Instant::now()).unwrap();
        assert!(matches!(step, Step::FindOut { .. }), "{step:?}");
        *in_a_second.entry(begun.elapsed().as_secs()).or_insert(0) += 1;
        fleet.rest(&cluster);
    }
    assert_eq!(in_a_second.values().sum::<u32>(), 1000);
    assert!(in_a_second.values().all(|count| *count <= 20));
    assert!(begun.elapsed() <= pace().interval, "{:?}", begun.elapsed());
    let time = Duration::from_millis(35);
    let one = "cluster-1".parse().unwrap();
    let news = fleet.asked(&one, Asked::ServiceProxy, Ok(time), Instant::now());
    assert_eq!(news, None, "the status says so already");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_addon_is_looked_at_soon_and_its_end_ends_all() {
    let mut fleet = known();
    ask(&mut fleet, Ok(30)).await;
    let told = json!({"type": TUNNEL_REACHABLE, "status": "True", "reason": "RequestAnswered",
        "message": "… and back in 30 ms"});
    let applied = json!({"type": "ManifestApplied", "status": "True"});
    // What this program wrote itself is no change.
    let own = addon("managed", &json!([applied, told]));
    fleet.see(&own, Instant::now(), false);
    assert_eq!(fleet.next(), Some(Instant::now() + pace().interval));
    let available = json!({"type": "Available", "status": "False"});
    let changed = addon("managed", &json!([applied, told, available]));
    fleet.see(&changed, Instant::now(), false);
    assert_eq!(fleet.next(), Some(Instant::now() + pace().soon));

    let mut leaving = changed;
    leaving.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()),
    );
    fleet.see(&leaving, Instant::now(), false);
    assert_eq!(fleet.next(), None);
    assert!(!fleet.knows(&name()));
    // An answer that comes too late is nobody's.
    let late = fleet.asked(
        &name(),
        Asked::ServiceProxy,
        Ok(Duration::ZERO),
        Instant::now(),
    );
    assert_eq!(late, None);
}
