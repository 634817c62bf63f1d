//! Importing and exporting, with skopeo as a second opinion.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use image::Reference;
use serde_json::json;

use crate::build::{Pack, Tar, TestStore, archive, build, import, noise};
use crate::server::DockerRegistry;

/// An archive as `docker save` wrote it for years, with one layer as a link to another.
fn docker_archive(path: &Path) -> image::Digest {
    let layer = Tar::default().file("hello", "docker").end();
    let blob = crate::build::pack(layer.clone(), Pack::Plain);
    let config = build(&[blob.clone(), blob]).config;
    let id = image::Digest::of(&config);
    let list = json!([{
        "Config": format!("{}.json", id.hex()),
        "RepoTags": ["old/school:1", "old/school:2"],
        "Layers": ["aaa/layer.tar", "bbb/layer.tar"],
    }]);
    let tar = Tar::default()
        .folder("aaa/", 0o755)
        .file("aaa/VERSION", "1.0")
        .file("aaa/layer.tar", layer)
        .symlink("bbb/layer.tar", "../aaa/layer.tar")
        .file(&format!("{}.json", id.hex()), config)
        .file("manifest.json", list.to_string())
        .file("repositories", "{}")
        .end();
    let mut gzip =
        flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_archives_come_in_and_go_out() {
    let store = TestStore::new();
    let path = store.dir.path().join("docker.tar.gz");
    let id = docker_archive(&path);
    let images = store.images.import(&path).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].id, id);
    assert_eq!(
        images[0].tags,
        ["docker.io/old/school:1", "docker.io/old/school:2"]
    );
    let root = store.images.prepare(&images[0], "d").unwrap().merged;
    assert_eq!(fs::read_to_string(root.join("hello")).unwrap(), "docker");

    // Two images in one archive, read by another store.
    import(
        &store,
        "second",
        &[Tar::default().file("x", noise(5000, 3)).pack(Pack::Zstd)],
    )
    .await
    .unwrap();
    let out = store.dir.path().join("out.tar");
    store
        .images
        .export(&["old/school:1", "second"], &out)
        .await
        .unwrap();
    let other = TestStore::new();
    let mut tags: Vec<String> = other
        .images
        .import(&out)
        .await
        .unwrap()
        .into_iter()
        .flat_map(|i| i.tags)
        .collect();
    tags.sort();
    assert_eq!(
        tags,
        ["docker.io/library/second:latest", "docker.io/old/school:1"]
    );
    assert!(store.images.export(&["missing"], &out).await.is_err());

    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("SKIPPED: the second opinion of skopeo: it is not installed");
        return;
    }
    skopeo(&store, &out).await;
}

