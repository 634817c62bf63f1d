//! Tokens of an issuer that is real: TLS, discovery, keys that change, and an issuer that goes away
//! or lies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::auth::oidc::config::{Claim, Configuration, JwtIssuer};
use apiserver::auth::oidc::jwt::Algorithm;
use apiserver::auth::webhook_token::WebhookTokenOptions;
use apiserver::{Remote, full_body};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::{Authority, Leaf, San, ServerTls, Usage};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Cluster, answer};

enum Signer {
    Rsa(RsaKeyPair),
    Elliptic(EcdsaKeyPair, &'static str),
}

impl Signer {
    fn rsa() -> Self {
        let pem = include_bytes!("rsa-test-key.pem");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap())
    }

    fn elliptic(curve: &'static str) -> Self {
        let algorithm = match curve {
            "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
        Self::Elliptic(key, curve)
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": kid, "use": "sig",
                    "n": BASE64.encode(public.n), "e": BASE64.encode(public.e)})
            }
            Self::Elliptic(key, curve) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "kid": kid, "crv": curve,
                    "x": BASE64.encode(x), "y": BASE64.encode(y)})
            }
        }
    }

    fn sign(&self, alg: &str, kid: &str, claims: &Value) -> String {
        let head = json!({"alg": alg, "kid": kid, "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            BASE64.encode(head.to_string()),
            BASE64.encode(claims.to_string())
        );
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding: &dyn ring::signature::RsaEncoding = if alg == "PS512" {
                    &RSA_PSS_SHA512
                } else {
                    &RSA_PKCS1_SHA256
                };
                key.sign(padding, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Self::Elliptic(key, _) => key
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
        };
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

type Documents = Arc<Mutex<HashMap<String, String>>>;

/// A server that publishes documents over TLS, and counts how often it is asked.
pub struct Issuer {
    pub url: String,
    ca_pem: String,
    documents: Documents,
    asked: Arc<AtomicUsize>,
    /// Path and body of every POST.
    pub posted: Arc<Mutex<Vec<(String, String)>>>,
    _folder: tempfile::TempDir,
}

impl Issuer {
    pub async fn start() -> Self {
        pki::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let pair = authority
            .issue(&Leaf {
                common_name: "issuer".to_owned(),
                organizations: Vec::new(),
                sans: vec![San::Dns("localhost".to_owned())],
                usage: Usage::Server,
                lifetime: Duration::from_secs(3600),
            })
            .unwrap();
        let acceptor =
            tokio_rustls::TlsAcceptor::from(ServerTls::new(&pair, None).unwrap().config());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let (documents, asked) = (Documents::default(), Arc::<AtomicUsize>::default());
        let (served, count) = (documents.clone(), asked.clone());
        let posted = Arc::<Mutex<Vec<(String, String)>>>::default();
        let kept = posted.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, served, count) = (acceptor.clone(), served.clone(), count.clone());
                let kept = kept.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        count.fetch_add(1, Ordering::Relaxed);
                        let path = request.uri().path().to_owned();
                        let found = served.lock().unwrap().get(&path).cloned();
                        let kept = kept.clone();
                        async move {
                            if request.method() == "POST" {
                                let body = request.into_body().collect().await.unwrap().to_bytes();
                                let body = String::from_utf8(body.to_vec()).unwrap();
                                kept.lock().unwrap().push((path, body));
                            }
                            let status = if found.is_some() { 200 } else { 500 };
                            let body = Full::new(Bytes::from(found.unwrap_or_default()));
                            Response::builder().status(status).body(body)
                        }
                    });
                    let http = hyper_util::server::conn::auto::Builder::new(
                        hyper_util::rt::TokioExecutor::new(),
                    );
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let issuer = Self {
            url,
            ca_pem: authority.certificate_pem().to_owned(),
            documents,
            asked,
            posted,
            _folder: folder,
        };
        issuer.discovery(&issuer.url);
        issuer
    }

    pub fn put(&self, path: &str, document: &Value) {
        let mut documents = self.documents.lock().unwrap();
        documents.insert(path.to_owned(), document.to_string());
    }

    fn discovery(&self, named: &str) {
        let found = json!({"issuer": named, "jwks_uri": format!("{}/keys", self.url)});
        self.put("/.well-known/openid-configuration", &found);
    }

    fn keys(&self, keys: &[(&str, &Signer)]) {
        let keys: Vec<Value> = keys.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
        self.put("/keys", &json!({"keys": keys}));
    }

    fn config(&self) -> JwtIssuer {
        JwtIssuer {
            url: self.url.clone(),
            ca_pem: Some(self.ca_pem.clone()),
            audiences: vec!["knarr".to_owned()],
            algorithms: Algorithm::ALL.to_vec(),
            username: Claim {
                name: "sub".to_owned(),
                prefix: "oidc:".to_owned(),
            },
            groups: Some(Claim {
                name: "groups".to_owned(),
                prefix: "oidc:".to_owned(),
            }),
            ..JwtIssuer::default()
        }
    }

    /// How a kubeconfig names this server.
    pub fn remote(&self, path: &str) -> Remote {
        use base64::engine::general_purpose::STANDARD;
        let file = json!({
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{"name": "a", "cluster": {"server": format!("{}{path}", self.url),
                "certificate-authority-data": STANDARD.encode(&self.ca_pem)}}],
            "users": [{"name": "a", "user": {"token": "secret"}}],
        });
        let to = self._folder.path().join("kubeconfig");
        std::fs::write(&to, file.to_string()).unwrap();
        Remote::read(&to).unwrap()
    }

    fn claims(&self) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({"iss": self.url, "aud": "knarr", "sub": "jane", "groups": ["crew"], "exp": now + 600})
    }
}

