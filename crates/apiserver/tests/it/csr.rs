//! CertificateSigningRequests: who may ask, approve and sign, and what stays as it is.

use apiserver::{User, full_body};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, answer};

/// Of system:node:a in system:nodes.
const NODE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIck1JR1JBZ0VBTUM4eEZUQVRCZ05WQkFvTURITjVjM1JsYlRwdWIyUmxjekVXTUJRR0ExVUVBd3dOYzNsegpkR1Z0T201dlpHVTZZVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEwSUFCS1pZaWJ2M0hlNDJ6OXRTClg1QXEyclZxc2EySS9CWlZnbm1Ub25KclR0WE40dVl6K2J3OTBDNEpQeXZXeXlQaklJRnVXeGxzV1BLQUZGY2IKUkc2aDBTV2dBREFLQmdncWhrak9QUVFEQWdOSkFEQkdBaUVBNmVjMjNVMFIrekE2QlpXS05kUjNLakdHZk9UMgpFdFlaWDVZNzRCbDFHTDRDSVFETVp4WmNjV2N0eEpGOUl6eExna2I4YU5sWldKTmI1T0tkRVpRNEVqcXhyUT09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
/// Of root in system:masters.
const MASTER: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIak1JR0tBZ0VBTUNneEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRwdFlYTjBaWEp6TVEwd0N3WURWUVFEREFSeQpiMjkwTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFZStlRFRGZE5XREFBS1lpTnE2V3NTNytQCjFrSll5cVZKOGhaeS9XM0p3REgwb1NqMVh4anNvcGpWSTd4ZUd3bXVYb3pSVzZIZUdxQUEvbjl1eEU0Q1NLQUEKTUFvR0NDcUdTTTQ5QkFNQ0EwZ0FNRVVDSVFDZjZKbzBXVlBoZUdILzdpdHRoZnV2NHhHNVZIWTRvaG45andNVwpGdEtDZ2dJZ0oyT2R5dmdteUtlUWxxZjFVbHBWZ1REdW1oTDlwb0F4UmVUOVY4RUZkTG89Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: &str, signer: &str, request: &str) -> Value {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": request, "signerName": signer, "usages": ["client auth"],
            "username": "somebody-else", "groups": ["system:masters"]}})
}

async fn send_as(c: &Cluster, user: &str, method: Method, path: &str, body: &Value) -> Answer {
    let user = User {
        name: user.to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..User::default()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .extension(user)
        .header("content-type", "application/json")
        .body(full_body(body.to_string()))
        .unwrap();
    answer(c.raw(request).await).await
}

async fn allow(c: &Cluster, name: &str, rules: Value) {
    let group = "/apis/rbac.authorization.k8s.io/v1";
    c.post(
        &format!("{group}/clusterroles"),
        &json!({"metadata": {"name": name}, "rules": rules}),
    )
    .await
    .ok();
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]});
    c.post(&format!("{group}/clusterrolebindings"), &binding)
        .await
        .ok();
}

fn decided(csr: &Value, kind: &str) -> Value {
    let mut new = csr.clone();
    new["status"]["conditions"] = json!([{"type": kind, "status": "True", "reason": "Because"}]);
    new
}

