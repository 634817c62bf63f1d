//! Tokens in Secrets that nobody uses, over the years.

use controllers::Clock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::harness::{Cluster, eventually};

const INVALID: &str = "kubernetes.io/legacy-token-invalid-since";

fn after(days: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24 * days)
}

fn soon() -> Timestamp {
    after(360)
}

fn in_a_year() -> Timestamp {
    after(370)
}

fn in_two_years() -> Timestamp {
    after(740)
}

fn marked(secret: &Secret) -> Option<String> {
    secret.metadata.labels.as_ref()?.get(INVALID).cloned()
}

/// Who the bearer of a token is, if anybody.
async fn whom(c: &Cluster, token: &str) -> Option<String> {
    let reviews: Api<SelfSubjectReview> = Api::all(c.bearer(token));
    let asked = SelfSubjectReview::default();
    let told = reviews.create(&PostParams::default(), &asked).await.ok()?;
    told.status?.user_info?.username
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_asked_for_are_marked_and_then_removed() {
    let c = Cluster::start().await;
    let accounts: Api<ServiceAccount> = Api::namespaced(c.admin(), "default");
    let secrets: Api<Secret> = Api::namespaced(c.admin(), "default");
    let pods: Api<Pod> = Api::namespaced(c.admin(), "default");
    let params = PostParams::default();

    // Two that look as if a cluster of old had made them, one that somebody made.
    let term = c.control(Clock::default());
    let names = ["unasked", "mounted", "asked"];
    let robot = json!({"metadata": {"name": "robot"},
        "secrets": [{"name": "unasked"}, {"name": "mounted"}]});
    let robot = serde_json::from_value(robot).unwrap();
    accounts.create(&params, &robot).await.unwrap();
    for name in names {
        let of = json!({"kubernetes.io/service-account.name": "robot"});
        let secret = json!({"metadata": {"name": name, "annotations": of},
            "type": "kubernetes.io/service-account-token"});
        let secret = serde_json::from_value(secret).unwrap();
        secrets.create(&params, &secret).await.unwrap();
    }
    let token = async |name: &str| {
        let secret = secrets.get(name).await.unwrap();
        let token = secret.data?.remove("token")?;
        Some(String::from_utf8(token.0).unwrap())
    };
    let mut tokens = Vec::new();
    for name in names {
        tokens.push(eventually("a token", async || token(name).await).await);
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    eventually("the namespace's account", async || {
        pods.create(&params, &pod).await.ok()
    })
    .await;
    for token in &tokens[1..] {
        let robot = Some("system:serviceaccount:default:robot".to_owned());
        assert_eq!(whom(&c, token).await, robot);
    }
    term.end().await;

    // As long as it is not known who uses what, nothing happens.
    let term = c.control(Clock(soon));
    let account = json!({"metadata": {"name": "a"}});
    let account = serde_json::from_value(account).unwrap();
    accounts.create(&params, &account).await.unwrap();
    let secret = json!({"metadata": {"name": "late",
        "annotations": {"kubernetes.io/service-account.name": "a"}},
        "type": "kubernetes.io/service-account-token"});
    let secret = serde_json::from_value(secret).unwrap();
    secrets.create(&params, &secret).await.unwrap();
    eventually("a token", async || token("late").await).await;
    term.end().await;
    for name in names {
        assert_eq!(marked(&secrets.get(name).await.unwrap()), None, "{name}");
    }

    let term = c.control(Clock(in_a_year));
    let since = eventually("a mark", async || {
        marked(&secrets.get("unasked").await.unwrap())
    })
    .await;
    assert_eq!(since, in_a_year().to_string()[..10]);
    assert_eq!(whom(&c, &tokens[0]).await, None, "it is good no longer");
    term.end().await;

    let term = c.control(Clock(in_two_years));
    eventually("the end of the Secret", async || {
        let gone = secrets.get_opt("unasked").await.unwrap().is_none();
        gone.then_some(())
    })
    .await;
    // The account names it no longer.
    eventually("the account without it", async || {
        let named = accounts.get("robot").await.unwrap().secrets?;
        let names: Vec<_> = named.into_iter().filter_map(|s| s.name).collect();
        (names == ["mounted"]).then_some(())
    })
    .await;
    term.end().await;
    for name in &names[1..] {
        assert_eq!(marked(&secrets.get(name).await.unwrap()), None, "{name}");
    }
    c.finish().await;
}
