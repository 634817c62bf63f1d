//! Pushing to and pulling from a real registry.

use std::collections::BTreeMap;
use std::sync::Mutex;

use image::{Auth, Config, Digest, Keyring, LayerStatus, Mirror, PullErrorKind, Reference, Stage};
use serde_json::json;

use crate::build::{Blob, Pack, Tar, TestStore, build, build_for, import, noise};
use crate::server::{DockerRegistry, Server};

fn three_layers() -> Vec<Blob> {
    vec![
        Tar::default()
            .folder("etc", 0o755)
            .file("etc/one", "1")
            .file("big", noise(3 << 20, 1))
            .pack(Pack::Gzip),
        Tar::default().file("etc/two", "2").pack(Pack::Zstd),
        Tar::default().file("etc/three", "3").pack(Pack::Plain),
    ]
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_pulled() {
    let registry = DockerRegistry::start(None);
    let source = TestStore::new();
    let image = import(&source, "app:v1", &three_layers()).await.unwrap();
    let name = reference(&format!("{}/team/app:v1", registry.host));
    let pushed = source.images.push(&image, &name, &[], None).await.unwrap();

    let store = TestStore::new();
    let seen = Mutex::new(Vec::new());
    let progress = |layers: &[LayerStatus]| seen.lock().unwrap().push(layers.to_vec());
    let pulled = store
        .images
        .pull(&name, &[], Some(&progress))
        .await
        .unwrap();
    assert_eq!(pulled.id, image.id);
    assert_eq!(pulled.tags, [name.to_string()]);
    assert_eq!(pulled.digests, [name.with_digest(pushed).to_string()]);
    assert_eq!(
        pulled.config.config().as_ref().unwrap().user().as_deref(),
        Some("1000:1000")
    );
    assert!(
        pulled.size_bytes > 6 << 20,
        "unpacked and packed: {}",
        pulled.size_bytes
    );
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert!(
        last.iter()
            .all(|l| l.stage == Stage::Done && l.done_bytes == l.total_bytes),
        "{last:?}"
    );

    let snapshot = store.images.prepare(&pulled, "c1").unwrap();
    for (file, content) in [("etc/one", "1"), ("etc/two", "2"), ("etc/three", "3")] {
        assert_eq!(
            std::fs::read_to_string(snapshot.merged.join(file)).unwrap(),
            content
        );
    }
    // Found by each of its names, and in the same way after a restart.
    let id = pulled.id.to_string();
    for text in [
        id.as_str(),
        &id[7..],
        &id[7..19],
        &name.to_string(),
        &pulled.digests[0],
    ] {
        assert_eq!(
            store.images.get(text).map(|i| i.id),
            Some(pulled.id),
            "{text}"
        );
    }
    assert!(store.images.get("nothing").is_none());
    assert!(
        source.images.get("app:v1").is_some()
            && source.images.get("docker.io/library/app:v1").is_some()
    );

    // By digest, and again by tag: nothing is transferred.
    seen.lock().unwrap().clear();
    store
        .images
        .pull(&name.with_digest(pushed), &[], Some(&progress))
        .await
        .unwrap();
    store
        .images
        .pull(&name, &[], Some(&progress))
        .await
        .unwrap();
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert!(last.iter().all(|l| l.stage == Stage::Exists), "{last:?}");

    // Another name for the same content, pushed: blobs are there already.
    let other = reference(&format!("{}/team/app:v2", registry.host));
    store.images.tag(&pulled, &other).unwrap();
    assert_eq!(
        store
            .images
            .push(&pulled, &other, &[], Some(&progress))
            .await
            .unwrap(),
        pushed
    );
    assert!(
        seen.lock()
            .unwrap()
            .last()
            .unwrap()
            .iter()
            .all(|l| l.stage == Stage::Exists)
    );
    store.images.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_decide() {
    let registry = DockerRegistry::start(Some(("anna", "secret")));
    let source = TestStore::new();
    let image = import(&source, "app", &three_layers()).await.unwrap();
    let name = reference(&format!("{}/private/app", registry.host));
    let json = json!({ "auths": { registry.host.as_str(): { "auth": "YW5uYTpzZWNyZXQ=" } } });
    let mut keyring = Keyring::default();
    keyring
        .add_docker_config(json.to_string().as_bytes())
        .unwrap();
    let good = keyring.lookup(&name);
    let bad = Auth::basic("anna", "guess");

    let refused = source
        .images
        .push(&image, &name, &[], None)
        .await
        .unwrap_err();
    assert_eq!(
        refused.kind(),
        PullErrorKind::Unauthorized,
        "{}",
        refused.message()
    );
    source
        .images
        .push(&image, &name, &good, None)
        .await
        .unwrap();

    let store = TestStore::new();
    let anonymous = store.images.pull(&name, &[], None).await.unwrap_err();
    assert_eq!(anonymous.kind(), PullErrorKind::Unauthorized);
    assert_eq!(
        anonymous.message(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": pull access denied, \
             repository does not exist or may require authorization: authorization failed: no basic auth credentials"
        )
    );
    let wrong = store
        .images
        .pull(&name, std::slice::from_ref(&bad), None)
        .await
        .unwrap_err();
    assert_eq!(
        wrong.kind(),
        PullErrorKind::Unauthorized,
        "{}",
        wrong.message()
    );
    assert!(!format!("{wrong:?} {}", wrong.message()).contains("guess"));
    // Credentials are tried in turn.
    let both = [vec![bad], good].concat();
    assert_eq!(
        store.images.pull(&name, &both, None).await.unwrap().id,
        image.id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_failed() {
    let registry = DockerRegistry::start(None);
    let store = TestStore::new();
    let name = reference(&format!("{}/no/such:tag", registry.host));
    let error = store.images.pull(&name, &[], None).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::NotFound);
    assert_eq!(
        error.message(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
        )
    );
    drop(registry);
    let error = store.images.pull(&name, &[], None).await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Unavailable);
    assert!(
        error
            .message()
            .contains("failed to do request: Get \"http://127.0.0.1:"),
        "{}",
        error.message()
    );
    assert!(
        error.message().contains("Connection refused"),
        "{}",
        error.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_to_be_allowed() {
    let server = Server::start().await;
    server.add_image("app", &build(&three_layers()));
    // A name that is this machine but does not look like it.
    let port = server.host.rsplit(':').next().unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_string();
    let resolves = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 1))
        .is_ok_and(|mut addresses| addresses.any(|address| address.ip().is_loopback()));
    let dotted = format!("{host}:{port}");
    if !resolves || host.bytes().any(|b| b == b'_') {
        println!(
            "SKIPPED: plain_http_needs_to_be_allowed: the host name {host} is no loopback address"
        );
        return;
    }
    let name = reference(&format!("{dotted}/app"));
    let error = TestStore::new()
        .images
        .pull(&name, &[], None)
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .contains("server gave HTTP response to HTTPS client"),
        "{}",
        error.message()
    );
    let allowed = TestStore::with(Config {
        insecure_registries: vec![dotted],
        ..Config::default()
    });
    allowed.images.pull(&name, &[], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_and_may_be_down() {
    let server = Server::start().await;
    let image = build(&three_layers());
    server.add_image("cache/library/app", &image);
    server.add_image("library/app", &image);
    let mirror = |url: String| Mirror { url, auth: None };
    let mirrors = BTreeMap::from([(
        "docker.io".to_string(),
        vec![
            mirror("http://127.0.0.1:1".into()),
            mirror(format!("http://{}", server.host)),
        ],
    )]);
    let store = TestStore::with(Config {
        mirrors,
        ..Config::default()
    });
    let secret = [Auth::basic("user", "for-docker-hub")];
    let pulled = store
        .images
        .pull(&reference("app"), &secret, None)
        .await
        .unwrap();
    assert_eq!(pulled.tags, ["docker.io/library/app:latest"]);
    let log = server.log();
    assert!(
        log.iter().all(|line| line.contains("?ns=docker.io")),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_this_machines_image() {
    let server = Server::start().await;
    let own = build(&three_layers());
    let foreign = build_for(&[Tar::default().file("x", "y").pack(Pack::Gzip)], "s390x");
    let host = image::Platform::host();
    let entry = |bytes: &[u8], architecture: &str| {
        json!({ "digest": Digest::of(bytes), "size": bytes.len(), "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "platform": { "os": "linux", "architecture": architecture } })
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [entry(&foreign.manifest, "s390x"), entry(&own.manifest, &host.architecture)],
    });
    let index = index.to_string().into_bytes();
    server.add(
        "multi/manifests/latest",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        &index,
    );
    server.add_content("multi", &own);
    let store = TestStore::new();
    let name = reference(&format!("{}/multi", server.host));
    let pulled = store.images.pull(&name, &[], None).await.unwrap();
    assert_eq!(pulled.id, Digest::of(&own.config));
    assert_eq!(
        pulled.digests,
        [name.with_digest(Digest::of(&index)).to_string()]
    );

    // Only for others: by an index, and by the configuration alone.
    let index = json!({ "schemaVersion": 2, "manifests": [entry(&foreign.manifest, "s390x")] });
    server.add(
        "others/manifests/latest",
        "application/vnd.oci.image.index.v1+json",
        index.to_string().as_bytes(),
    );
    server.add_image("other", &foreign);
    for repository in ["others", "other"] {
        let name = reference(&format!("{}/{repository}", server.host));
        let error = store.images.pull(&name, &[], None).await.unwrap_err();
        assert_eq!(error.kind(), PullErrorKind::NotFound);
        assert!(
            error.message().contains("no match for platform"),
            "{}",
            error.message()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_one_name_are_one_pull() {
    let server = Server::start().await;
    let image = build(&three_layers());
    server.add_image("app", &image);
    let store = TestStore::new();
    let name = reference(&format!("{}/app", server.host));
    let ids = futures::future::join_all((0..8).map(|_| store.images.pull(&name, &[], None))).await;
    assert!(
        ids.iter()
            .all(|result| result.as_ref().unwrap().id == Digest::of(&image.config))
    );
    let blobs = server
        .log()
        .iter()
        .filter(|line| line.contains("/blobs/"))
        .count();
    assert_eq!(blobs, 4, "{:?}", server.log());
    // Different names with the same layers at the same time: each layer comes once.
    server.add_image("copy", &build(&three_layers()[..2]));
    server.add_image("clone", &build(&three_layers()[..1]));
    let store = TestStore::new();
    let names = ["app", "copy", "clone"].map(|r| reference(&format!("{}/{r}", server.host)));
    futures::future::try_join_all(names.iter().map(|name| store.images.pull(name, &[], None)))
        .await
        .unwrap();
    let layer = format!("app/blobs/{}", image.layers[0].digest());
    let fetched = server
        .log()
        .iter()
        .filter(|l| l.contains(&layer[4..]))
        .count();
    assert_eq!(fetched, 2, "once for each store: {:?}", server.log());
}