async fn skopeo(store: &TestStore, out: &Path) {
    let dir = store.dir.path();
    let run = |args: &[&str]| {
        let output = Command::new("skopeo")
            .arg("--insecure-policy")
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "skopeo {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let docker = format!("docker-archive:{}:docker.io/old/school:1", out.display());
    assert!(run(&["inspect", "--config", &docker]).contains("A=b"));
    // Its Docker archive and its OCI archive of ours, and its schema 2 push.
    let theirs = dir.join("theirs.tar");
    run(&[
        "copy",
        &docker,
        &format!("docker-archive:{}:their/copy:3", theirs.display()),
    ]);
    assert_eq!(
        store.images.import(&theirs).await.unwrap()[0].tags[2],
        "docker.io/their/copy:3"
    );
    let oci = dir.join("oci.tar");
    run(&[
        "copy",
        &docker,
        &format!("oci-archive:{}:docker.io/oci/copy:4", oci.display()),
    ]);
    let imported = store.images.import(&oci).await.unwrap();
    assert!(
        imported[0]
            .tags
            .contains(&"docker.io/oci/copy:4".to_string()),
        "{:?}",
        imported[0].tags
    );
    let registry = DockerRegistry::start(None);
    let remote = format!("docker://{}/their/push:5", registry.host);
    run(&[
        "copy",
        "--dest-tls-verify=false",
        "--format=v2s2",
        &docker,
        &remote,
    ]);
    let name = Reference::parse(&format!("{}/their/push:5", registry.host)).unwrap();
    let pulled = store.images.pull(&name, &[], None).await.unwrap();
    let root = store.images.prepare(&pulled, "s").unwrap().merged;
    assert_eq!(fs::read_to_string(root.join("hello")).unwrap(), "docker");
    // What we push, it reads.
    let ours = Reference::parse(&format!("{}/our/push:6", registry.host)).unwrap();
    store.images.push(&pulled, &ours, &[], None).await.unwrap();
    run(&["inspect", "--tls-verify=false", &format!("docker://{ours}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_archives_are_refused() {
    let store = TestStore::new();
    let layer = Tar::default().file("x", "y").pack(Pack::Gzip);
    let good = archive(store.dir.path(), "app", std::slice::from_ref(&layer));
    let mut bytes = fs::read(&good).unwrap();
    let position = bytes
        .windows(layer.bytes.len())
        .position(|w| w == layer.bytes)
        .unwrap();
    bytes[position + 12] ^= 1;
    let bad = store.dir.path().join("bad.tar");
    for (bytes, expected) in [
        (bytes, "has the digest"),
        (b"no archive at all".to_vec(), "unexpected end of file"),
        (
            Tar::default().file("manifest.json", "[]").end(),
            "no image for linux/",
        ),
        (
            Tar::default()
                .file("manifest.json", r#"[{"Config":"x.json"}]"#)
                .end(),
            "x.json is missing",
        ),
        (
            fs::read(&good).unwrap()[..2000].to_vec(),
            "unexpected end of file",
        ),
    ] {
        fs::write(&bad, bytes).unwrap();
        let error = store.images.import(&bad).await.unwrap_err();
        assert!(
            stdx::chain(&error).contains(expected),
            "{expected}: {}",
            stdx::chain(&error)
        );
    }
    assert!(store.images.list().is_empty() && store.names("tmp").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_is_an_image() {
    let store = TestStore::new();
    let exe = store.dir.path().join("binary");
    fs::copy("/bin/busybox", &exe).unwrap();
    let begin = std::time::Instant::now();
    let image = store
        .images
        .add_builtin("knarr.local/hello:latest", &exe, &["hello"])
        .unwrap();
    println!("add_builtin: {:?}", begin.elapsed());
    assert_eq!(store.images.get("knarr.local/hello").unwrap().id, image.id);
    let config = image.config.config().as_ref().unwrap();
    assert_eq!(config.entrypoint().as_deref().unwrap(), ["/knarr", "hello"]);
    assert_eq!(config.exposed_ports().as_deref().unwrap(), ["8080/tcp"]);
    let root = store.images.prepare(&image, "b").unwrap().merged;
    assert_eq!(
        fs::read(root.join("knarr")).unwrap(),
        fs::read(&exe).unwrap()
    );
    assert_eq!(
        store
            .images
            .add_builtin("knarr.local/hello", &exe, &["hello"])
            .unwrap()
            .id,
        image.id
    );

    // As a real image, elsewhere.
    let registry = DockerRegistry::start(None);
    let name = Reference::parse(&format!("{}/hello", registry.host)).unwrap();
    store.images.push(&image, &name, &[], None).await.unwrap();
    let other = TestStore::new();
    let pulled = other.images.pull(&name, &[], None).await.unwrap();
    let copy = other
        .images
        .prepare(&pulled, "b")
        .unwrap()
        .merged
        .join("knarr");
    assert!(Command::new(copy).arg("true").status().is_ok());
    assert_eq!(
        pulled
            .config
            .config()
            .as_ref()
            .unwrap()
            .entrypoint()
            .as_deref()
            .unwrap(),
        ["/knarr", "hello"]
    );

    // A new binary is a new image under the old name; what runs is not disturbed.
    let new = store.dir.path().join("new");
    fs::write(&new, "#!/bin/sh\n").unwrap();
    fs::rename(&new, &exe).unwrap();
    let newer = store
        .images
        .add_builtin("knarr.local/hello", &exe, &["hello"])
        .unwrap();
    assert_ne!(newer.id, image.id);
    assert_eq!(store.images.list().len(), 1);
    assert_eq!(
        fs::read(root.join("knarr")).unwrap(),
        fs::read("/bin/busybox").unwrap()
    );

    // From another file system it is copied when it is first needed.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let far = shm.path().join("binary");
    fs::copy("/bin/busybox", &far).unwrap();
    let image = store
        .images
        .add_builtin("knarr.local/far", &far, &["hello"])
        .unwrap();
    let root = store.images.prepare(&image, "far").unwrap().merged;
    assert_eq!(
        fs::read(root.join("knarr")).unwrap(),
        fs::read(&far).unwrap()
    );
}
