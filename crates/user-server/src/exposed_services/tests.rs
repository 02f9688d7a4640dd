use super::*;

fn parse(values: &[(&str, &str)]) -> Result<ExposedServices, ExposedServicesError> {
    let owned = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ExposedServices::parse(&owned.collect())
}

fn one(text: &str) -> ExposedServices {
    parse(&[("services", text)]).expect(text)
}

fn target(scheme: &str, namespace: &str, service: &str, port: &str) -> ServiceTarget {
    ServiceTarget::parse(scheme, namespace, service, port).expect("a target")
}

#[test]
fn absent_port_and_protocol_are_any() {
    let list = one("- {namespace: monitoring, service: prometheus}");
    for (scheme, port) in [("http", "9090"), ("https", "web"), ("https", "")] {
        let asked = target(scheme, "monitoring", "prometheus", port);
        let found = list.find(&asked).expect("listed");
        assert_eq!(found.target, asked);
        assert!(!found.passes_authorization);
    }
    for (namespace, service) in [("monitoring", "grafana"), ("other", "prometheus")] {
        assert_eq!(list.find(&target("http", namespace, service, "9090")), None);
    }
}

#[test]
fn port_and_protocol_narrow_an_entry() {
    let list = one("- {namespace: a, service: b, port: 9090, protocol: http}\n\
                    - {namespace: a, service: b, port: metrics, protocol: https, authorization: pass}");
    assert!(list.find(&target("http", "a", "b", "9090")).is_some());
    let passing = list.find(&target("https", "a", "b", "metrics"));
    assert!(passing.expect("listed").passes_authorization);
    for (scheme, port) in [("https", "9090"), ("http", "metrics"), ("http", "9091")] {
        assert_eq!(
            list.find(&target(scheme, "a", "b", port)),
            None,
            "{scheme} {port}"
        );
    }
}

#[test]
fn a_url_without_a_port_gets_the_one_of_the_list() {
    let list = one(
        "- {namespace: a, service: b, port: 9090}\n- {namespace: a, service: c, port: 1}\n\
                    - {namespace: a, service: c, port: 2}",
    );
    let found = list.find(&target("https", "a", "b", "")).expect("listed");
    assert_eq!(found.target, target("https", "a", "b", "9090"));
    assert_eq!(
        list.find(&target("https", "a", "c", "")),
        None,
        "which of them?"
    );
}

#[test]
fn scalars_are_text() {
    let list = one("- namespace: 1\n  service: true\n  port: '443'\n  protocol:\n");
    assert!(list.find(&target("http", "1", "true", "443")).is_some());
}

#[test]
fn every_key_counts_and_empty_ones_are_fine() {
    let list = parse(&[
        ("a", ""),
        ("b", "  \n"),
        ("c", "[]"),
        ("d", "null"),
        ("e", "# nothing\n"),
        ("f", "- {namespace: a, service: b}"),
        ("g", "- {namespace: a, service: c}"),
    ])
    .expect("a list");
    assert_eq!(list.len(), 2);
}

#[test]
fn one_wrong_entry_makes_all_of_it_wrong() {
    for (text, said) in [
        ("- {namespace: a}", "entry[0]: service is required"),
        (
            "- {namespace: a, service: b}\n- {service: b}",
            "entry[1]: namespace is required",
        ),
        ("- {namespace: '', service: b}", "namespace is required"),
        ("- {namespace: a, service: b, ports: 1}", "ports"),
        ("- {namespace: a, service: b, service: c}", "duplicate"),
        ("- {namespace: a, service: b, port: 0}", "port"),
        ("- {namespace: a, service: b, port: [1]}", "text"),
        ("- {namespace: a, service: b, protocol: tcp}", "protocol"),
        (
            "- {namespace: a, service: b, authorization: maybe}",
            "authorization",
        ),
        ("{namespace: a, service: b}", "expected"),
        ("- a", ""),
        ("- {namespace: a", ""),
    ] {
        let error = parse(&[("fine", "[]"), ("mine", text)])
            .expect_err(text)
            .to_string();
        assert!(error.starts_with("key \"mine\": "), "{error}");
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_cannot_be_a_name_matches_nothing() {
    let list = one("- {namespace: '*', service: b}\n- {namespace: A, service: b}");
    for namespace in ["a", "b"] {
        assert_eq!(list.find(&target("http", namespace, "b", "1")), None);
    }
}

#[test]
fn the_kube_apiserver_needs_an_entry_like_any_other() {
    let list = one("- {namespace: default, service: kubernetes}");
    let spelled = target("http", "DEFAULT", "Kubernetes", "6443");
    assert_eq!(
        list.find(&spelled).expect("listed").target,
        ServiceTarget::kube_apiserver()
    );
    assert_eq!(ExposedServices::default().find(&spelled), None);
}