#[tokio::test]
async fn who_asks_is_written_by_the_server() {
    let c = Cluster::start().await;
    let made = c
        .post(PATH, &request("a", "example.com/it", NODE))
        .await
        .ok();
    assert_eq!(made["spec"]["username"], "admin");
    // Neither spec nor status change by a PUT of the object.
    let mut changed = decided(&made, "Approved");
    changed["spec"]["signerName"] = json!("example.com/other");
    changed["metadata"]["labels"] = json!({"x": "y"});
    let put = c.put(&format!("{PATH}/a"), &changed).await.ok();
    assert_eq!(put["metadata"]["labels"]["x"], "y");
    assert_eq!(put["spec"], made["spec"]);
    assert!(put["status"].get("conditions").is_none(), "{put}");
    for (body, words) in [
        (
            request("b", "example.com/it", "cnViYmlzaA=="),
            "PEM block type must be CERTIFICATE REQUEST",
        ),
        (
            request("b", "nodomain", NODE),
            "must be a fully qualified domain and path",
        ),
        (request("b", "nodots/it", NODE), "at least two segments"),
        (
            request("b", "kubernetes.io/legacy-unknown", NODE),
            "the legacy signerName is not allowed",
        ),
    ] {
        let said = c.post(PATH, &body).await.refused(422);
        assert!(said.contains(words), "{said}");
    }
    let mut body = request("b", "example.com/it", NODE);
    body["spec"]["expirationSeconds"] = json!(599);
    body["spec"]["usages"] = json!(["client auth", "client auth", "flying"]);
    let said = c.post(PATH, &body).await.refused(422);
    for words in [
        "less than 600 seconds",
        "spec.usages[1]: Duplicate value",
        "spec.usages[2]: Unsupported value: \"flying\"",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let masters = request("b", "kubernetes.io/kube-apiserver-client", MASTER);
    let said = c.post(PATH, &masters).await.refused(403);
    assert!(
        said.contains("system:masters group is not allowed"),
        "{said}"
    );
}

#[tokio::test]
async fn approval_and_signature_need_their_rights() {
    let c = Cluster::start().await;
    let csr = c
        .post(PATH, &request("a", "example.com/it", NODE))
        .await
        .ok();
    let subresources = json!({"verbs": ["update"], "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"]});
    let signers = |verb: &str, name: &str| {
        json!({"verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
            "resourceNames": [name]})
    };
    allow(&c, "nobody", json!([subresources])).await;
    allow(
        &c,
        "approver",
        json!([subresources, signers("approve", "example.com/*")]),
    )
    .await;
    allow(
        &c,
        "signer",
        json!([subresources, signers("sign", "example.com/it")]),
    )
    .await;
    let (approval, status) = (format!("{PATH}/a/approval"), format!("{PATH}/a/status"));
    let approved = decided(&csr, "Approved");
    let put = |user: &'static str, path: &str, body: &Value| {
        let (path, body) = (path.to_owned(), body.clone());
        let c = &c;
        async move { send_as(c, user, Method::PUT, &path, &body).await }
    };
    let said = put("nobody", &approval, &approved).await.refused(403);
    assert!(
        said.contains("user not permitted to approve requests with signerName \"example.com/it\""),
        "{said}"
    );
    put("signer", &approval, &approved).await.refused(403);
    // Approval is not for the status.
    let said = put("signer", &status, &approved).await.refused(422);
    assert!(
        said.contains("updates may not add a condition of type \"Approved\""),
        "{said}"
    );
    let csr = put("approver", &approval, &approved).await.ok();
    let condition = &csr["status"]["conditions"][0];
    assert_eq!(condition["type"], "Approved");
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
    // What is decided stays so.
    let mut both = csr.clone();
    both["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "Denied", "status": "True"}));
    let said = put("approver", &approval, &both).await.refused(422);
    assert!(said.contains("mutually exclusive"), "{said}");
    let mut none = csr.clone();
    none["status"]["conditions"] = json!([]);
    let said = put("approver", &approval, &none).await.refused(422);
    assert!(
        said.contains("updates may not remove a condition of type \"Approved\""),
        "{said}"
    );

    // The certificate: by the signer alone, once, and nothing but certificates.
    let with = |pem: &str| {
        use base64::Engine as _;
        let mut new = csr.clone();
        new["status"]["certificate"] = json!(base64::engine::general_purpose::STANDARD.encode(pem));
        new
    };
    let authority = pki::Authority::load_or_create(c.dir.path()).unwrap();
    let good = with(authority.certificate_pem());
    let said = put("approver", &status, &good).await.refused(403);
    assert!(said.contains("user not permitted to sign"), "{said}");
    let said = put(
        "signer",
        &status,
        &with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    )
    .await
    .refused(422);
    assert!(said.contains("<certificate data>"), "{said}");
    let signed = put("signer", &status, &good).await.ok();
    let mut other = signed.clone();
    other["status"]["certificate"] =
        with(&format!("{0}{0}", authority.certificate_pem()))["status"]["certificate"].clone();
    let said = put("signer", &status, &other).await.refused(422);
    assert!(
        said.contains("updates may not modify existing certificate content"),
        "{said}"
    );
}
