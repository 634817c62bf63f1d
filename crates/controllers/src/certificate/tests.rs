//! Tests of the plan.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::Requested;
use super::plan::{approvals, check, ends, is_to_sign, lifetime};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;
use serde_json::{Value, json};

fn request(signer: &str, usages: &[&str], conditions: &[(&str, i64)]) -> Request {
    let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, hours)| json!({"type": kind, "status": "True", "lastUpdateTime": at(*hours)}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "r", "creationTimestamp": at(0)},
        "spec": {"request": "", "signerName": format!("kubernetes.io/{signer}"),
            "usages": usages, "username": "system:node:a"},
        "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn node() -> Requested {
    Requested {
        common_name: "system:node:a".to_owned(),
        organizations: vec!["system:nodes".to_owned()],
        ..Requested::default()
    }
}

const CLIENT: &[&str] = &["client auth", "digital signature"];
const SERVING: &[&str] = &["server auth", "digital signature", "key encipherment"];

#[test]
fn signers_have_their_rules() {
    let with = |change: fn(&mut Requested)| {
        let mut wanted = node();
        change(&mut wanted);
        wanted
    };
    let named = with(|w| w.dns_names.push("a".to_owned()));
    let kubelet = "kube-apiserver-client-kubelet";
    for (signer, usages, wanted, answer) in [
        ("kube-apiserver-client", CLIENT, Requested::default(), ""),
        (
            "kube-apiserver-client",
            &["server auth"][..],
            node(),
            "invalid usage",
        ),
        (
            "kube-apiserver-client",
            &["digital signature"],
            node(),
            "missing required usage",
        ),
        (kubelet, CLIENT, node(), ""),
        (
            kubelet,
            SERVING,
            node(),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            kubelet,
            CLIENT,
            named.clone(),
            "DNS subjectAltNames are not allowed",
        ),
        (
            kubelet,
            CLIENT,
            with(|w| w.addresses.push([1, 1, 1, 1].into())),
            "IP subject",
        ),
        (
            kubelet,
            CLIENT,
            with(|w| w.uris.push("x".to_owned())),
            "URI subject",
        ),
        (
            kubelet,
            CLIENT,
            with(|w| w.organizations.push("system:masters".to_owned())),
            "organization",
        ),
        (
            kubelet,
            CLIENT,
            with(|w| w.common_name = "root".to_owned()),
            "common name",
        ),
        ("kubelet-serving", SERVING, named.clone(), ""),
        (
            "kubelet-serving",
            SERVING,
            node(),
            "DNS or IP subjectAltName is required",
        ),
        ("kubelet-serving", CLIENT, named, "usages did not match"),
        ("legacy-unknown", &["any"], Requested::default(), ""),
    ] {
        let found = check(&request(signer, usages, &[]), &wanted)
            .err()
            .unwrap_or_default();
        assert!(
            found.contains(answer) && found.is_empty() == answer.is_empty(),
            "{signer}: {found}"
        );
    }
}

#[test]
fn only_approved_requests_of_known_signers_are_signed() {
    let signs =
        |signer: &str, conditions: &[(&str, i64)]| is_to_sign(&request(signer, CLIENT, conditions));
    assert!(signs("kube-apiserver-client", &[("Approved", 0)]));
    assert!(!signs("kube-apiserver-client", &[]));
    assert!(!signs("kube-apiserver-client", &[("Denied", 0)]));
    assert!(!signs(
        "kube-apiserver-client",
        &[("Approved", 0), ("Failed", 0)]
    ));
    assert!(!signs("somebody-else", &[("Approved", 0)]));
    let mut asked = request("kube-apiserver-client", CLIENT, &[]);
    for (secs, lives) in [
        (None, 31_536_000),
        (Some(3600), 3600),
        (Some(60), 600),
        (Some(i32::MAX), 31_536_000),
    ] {
        asked.spec.expiration_seconds = secs;
        assert_eq!(lifetime(&asked).as_secs(), lives);
    }
}

#[test]
fn kubelets_approve_themselves() {
    let kubelet = request("kube-apiserver-client-kubelet", CLIENT, &[]);
    let rights = |request: &Request, wanted: &Requested| -> Vec<&str> {
        approvals(request, wanted)
            .iter()
            .map(|a| a.subresource)
            .collect()
    };
    assert_eq!(rights(&kubelet, &node()), ["selfnodeclient", "nodeclient"]);
    let other = Requested {
        common_name: "system:node:b".to_owned(),
        ..node()
    };
    assert_eq!(rights(&kubelet, &other), ["nodeclient"]);
    let denied = request("kube-apiserver-client-kubelet", CLIENT, &[("Denied", 0)]);
    assert!(rights(&denied, &node()).is_empty());
    assert!(rights(&request("kube-apiserver-client", CLIENT, &[]), &node()).is_empty());
}

#[test]
fn old_requests_end() {
    let hours = |conditions: &[(&str, i64)], certificate: Option<i64>| {
        let mut request = request("kube-apiserver-client", CLIENT, conditions);
        if certificate.is_some() {
            let status = request.status.as_mut().unwrap();
            status.certificate = Some(k8s_openapi::ByteString(b"x".to_vec()));
        }
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        ends(&request, certificate.map(at)).map(|end| end.as_second() / 3600)
    };
    assert_eq!(hours(&[], None), Some(24));
    assert_eq!(hours(&[("Denied", 5)], None), Some(6));
    assert_eq!(hours(&[("Approved", 5)], None), Some(29));
    assert_eq!(hours(&[("Approved", 5)], Some(100)), Some(6));
    assert_eq!(hours(&[("Approved", 5)], Some(5)), Some(5));
    assert_eq!(hours(&[("Approved", 5), ("Failed", 5)], None), Some(6));
}
