//! What layers do to a file system, seen through a real overlay; and what hostile ones may not.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use image::{Config, ImageError, LayerError, Limits};

use crate::build::{Pack, Tar, TestStore, import, pack};

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_hide_what_is_below() {
    let store = TestStore::new();
    let lower = Tar::default()
        .folder("a", 0o755)
        .file("a/gone", "x")
        .file("a/stays", "x")
        .folder("opaque", 0o755)
        .file("opaque/old", "x")
        .folder("remade", 0o755)
        .file("remade/old", "x")
        .folder("late", 0o755)
        .file("late/old", "x")
        .folder("removed", 0o755)
        .file("removed/f", "x")
        .file("became_folder", "x")
        .folder("implied", 0o755)
        .file("implied/old", "x");
    let upper = Tar::default()
        .file("a/.wh.gone", "")
        .folder("opaque", 0o755)
        .file("opaque/new", "y")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh.remade", "")
        .folder("remade", 0o755)
        .file("remade/new", "y")
        .folder("late", 0o755)
        .file("late/new", "y")
        .file(".wh.late", "")
        .file(".wh.removed", "")
        .file(".wh.became_folder", "")
        .folder("became_folder", 0o755)
        .file("became_folder/f", "y")
        .file(".wh.implied", "")
        .file("implied/new", "y")
        .folder(".wh..wh.plnk", 0o700)
        .file(".wh..wh.plnk/1.2", "");
    let layers = [lower.pack(Pack::Gzip), upper.pack(Pack::Zstd)];
    let image = import(&store, "white", &layers).await.unwrap();
    let root = store.images.prepare(&image, "w").unwrap().merged;
    let list = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(root.join(path))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(list(""), "a became_folder implied late opaque remade");
    for (folder, content) in [
        ("a", "stays"),
        ("opaque", "new"),
        ("remade", "new"),
        ("late", "new"),
        ("became_folder", "f"),
        ("implied", "new"),
    ] {
        assert_eq!(list(folder), content, "{folder}");
    }
    // The mount is writable, and says what was written.
    fs::write(root.join("own"), vec![1; 100_000]).unwrap();
    fs::remove_file(root.join("a/stays")).unwrap();
    let usage = store.images.snapshot_usage("w").unwrap();
    assert!(
        usage.used_bytes >= 100_000 && usage.inodes >= 3,
        "{usage:?}"
    );
    store.images.release("w").unwrap();
    store.images.release("w").unwrap();
    assert!(!root.exists());
    let again = store.images.prepare(&image, "w").unwrap().merged;
    assert!(again.join("a/stays").exists() && !again.join("own").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_kept() {
    let store = TestStore::new();
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]; // cap_net_raw+ep
    let long = format!("deep/{}", "n".repeat(180));
    let base = Tar::default()
        .entry("./", b'5', |h| h.set_mode(0o751), b"")
        .folder("tmp", 0o1777)
        .entry(
            "home",
            b'5',
            |h| {
                h.set_mode(0o700);
                h.set_uid(1000);
                h.set_gid(1001);
            },
            b"",
        )
        .entry(
            "suid",
            b'0',
            |h| {
                h.set_mode(0o4755);
                h.set_uid(7);
                h.set_gid(8);
            },
            b"s",
        )
        .pax("SCHILY.xattr.security.capability", &capability)
        .file("ping", "p")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .folder("sly", 0o755)
        .pax("path", long.as_bytes())
        .file("short", "long")
        .pax("mtime", b"123456789.5")
        .file("old", "o")
        .hardlink("linked", "suid")
        .symlink("sym", "old")
        .entry(
            "null",
            b'3',
            |h| {
                h.set_device_major(1).unwrap();
                h.set_device_minor(3).unwrap();
                h.set_mode(0o666);
            },
            b"",
        )
        .entry("fifo", b'6', |_| {}, b"");
    // Folders that are not listed look as they did below.
    let upper = Tar::default().file("tmp/x", "x").file("home/sub/y", "y");
    let layers = [base.pack(Pack::Gzip), upper.pack(Pack::Gzip)];
    let image = import(&store, "meta", &layers).await.unwrap();
    let root = store.images.prepare(&image, "m").unwrap().merged;
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    let facts = |path: &str| {
        let s = stat(path);
        (s.mode() & 0o7777, s.uid(), s.gid())
    };
    assert_eq!(facts(""), (0o751, 0, 0));
    assert_eq!(facts("tmp"), (0o1777, 0, 0));
    assert_eq!(facts("home"), (0o700, 1000, 1001));
    assert_eq!(facts("home/sub"), (0o755, 0, 0));
    assert_eq!(facts("suid"), (0o4755, 7, 8));
    assert_eq!(stat("suid").ino(), stat("linked").ino());
    assert_eq!(
        (stat("old").mtime(), stat("old").mtime_nsec()),
        (123_456_789, 500_000_000)
    );
    assert_eq!(stat("home").mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(root.join("sym")).unwrap(), Path::new("old"));
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "long");
    assert!(stat("null").file_type().is_char_device() && stat("fifo").file_type().is_fifo());
    fs::write(root.join("null"), "into the void").unwrap();
    let mut value = [0; 64];
    let length =
        rustix::fs::getxattr(root.join("ping"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    let sly = store
        .dir
        .path()
        .join("layers")
        .join(image.layers[0].hex())
        .join("fs/sly");
    assert!(rustix::fs::getxattr(sly, "trusted.overlay.opaque", &mut value).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_outside() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let out = outside.path().to_str().unwrap();
    let up = "../".repeat(20);
    let cases: Vec<(&str, Tar, bool)> = vec![
        (
            "climbing name",
            Tar::default().file(&format!("{up}tmp/evil"), "x"),
            false,
        ),
        (
            "climbing folder",
            Tar::default().folder("a/../../b", 0o755),
            false,
        ),
        (
            "climbing hard link",
            Tar::default().hardlink("l", &format!("{up}etc/passwd")),
            false,
        ),
        (
            "hard link to outside",
            Tar::default().hardlink("l", victim.to_str().unwrap()),
            false,
        ),
        (
            "hard link through a link",
            Tar::default().symlink("s", out).hardlink("l", "s/victim"),
            false,
        ),
        (
            "write through an absolute link",
            Tar::default().symlink("s", out).file("s/victim", "evil"),
            true,
        ),
        (
            "write through a relative link",
            Tar::default()
                .symlink("s", &format!("{up}{out}"))
                .file("s/victim", "evil"),
            true,
        ),
        (
            "write over a link to outside",
            Tar::default()
                .symlink("f", victim.to_str().unwrap())
                .file("f", "evil"),
            true,
        ),
        (
            "link of links",
            Tar::default()
                .symlink("a", out)
                .symlink("b", "a")
                .file("b/victim", "evil"),
            true,
        ),
        (
            "folder over a link",
            Tar::default()
                .symlink("d", out)
                .folder("d", 0o777)
                .file("d/victim", "evil"),
            true,
        ),
        (
            "mode through a link",
            Tar::default().symlink("m", out).folder("m/", 0o777),
            true,
        ),
        (
            "whiteout through a link",
            Tar::default().symlink("w", out).file("w/.wh.victim", ""),
            true,
        ),
        (
            "whiteout of dots",
            Tar::default().file("x/.wh...", ""),
            false,
        ),
        (
            "link to itself",
            Tar::default().symlink("a", "a").file("a/b", "x"),
            false,
        ),
        (
            "links in a circle",
            Tar::default()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", "x"),
            false,
        ),
    ];
    let before = fs::metadata(outside.path()).unwrap();
    for (number, (what, tar, accepted)) in cases.into_iter().enumerate() {
        let store = TestStore::new();
        let result = import(&store, &format!("evil{number}"), &[tar.pack(Pack::Gzip)]).await;
        assert_eq!(
            result.is_ok(),
            accepted,
            "{what}: {:?}",
            result.map(|i| i.id).map_err(|e| stdx::chain(&e))
        );
        if let Err(error) = result {
            assert!(
                matches!(error, ImageError::Layer { .. }),
                "{what}: {error:?}"
            );
            assert!(
                store.names("layers").is_empty() && store.names("tmp").is_empty(),
                "{what}"
            );
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
        let after = fs::metadata(outside.path()).unwrap();
        assert_eq!(
            (after.permissions().mode(), after.uid()),
            (before.permissions().mode(), before.uid()),
            "{what}"
        );
        assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1, "{what}");
    }
    assert!(!Path::new("/tmp/evil").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_and_rubbish_are_refused() {
    let limits = Limits {
        max_entries: 1000,
        max_unpacked_bytes: 8 << 20,
        ..Limits::default()
    };
    let config = || Config {
        limits,
        ..Config::default()
    };
    let mut many = Tar::default();
    for number in 0..1001 {
        many = many.file(&format!("f{number}"), "");
    }
    let mut flipped = Tar::default().file("a", "b").end();
    flipped[10] ^= 1;
    let endless = |header: u8| {
        // Announces a name of four gigabytes.
        Tar::default()
            .entry("x", header, |h| h.set_size(4 << 30), b"")
            .end()
    };
    let truncated = {
        let mut tar = Tar::default()
            .entry("x", b'0', |h| h.set_size(1 << 20), b"abc")
            .end();
        tar.truncate(700);
        tar
    };
    for (what, tar, expected) in [
        ("entries", many.end(), "limit of 1000 entries"),
        (
            "bytes",
            Tar::default().file("zeros", vec![0; 9 << 20]).end(),
            "limit of 8388608 bytes",
        ),
        ("checksum", flipped, "invalid tar header"),
        ("long name", endless(b'L'), "metadata record too large"),
        ("pax", endless(b'x'), "metadata record too large"),
        (
            "pax rubbish",
            Tar::default()
                .entry("p", b'x', |_| {}, b"99999 a=b\n")
                .end(),
            "malformed pax record",
        ),
        ("truncated", truncated, "failed to read the layer's archive"),
        (
            "nul",
            Tar::default().pax("path", b"a\0b").file("x", "").end(),
            "invalid name",
        ),
    ] {
        for how in [Pack::Gzip, Pack::Zstd] {
            let store = TestStore::with(config());
            let error = import(&store, "bomb", &[pack(tar.clone(), how)])
                .await
                .unwrap_err();
            let message = stdx::chain(&error);
            assert!(message.contains(expected), "{what}: {message}");
            assert!(
                store.names("layers").is_empty() && store.names("tmp").is_empty(),
                "{what}"
            );
        }
    }
    let store = TestStore::with(config());
    let mut bzip = pack(Tar::default().end(), Pack::Plain);
    bzip.bytes = b"BZh91AY&SY".to_vec();
    let error = import(&store, "bzip", &[bzip]).await.unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::Layer {
                source: LayerError::Compression { name: "bzip2" },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_as_deep_as_they_come_can_be_removed() {
    let store = TestStore::new();
    // Each link leads 100 folders deeper than names can.
    let mut tar = Tar::default();
    let step = ["d"; 45].join("/");
    let mut base = "0".to_string();
    for level in 1..60 {
        tar = tar.folder(&format!("{base}/{step}"), 0o755);
        let next = format!("l{level}");
        tar = tar.symlink(&next, &format!("{base}/{step}"));
        base = next;
    }
    // More links in a chain than the kernel follows, after some 1800 folders.
    let error = import(&store, "deep", &[tar.pack(Pack::Gzip)])
        .await
        .unwrap_err();
    assert!(
        stdx::chain(&error).contains("Too many levels of symbolic links"),
        "{error:?}"
    );
    assert!(store.names("layers").is_empty() && store.names("tmp").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_layers_equal_layers_and_no_layers_mount() {
    let store = TestStore::new();
    let mut layers: Vec<_> = (0..130)
        .map(|n| {
            Tar::default()
                .file(&format!("f{n}"), n.to_string())
                .pack(Pack::Gzip)
        })
        .collect();
    let same = Tar::default().file("same", "1").pack(Pack::Gzip);
    layers.insert(0, same.clone());
    layers.push(same);
    let image = import(&store, "many", &layers).await.unwrap();
    let begin = std::time::Instant::now();
    let snapshot = store.images.prepare(&image, "many").unwrap();
    println!(
        "mount of {} layers: {:?}",
        snapshot.lower.len(),
        begin.elapsed()
    );
    assert_eq!(fs::read_dir(&snapshot.merged).unwrap().count(), 131);
    let empty = import(&store, "empty", &[]).await.unwrap();
    let snapshot = store.images.prepare(&empty, "empty").unwrap();
    fs::write(snapshot.merged.join("x"), "y").unwrap();
    // The same id again is the same mount; a bad id is none.
    assert_eq!(
        fs::read_to_string(
            store
                .images
                .prepare(&empty, "empty")
                .unwrap()
                .merged
                .join("x")
        )
        .unwrap(),
        "y"
    );
    for id in ["", "../x", "a/b", ".", ".hidden"] {
        assert!(
            matches!(
                store.images.prepare(&empty, id),
                Err(ImageError::SnapshotId { .. })
            ),
            "{id}"
        );
    }
}
