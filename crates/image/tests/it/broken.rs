//! Registries that hang up, lie, or send something else.

use image::{Config, Images, PullErrorKind, PullFailure, Reference};

use crate::build::{Pack, Tar, TestStore, build, noise, pack};
use crate::server::{Server, Trick};

const SIZE: usize = 1 << 20;

struct Case {
    server: Server,
    store: TestStore,
    name: Reference,
    /// Path of the layer's blob.
    path: String,
    size: usize,
}

async fn case() -> Case {
    let server = Server::start().await;
    let image = build(&[Tar::default().file("data", noise(SIZE, 7)).pack(Pack::Gzip)]);
    server.add_image("app", &image);
    let name = Reference::parse(&format!("{}/app", server.host)).unwrap();
    let path = format!("app/blobs/{}", image.layers[0].digest());
    Case {
        server,
        store: TestStore::new(),
        name,
        path,
        size: image.layers[0].bytes.len(),
    }
}

fn check_content(store: &TestStore, name: &Reference) {
    let image = store.images.get(&name.to_string()).unwrap();
    let snapshot = store.images.prepare(&image, "check").unwrap();
    assert_eq!(
        std::fs::read(snapshot.merged.join("data")).unwrap(),
        noise(SIZE, 7)
    );
    assert!(store.names("ingest").is_empty() && store.names("tmp").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_resumed_where_it_broke() {
    let case = case().await;
    case.server.trick(
        &case.path,
        Some(Trick::HangUp {
            after: 200_000,
            times: 2,
        }),
    );
    case.store.images.pull(&case.name, &[], None).await.unwrap();
    assert_eq!(
        case.server.sent(&case.path),
        case.size,
        "no byte comes twice: {:?}",
        case.server.log()
    );
    check_content(&case.store, &case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_again() {
    let case = case().await;
    case.server
        .trick(&case.path, Some(Trick::NoRanges { after: 300_000 }));
    case.store.images.pull(&case.name, &[], None).await.unwrap();
    check_content(&case.store, &case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_never_completes_fails_and_is_resumed_after_a_restart() {
    let Case {
        server,
        store,
        name,
        path,
        size,
    } = case().await;
    // Each answer begins where the last one ended, and brings nothing but the first.
    server.trick(
        &path,
        Some(Trick::HangUp {
            after: 0,
            times: 1000,
        }),
    );
    let error = store.images.pull(&name, &[], None).await.unwrap_err();
    assert_eq!(
        error.kind(),
        PullErrorKind::Unavailable,
        "{}",
        error.message()
    );
    assert!(
        error.message().contains("unexpected EOF after 0 of"),
        "{}",
        error.message()
    );
    server.trick(
        &path,
        Some(Trick::HangUp {
            after: 400_000,
            times: 1,
        }),
    );
    let pull = store.images.pull(&name, &[], None);
    // Give up in the middle, as a process that ends does.
    let begun = async {
        while server.sent(&path) < 300_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = pull => {}
        () = begun => {}
    }
    let before = server.sent(&path);
    server.trick(&path, None);
    let dir = store.dir.path().to_path_buf();
    let store = reopen(store).await;
    store.images.pull(&name, &[], None).await.unwrap();
    let ranged = server
        .log()
        .iter()
        .filter(|line| line.contains(" from "))
        .count();
    assert!(ranged >= 1, "{before} of {size}: {:?}", server.log());
    assert!(dir.join("images.json").exists());
    check_content(&store, &name);
}

/// Closes a store, whose threads may still be at work, and opens it again.
async fn reopen(store: TestStore) -> TestStore {
    let dir = tempfile::TempDir::new().unwrap();
    let TestStoreParts { images, old } = parts(store);
    drop(images);
    loop {
        match Images::open(old.path(), Config::default()) {
            Ok(images) => {
                drop(dir);
                return TestStore { images, dir: old };
            }
            Err(image::ImageError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

struct TestStoreParts {
    images: Images,
    old: tempfile::TempDir,
}

fn parts(mut store: TestStore) -> TestStoreParts {
    let spare = TestStore::new();
    let images = std::mem::replace(&mut store.images, spare.images.clone());
    let old = std::mem::replace(&mut store.dir, tempfile::TempDir::new().unwrap());
    TestStoreParts { images, old }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_is_discarded() {
    let case = case().await;
    let mut bytes = pack(
        Tar::default().file("data", noise(SIZE, 7)).end(),
        Pack::Gzip,
    )
    .bytes;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    case.server
        .add(&case.path, "application/octet-stream", &bytes);
    let error = case
        .store
        .images
        .pull(&case.name, &[], None)
        .await
        .unwrap_err();
    assert!(
        matches!(error.failure, PullFailure::Digest { .. }),
        "{}",
        error.message()
    );
    assert_eq!(error.kind(), PullErrorKind::InvalidImage);
    assert!(case.store.names("layers").is_empty() && case.store.names("ingest").is_empty());
    assert!(case.store.names("tmp").is_empty());

    // More than was announced.
    bytes[middle] ^= 1;
    bytes.extend_from_slice(&[0; 5000]);
    case.server
        .add(&case.path, "application/octet-stream", &bytes);
    let error = case
        .store
        .images
        .pull(&case.name, &[], None)
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        PullErrorKind::InvalidImage,
        "{}",
        error.message()
    );
    assert!(case.store.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_part_that_is_damaged_is_fetched_again() {
    let case = case().await;
    let hex = case.path.rsplit(':').next().unwrap();
    std::fs::write(
        case.store.dir.path().join("ingest").join(hex),
        noise(5000, 99),
    )
    .unwrap();
    case.store.images.pull(&case.name, &[], None).await.unwrap();
    check_content(&case.store, &case.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_must_be_what_the_configuration_says() {
    let server = Server::start().await;
    let mut layer = Tar::default().file("a", "b").pack(Pack::Zstd);
    layer.diff_id = image::Digest::of(b"something else");
    server.add_image("app", &build(&[layer]));
    let store = TestStore::new();
    let name = Reference::parse(&format!("{}/app", server.host)).unwrap();
    let error = store.images.pull(&name, &[], None).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("wrong diff id calculated on extraction"),
        "{}",
        error.message()
    );
    assert!(store.names("layers").is_empty() && store.names("tmp").is_empty());
}
