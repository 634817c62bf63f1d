//! `kill -9` in the middle of a pull, at many moments.

use std::process::{Command, Stdio};
use std::time::Duration;

use image::{Config, Images, Reference};

use crate::build::{Pack, Tar, TestStore, build, noise};
use crate::server::{Server, Trick};

const CHILD_DIR: &str = "IMAGE_TEST_CHILD_DIR";
const CHILD_NAME: &str = "IMAGE_TEST_CHILD_NAME";

/// Not a test of its own: the process that the test below kills. Alone it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_pulls() {
    let (Ok(dir), Ok(name)) = (std::env::var(CHILD_DIR), std::env::var(CHILD_NAME)) else {
        return;
    };
    let images = Images::open(dir.as_ref(), Config::default()).unwrap();
    images
        .pull(&Reference::parse(&name).unwrap(), &[], None)
        .await
        .unwrap();
    images.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_leaves_a_store_that_works() {
    let server = Server::start().await;
    let layers = [1, 2, 3].map(|seed| {
        let tar = Tar::default()
            .file(&format!("file{seed}"), noise(300_000, seed))
            .folder("d", 0o755);
        tar.pack(if seed == 2 { Pack::Zstd } else { Pack::Gzip })
    });
    let image = build(&layers);
    server.add_image("app", &image);
    for layer in &layers {
        let path = format!("app/blobs/{}", layer.digest());
        server.trick(
            &path,
            Some(Trick::Slow {
                pause: Duration::from_micros(300),
            }),
        );
    }
    let name = Reference::parse(&format!("{}/app", server.host)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut completed = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_pulls", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_NAME, name.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(40 + 45 * round)).await;
        let _ = child.kill();
        completed += usize::from(child.wait().unwrap().success());
        let images = Images::open(dir.path(), Config::default()).unwrap();
        // All or nothing: an image that is listed can be mounted and is whole.
        for found in images.list() {
            let snapshot = images.prepare(&found, "check").unwrap();
            for seed in 1..=3 {
                let content = std::fs::read(snapshot.merged.join(format!("file{seed}"))).unwrap();
                assert_eq!(content, noise(300_000, seed));
            }
            images.release("check").unwrap();
        }
        assert_eq!(
            std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
            0
        );
    }
    println!("{completed} of 12 pulls came to their end before they were killed");
    let images = Images::open(dir.path(), Config::default()).unwrap();
    let pulled = images.pull(&name, &[], None).await.unwrap();
    let store = TestStore { images, dir };
    let snapshot = store.images.prepare(&pulled, "last").unwrap();
    assert_eq!(
        std::fs::read(snapshot.merged.join("file3")).unwrap(),
        noise(300_000, 3)
    );
    assert!(store.names("ingest").is_empty());
}
