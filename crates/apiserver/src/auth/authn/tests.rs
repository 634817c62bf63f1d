//! Tests of `authn`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use pki::{Authority, Leaf, TokenKeys, Usage};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::super::chain::{Authentication, Chain};
use super::super::oidc::{Fetch, FetchError};
use super::super::testing::World;
use super::super::token::Issuer;
use super::super::{live, review};
use super::*;

fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

struct NoNetwork;

impl Fetch for NoNetwork {
    fn get<'a>(
        &'a self,
        url: &'a str,
        _ca_pem: Option<&'a str>,
    ) -> futures::future::BoxFuture<'a, Result<bytes::Bytes, FetchError>> {
        Box::pin(async {
            Err(FetchError {
                url: url.to_owned(),
                fault: "there is no network".to_owned(),
            })
        })
    }
}

#[tokio::test]
async fn credentials_become_users() {
    let folder = tempfile::tempdir().unwrap();
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "robot", "namespace": "dev", "uid": "u-1"},
    });
    let world = World::new(std::slice::from_ref(&account)).await;
    let keys = Arc::new(TokenKeys::load_or_create(&folder.path().join("sa.key")).unwrap());
    let lookup: Arc<dyn live::LiveLookup> = world.cache.clone();
    let authenticator = Authenticator::new(lookup, keys.clone(), "https://api".into(), Vec::new());
    let issue = |issuer: &str, audiences: &[&str]| {
        let audiences: Vec<String> = audiences
            .iter()
            .map(|&audience| audience.to_owned())
            .collect();
        let issuer = Issuer {
            keys: &keys,
            issuer,
            audiences: &audiences,
            lookup: &*world.cache,
        };
        let answer = issuer
            .issue("dev", "robot", json!({"spec": {}}), Timestamp::now())
            .unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    };
    let good = issue("https://api", &["https://api", "vault"]);
    let with = |token: &str| headers(AUTHORIZATION, &format!("Bearer {token}"));
    let name = |headers: &HeaderMap| {
        authenticator
            .authenticate(headers, None, &mut Remarks::default())
            .map(|user| user.map(|user| user.name))
    };
    let robot = Ok(Some("system:serviceaccount:dev:robot".to_owned()));

    assert_eq!(name(&HeaderMap::new()), Ok(None));
    assert_eq!(name(&headers(AUTHORIZATION, "Basic eDp5")), Ok(None));
    assert_eq!(name(&with(&good)), robot);
    assert_eq!(
        name(&headers(AUTHORIZATION, &format!("bearer {good}"))),
        robot
    );
    let offered = format!("v5.channel.k8s.io, {SUBPROTOCOL}{}", BASE64.encode(&good));
    assert_eq!(name(&headers(SEC_WEBSOCKET_PROTOCOL, &offered)), robot);
    assert_eq!(
        name(&with("rubbish")),
        Err(AuthnError::Token(TokenError::Malformed))
    );
    assert_eq!(
        name(&with(&issue("https://other", &["https://api"]))),
        Err(AuthnError::Foreign)
    );
    let stranger = keys.sign(&json!({"iss": "https://api", "aud": ["https://api"], "sub": "root"}));
    assert_eq!(name(&with(&stranger.unwrap())), Err(AuthnError::Foreign));
    let audience = name(&with(&issue("https://api", &["vault"])));
    assert!(
        matches!(audience, Err(AuthnError::Audience { .. })),
        "{audience:?}"
    );

    let chain = Chain::new(
        Authenticator::new(
            world.cache.clone(),
            keys.clone(),
            "https://api".into(),
            Vec::new(),
        ),
        world.cache.clone(),
        Authentication::default(),
        Arc::new(NoNetwork),
        None,
    );
    let post = |spec| json!({"kind": "TokenReview", "spec": spec});
    let asked = post(json!({"token": good, "audiences": ["x", "vault"]}));
    let vault = review::token(&chain, asked, &mut Remarks::default()).await;
    let status = vault.unwrap()["status"].take();
    assert_eq!(
        (&status["authenticated"], &status["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    assert_eq!(status["user"]["uid"], "u-1");
    let mut remarks = Remarks::default();
    let bad = review::token(&chain, post(json!({"token": "x.y.z"})), &mut remarks)
        .await
        .unwrap();
    assert_eq!(bad["status"].get("authenticated"), None);
    assert!(bad["status"]["error"].is_string());
    let none = review::token(&chain, post(json!({})), &mut remarks).await;
    assert!(none.is_err());

    // The signature is remembered, the account is not.
    world.delete(&account).await;
    assert!(matches!(
        name(&with(&good)),
        Err(AuthnError::Claims(ClaimsError::NoAccount { .. }))
    ));

    let authority = Authority::load_or_create(folder.path()).unwrap();
    let leaf = |common_name: &str, secs| Leaf {
        common_name: common_name.to_owned(),
        organizations: vec!["crew".into(), "system:masters".into()],
        sans: Vec::new(),
        usage: Usage::Client,
        lifetime: std::time::Duration::from_secs(secs),
    };
    let peer = |leaf: &Leaf| {
        let pem = authority.issue(leaf).unwrap().cert_pem;
        PeerCertificate::new(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
    };
    let certificate = peer(&leaf("jane", 60));
    let user = authenticator
        .authenticate(
            &with("rubbish"),
            Some(&certificate),
            &mut Remarks::default(),
        )
        .unwrap()
        .unwrap();
    assert_eq!(user.name, "jane");
    assert_eq!(
        user.groups,
        ["crew", "system:masters", "system:authenticated"]
    );
    let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
    assert_eq!(id.strip_prefix("X509SHA256=").unwrap().len(), 64);
    let (nameless, mut remarks) = (peer(&leaf("", 60)), Remarks::default());
    let nobody = authenticator.authenticate(&HeaderMap::new(), Some(&nameless), &mut remarks);
    assert_eq!(
        nobody,
        Err(AuthnError::Certificate {
            fault: "has no common name"
        })
    );
    let later = Timestamp::now() + jiff::SignedDuration::from_secs(61);
    assert!(
        certificate.user(later).is_err(),
        "outlived by its connection"
    );
    let rubbish = PeerCertificate::new(&[0x30, 0x03]);
    assert!(
        authenticator
            .authenticate(&HeaderMap::new(), Some(&rubbish), &mut Remarks::default())
            .is_err()
    );
}
