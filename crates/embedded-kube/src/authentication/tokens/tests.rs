use super::*;
use crate::store::Store;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn account(uid: &str) -> Value {
    json!({"metadata": {"namespace": "a", "name": "robot", "uid": uid}})
}

fn store() -> Store {
    let store = Store::new();
    put(&store, SERVICE_ACCOUNTS, account("u-1"));
    store
}

fn put(store: &Store, shelf: &str, object: Value) {
    store
        .write(false, |state| Ok(state.put(shelf, object)))
        .unwrap();
}

fn token(signer: &TokenSigner, audience: &str, issued: Timestamp, pod: Option<&Value>) -> String {
    signer
        .sign(&Grant {
            account: &account("u-1"),
            audiences: &[audience.to_owned()],
            issued,
            lifetime: SignedDuration::from_hours(1),
            bound: pod.map(|pod| ("pod", pod)).into_iter().collect(),
        })
        .unwrap()
}

fn verify(
    signer: &TokenSigner,
    store: &Store,
    token: &str,
    audiences: &[&str],
) -> Result<Authenticated, TokenRefused> {
    let audiences: Vec<_> = audiences.iter().map(|&it| it.to_owned()).collect();
    store.read(|view| signer.verify(view, token, &audiences))
}

#[test]
fn a_token_is_its_accounts_user() {
    let signer = TokenSigner::generate(ISSUER.to_owned()).unwrap();
    let token = token(&signer, ISSUER, Timestamp::now(), None);
    let found = verify(&signer, &store(), &token, &[ISSUER, "other"]).unwrap();
    assert_eq!(found.audiences, [ISSUER]);
    assert_eq!(found.user.name, "system:serviceaccount:a:robot");
    assert_eq!(found.user.uid.as_deref(), Some("u-1"));
    assert_eq!(
        found.user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    let id = &found.user.extra["authentication.kubernetes.io/credential-id"][0];
    assert!(id.starts_with("JTI="), "{id}");
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let keys = signer.key_set();
    assert_eq!(header.kid.as_deref(), keys["keys"][0]["kid"].as_str());
}

#[test]
fn tokens_end_with_their_time_their_account_and_their_pod() {
    let signer = TokenSigner::generate(ISSUER.to_owned()).unwrap();
    let store = store();
    let now = Timestamp::now();
    let hours = |hours| now.checked_add(SignedDuration::from_hours(hours)).unwrap();

    let refused = |token: &str| verify(&signer, &store, token, &[ISSUER]).unwrap_err();
    assert_eq!(
        refused(&token(&signer, ISSUER, hours(-2), None)),
        TokenRefused::Expired
    );
    assert_eq!(
        refused(&token(&signer, ISSUER, hours(2), None)),
        TokenRefused::NotYet
    );
    assert!(matches!(
        refused(&token(&signer, "vault", now, None)),
        TokenRefused::Audience { .. }
    ));
    assert_eq!(refused("no.token.atall"), TokenRefused::Foreign);

    let pod = json!({"metadata": {"namespace": "a", "name": "web", "uid": "p-1"}});
    let bound = token(&signer, ISSUER, now, Some(&pod));
    assert_eq!(refused(&bound), TokenRefused::Unbound);
    put(&store, PODS, pod);
    let user = verify(&signer, &store, &bound, &[ISSUER]).unwrap().user;
    assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["p-1"]);

    let plain = token(&signer, ISSUER, now, None);
    put(&store, SERVICE_ACCOUNTS, account("u-2"));
    assert!(matches!(refused(&plain), TokenRefused::OtherAccount { .. }));
    store
        .write(false, |state| {
            Ok(state.remove(SERVICE_ACCOUNTS, &account("u-2")))
        })
        .unwrap();
    assert!(matches!(refused(&plain), TokenRefused::NoAccount { .. }));
}

#[test]
fn another_clusters_token_is_foreign_though_the_issuer_is_the_same() {
    let ours = TokenSigner::generate(ISSUER.to_owned()).unwrap();
    let theirs = TokenSigner::generate(ISSUER.to_owned()).unwrap();
    let token = token(&theirs, ISSUER, Timestamp::now(), None);
    assert_eq!(
        verify(&ours, &store(), &token, &[ISSUER]).unwrap_err(),
        TokenRefused::Foreign
    );
}