async fn cluster(issuers: Vec<JwtIssuer>) -> Cluster {
    Cluster::start_changed(|config| config.authentication.issuers = issuers).await
}

/// Who a token makes the caller, or the code of the refusal.
async fn who(c: &Cluster, token: &str) -> Result<Value, u16> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::builder()
        .method("POST")
        .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(full_body(review.to_string()))
        .unwrap();
    let answer = answer(c.raw(request).await).await;
    match answer.status {
        201 => Ok(answer.body["status"]["userInfo"].clone()),
        status => Err(status),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_algorithm_make_users() {
    let issuer = Issuer::start().await;
    let (rsa, p256, p384) = (
        Signer::rsa(),
        Signer::elliptic("P-256"),
        Signer::elliptic("P-384"),
    );
    issuer.keys(&[("r", &rsa), ("2", &p256), ("3", &p384)]);
    let c = cluster(vec![issuer.config()]).await;
    for (signer, alg, kid) in [
        (&rsa, "RS256", "r"),
        (&rsa, "PS512", "r"),
        (&p256, "ES256", "2"),
        (&p384, "ES384", "3"),
    ] {
        let user = who(&c, &signer.sign(alg, kid, &issuer.claims()))
            .await
            .unwrap();
        assert_eq!(user["username"], "oidc:jane", "{alg}");
        assert_eq!(user["groups"], json!(["oidc:crew", "system:authenticated"]));
    }
    // Discovery and keys, once each.
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);

    let with = |field: &str, value: Value| {
        let mut claims = issuer.claims();
        claims[field] = value;
        claims
    };
    let stranger = Signer::elliptic("P-256");
    let good = p256.sign("ES256", "2", &issuer.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut parts = signed.split('.');
    let (head, _) = (parts.next().unwrap(), parts.next());
    let forged = BASE64.encode(with("sub", json!("root")).to_string());
    let none = BASE64.encode(json!({"alg": "none"}).to_string());
    for (bad, what) in [
        (
            p256.sign("ES256", "2", &with("aud", json!("other"))),
            "audience",
        ),
        (
            p256.sign("ES256", "2", &with("iss", json!("https://other"))),
            "issuer",
        ),
        (p256.sign("ES256", "2", &with("exp", json!(1))), "expired"),
        (
            p256.sign("ES256", "2", &with("nbf", json!(u32::MAX))),
            "not yet",
        ),
        (
            p256.sign("ES384", "2", &issuer.claims()),
            "an algorithm that is not the key's",
        ),
        (
            p256.sign("HS256", "2", &issuer.claims()),
            "an algorithm that is not allowed",
        ),
        (
            stranger.sign("ES256", "2", &issuer.claims()),
            "another's signature",
        ),
        (format!("{head}.{forged}.{signature}"), "changed claims"),
        (format!("{none}.{forged}."), "no signature"),
        ("a.b.c".to_owned(), "rubbish"),
    ] {
        assert_eq!(who(&c, &bad).await, Err(401), "{what}");
    }

    // A TokenReview says the same, and why not.
    let review = |token: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}})
    };
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let status = c.post(path, &review(&good)).await.ok()["status"].clone();
    assert_eq!(status["user"]["username"], "oidc:jane");
    let past = p256.sign("ES256", "2", &with("exp", json!(1)));
    let status = c.post(path, &review(&past)).await.ok()["status"].clone();
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .contains("token is expired"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_and_issuers_go_away() {
    let issuer = Issuer::start().await;
    let (old, new) = (Signer::elliptic("P-256"), Signer::elliptic("P-256"));
    issuer.keys(&[("old", &old)]);
    let c = cluster(vec![issuer.config()]).await;
    let token = |signer: &Signer, kid: &str| signer.sign("ES256", kid, &issuer.claims());
    assert!(who(&c, &token(&old, "old")).await.is_ok());
    issuer.keys(&[("old", &old), ("new", &new)]);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(
        who(&c, &token(&new, "new")).await.is_ok(),
        "a key that was not known"
    );

    // Made-up key ids do not make this server ask again and again.
    let before = issuer.asked.load(Ordering::Relaxed);
    for n in 0..50 {
        assert_eq!(
            who(&c, &token(&old, &format!("made-up-{n}"))).await,
            Err(401)
        );
    }
    assert!(issuer.asked.load(Ordering::Relaxed) <= before + 2);

    // Who is gone leaves what is known.
    issuer.documents.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(who(&c, &token(&old, "unknown")).await, Err(401));
    assert!(who(&c, &token(&old, "old")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn liars_are_not_believed() {
    let signer = Signer::elliptic("P-256");
    let issuer = Issuer::start().await;
    issuer.keys(&[("k", &signer)]);
    issuer.discovery("https://somebody.else");
    let mut untrusted = issuer.config();
    untrusted.ca_pem = None;
    let c = cluster(vec![issuer.config()]).await;
    let token = signer.sign("ES256", "k", &issuer.claims());
    assert_eq!(
        who(&c, &token).await,
        Err(401),
        "discovery names another issuer"
    );

    // An issuer whose documents are endless.
    issuer.discovery(&issuer.url);
    let endless = json!({"keys": [], "padding": "x".repeat(2 << 20)});
    issuer.put("/keys", &endless);
    let c = cluster(vec![issuer.config()]).await;
    assert_eq!(who(&c, &token).await, Err(401));

    // One whose certificate nobody vouches for.
    issuer.keys(&[("k", &signer)]);
    let c = cluster(vec![untrusted]).await;
    assert_eq!(who(&c, &token).await, Err(401));
    let c = cluster(vec![issuer.config()]).await;
    assert!(who(&c, &token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_tokens_are_believed_where_that_is_on() {
    let c = Cluster::start_changed(|config| config.authentication.bootstrap_tokens = true).await;
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true"},
    });
    let path = "/api/v1/namespaces/kube-system/secrets";
    c.post(path, &secret).await.ok();
    let user = who(&c, "abcdef.0123456789abcdef").await.unwrap();
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    assert_eq!(who(&c, "abcdef.0123456789abcdee").await, Err(401));
    c.delete(&format!("{path}/bootstrap-token-abcdef"))
        .await
        .ok();
    assert_eq!(who(&c, "abcdef.0123456789abcdef").await, Err(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_may_have_its_paths() {
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
                anonymous: {enabled: true, conditions: [{path: /api}]}\n";
    let read = Configuration::parse(text, "https://own").unwrap();
    let c = Cluster::start_changed(|config| {
        config.authentication.anonymous = read.anonymous.unwrap();
    })
    .await;
    for (path, status) in [
        ("/api", 403),
        ("/apis", 401),
        ("/api/v1/nodes", 401),
        ("/livez", 200),
    ] {
        let request = Request::builder().uri(path).body(full_body("")).unwrap();
        assert_eq!(answer(c.raw(request).await).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_asked_about_other_tokens() {
    let server = Issuer::start().await;
    let remote = server.remote("/tokens");
    let c = Cluster::start_changed(|config| {
        config.authentication.webhook = Some((remote, WebhookTokenOptions::default()));
    })
    .await;
    let answer = |status: Value| server.put("/tokens", &json!({"status": status}));
    answer(json!({"authenticated": true, "user": {"username": "jane", "groups": ["crew"]}}));
    for _ in 0..3 {
        let user = who(&c, "opaque").await.unwrap();
        assert_eq!(user["username"], "jane");
        assert_eq!(user["groups"], json!(["crew", "system:authenticated"]));
    }
    let asked: Vec<(String, String)> = server.posted.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "the answer is remembered");
    let review: Value = serde_json::from_str(&asked[0].1).unwrap();
    assert_eq!(review["spec"]["token"], "opaque");
    for status in [
        json!({"authenticated": false}),
        json!({"authenticated": true, "user": {}}),
        json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["other"]}),
    ] {
        answer(status.clone());
        assert_eq!(
            who(&c, &format!("opaque-{status}")).await,
            Err(401),
            "{status}"
        );
    }
    server.put("/tokens", &json!([]));
    assert_eq!(who(&c, "rubbish").await, Err(401));
}
