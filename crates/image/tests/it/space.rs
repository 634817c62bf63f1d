//! Names, removal, and giving space back.

use std::collections::HashSet;

use image::{Config, ImageError, Images, Reference};

use crate::build::{Pack, Tar, TestStore, import, noise};

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_unused_images_go_first() {
    let store = TestStore::new();
    let shared = Tar::default()
        .file("shared", noise(50_000, 1))
        .pack(Pack::Gzip);
    let mut ids = Vec::new();
    for name in ["pinned", "used", "mounted", "idle"] {
        let own = Tar::default()
            .file(name, noise(50_000, name.len() as u64))
            .pack(Pack::Gzip);
        ids.push(import(&store, name, &[shared.clone(), own]).await.unwrap());
    }
    store.images.pin(&ids[0], true).unwrap();
    store.images.prepare(&ids[2], "m").unwrap();
    let in_use = HashSet::from([ids[1].id]);
    // Not full: nothing happens. Full by definition: all goes that may.
    assert!(
        store
            .images
            .collect(&in_use, 101, 100)
            .unwrap()
            .images
            .is_empty()
    );
    let layers = store.names("layers").len();
    let collected = store.images.collect(&in_use, 0, 0).unwrap();
    assert_eq!(collected.images, [ids[3].id]);
    assert!(
        collected.freed_bytes >= 100_000 && collected.freed_bytes < 200_000,
        "{collected:?}"
    );
    assert_eq!(store.names("layers").len(), layers - 1);
    assert!(store.images.get("idle").is_none() && store.images.get("used").is_some());

    // Removing an image that a container stands on takes its name; its layers go later.
    store.images.remove("mounted").unwrap();
    let root = store.dir.path().join("snapshots/m/merged");
    assert!(root.join("mounted").exists());
    assert_eq!(store.names("layers").len(), layers - 1);
    assert_eq!(store.images.retain(&HashSet::new()).unwrap(), ["m"]);
    store.images.collect(&HashSet::new(), 101, 100).unwrap();
    assert_eq!(store.names("layers").len(), layers - 2);
    assert!(store.images.disk().unwrap().capacity_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_move_and_go_one_by_one() {
    let store = TestStore::new();
    let one = import(
        &store,
        "app:1",
        &[Tar::default().file("v", "1").pack(Pack::Gzip)],
    )
    .await
    .unwrap();
    let latest = Reference::parse("app").unwrap();
    store.images.tag(&one, &latest).unwrap();
    let two = import(
        &store,
        "app",
        &[Tar::default().file("v", "2").pack(Pack::Gzip)],
    )
    .await
    .unwrap();
    assert_eq!(store.images.get("app").unwrap().id, two.id);
    assert_eq!(
        store.images.get("app:1").unwrap().tags,
        ["docker.io/library/app:1"]
    );
    store
        .images
        .tag(&two, &Reference::parse("app:2").unwrap())
        .unwrap();
    store.images.remove("app:2").unwrap();
    assert_eq!(store.images.get("app").unwrap().id, two.id);
    store.images.remove("app").unwrap();
    assert!(store.images.get(&two.id.to_string()).is_none());
    store.images.remove(&one.id.to_string()).unwrap();
    assert!(matches!(
        store.images.remove("app:1"),
        Err(ImageError::NotFound { .. })
    ));
    assert!(store.names("layers").is_empty() && store.names("blobs/sha256").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_synced_before_a_crash_of_the_machine_is_forgotten() {
    let store = TestStore::new();
    let kept = import(
        &store,
        "kept",
        &[Tar::default().file("v", "1").pack(Pack::Gzip)],
    )
    .await
    .unwrap();
    store.images.close().await;
    import(
        &store,
        "lost",
        &[Tar::default().file("v", "2").pack(Pack::Gzip)],
    )
    .await
    .unwrap();
    store.images.close().await;
    assert!(matches!(
        Images::open(store.dir.path(), Config::default()),
        Err(ImageError::Locked { .. })
    ));
    let dir = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(store.dir.path())
        .arg(dir.path().join("s"))
        .status();
    assert!(copied.unwrap().success());
    // As if the machine had gone down before the second image was synced.
    let root = dir.path().join("s");
    let index = std::fs::read_to_string(root.join("images.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    for image in index["images"].as_array_mut().unwrap() {
        assert!(
            image.get("unsynced_boot").is_none(),
            "close() has waited for it"
        );
        if image["tags"][0] == "docker.io/library/lost:latest" {
            image["unsynced_boot"] = "another boot".into();
        }
    }
    std::fs::write(root.join("images.json"), index.to_string()).unwrap();
    std::fs::write(root.join("boot"), "another boot").unwrap();
    let images = Images::open(&root, Config::default()).unwrap();
    assert_eq!(
        images.list().into_iter().map(|i| i.id).collect::<Vec<_>>(),
        [kept.id]
    );
    assert_eq!(std::fs::read_dir(root.join("layers")).unwrap().count(), 1);
}
