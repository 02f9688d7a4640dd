use super::*;

/// A hub whose user has these fields.
pub(crate) fn hub_of(user: &str) -> Result<Hub, StartError> {
    let text = format!(
        "current-context: hub\n\
         contexts: [{{name: hub, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    );
    let kubeconfig = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let files = HubFiles {
        flag: FLAG,
        paths: vec!["/k".into()],
    };
    Hub::of(files, kubeconfig, None)
}

#[test]
fn credentials_are_known_and_what_would_be_somebody_else_is_refused() {
    for (user, credentials) in [
        ("{token: a, tokenFile: b}", Credentials::Token),
        ("{tokenFile: b, exec: {command: c}}", Credentials::TokenFile),
        ("{exec: {command: c}}", Credentials::Plugin),
        (
            "{client-certificate: a, client-key: b}",
            Credentials::Certificate,
        ),
    ] {
        let hub = hub_of(user).expect(user);
        assert_eq!(hub.credentials().expect(user), credentials, "{user}");
    }
    for (user, cause) in [
        ("{}", "no credentials"),
        ("{token: ''}", "no credentials"),
        ("{token: a, as: root}", "impersonation"),
        ("{token: a, as-groups: [x]}", "impersonation"),
        ("{auth-provider: {name: oidc}}", "auth-provider"),
        ("{username: a, password: s3cret}", "password"),
    ] {
        let hub = hub_of(user).expect(user);
        let refused = hub.credentials().expect_err(user).to_string();
        assert!(refused.contains(cause), "{refused}");
        assert!(refused.starts_with("--kubeconfig /k: "), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
    }
}

#[tokio::test]
async fn a_token_file_is_read_each_time_and_a_certificate_gives_none() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("token");
    let hub = hub_of(&format!("{{tokenFile: {}}}", file.display())).expect("a hub");
    let missing = hub.own_token().await.err().expect("missing").to_string();
    assert!(missing.contains("tokenFile /"), "{missing}");
    for text in ["one\n", "two"] {
        std::fs::write(&file, text).expect("written");
        let HubToken { token, expires } = hub.own_token().await.expect("a token");
        assert_eq!(token.expose(), text.trim());
        assert!(expires.is_some_and(|expires| expires > Timestamp::now()));
    }
    let hub = hub_of("{client-certificate: a, client-key: b}").expect("a hub");
    let refused = hub.own_token().await.err().expect("none").to_string();
    assert!(
        refused.contains("--service-account NAMESPACE/NAME"),
        "{refused}"
    );
}

#[test]
fn files_are_those_of_kubectl() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (there, missing) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&there, "{}").expect("written");
    let listed = |paths: &[&PathBuf]| Some(std::env::join_paths(paths).expect("a list"));
    let found = HubFiles::find(None, listed(&[&missing, &there])).expect("found");
    assert_eq!(found.paths, std::slice::from_ref(&there));
    let found = HubFiles::find(None, listed(&[&missing])).expect("found");
    assert_eq!(found.paths, std::slice::from_ref(&missing));
    let refused = found.read().expect_err("missing").to_string();
    assert_eq!(
        refused,
        format!("$KUBECONFIG {}: no such file", missing.display())
    );
    let found = HubFiles::find(Some(missing.clone()), listed(&[&there])).expect("found");
    assert_eq!(found.paths, [missing]);
}

#[test]
fn what_is_wrong_with_a_kubeconfig_is_told_without_its_words() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("config");
    for bad in ["users: [{name: u, user: {token: [s3cret]}}]", "s3cret: ["] {
        std::fs::write(&path, bad).expect("written");
        let files = HubFiles::find(Some(path.clone()), None).expect("found");
        let refused = files.read().expect_err(bad).to_string();
        assert!(refused.contains("not a kubeconfig"), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
    }
}
