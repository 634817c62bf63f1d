//! Tests of `logs`.

#![allow(clippy::unwrap_used, reason = "tests")]
use std::{fs, io::Write as _, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{follow, format, select::Options};

const LOG: &str = "2026-01-02T03:04:05.000000001Z stdout F one\n\
                   2026-01-02T03:04:06.000000001Z stderr F two\n\
                   2026-01-02T03:04:07.000000001Z stdout P thr\n\
                   2026-01-02T03:04:07.000000002Z stdout F ee\n\
                   2026-01-02T03:04:08.000000001Z stdout F \n";

async fn read(log: &str, options: Options) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, log).unwrap();
    let (tx, mut rx) = mpsc::channel(8);
    let (_alive, running) = watch::channel(false);
    let task = tokio::spawn(follow::stream(path, options, running, tx));
    let mut out = Vec::new();
    while let Some(chunk) = rx.recv().await {
        out.extend_from_slice(&chunk);
    }
    task.await.unwrap().unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn lines_are_selected() {
    let all = Options::default();
    let table = [
        (all.clone(), "one\ntwo\nthree\n\n"),
        (
            Options {
                tail_lines: Some(1),
                ..all.clone()
            },
            "\n",
        ),
        (
            Options {
                tail_lines: Some(0),
                ..all.clone()
            },
            "",
        ),
        (
            Options {
                tail_lines: Some(99),
                ..all.clone()
            },
            "one\ntwo\nthree\n\n",
        ),
        (
            Options {
                stream: Some("Stderr".into()),
                ..all.clone()
            },
            "two\n",
        ),
        (
            Options {
                limit_bytes: Some(6),
                ..all.clone()
            },
            "one\ntw",
        ),
        (
            Options {
                since: Some("2026-01-02T03:04:07Z".parse().unwrap()),
                ..all.clone()
            },
            "three\n\n",
        ),
        (
            Options {
                timestamps: true,
                tail_lines: Some(3),
                ..all
            },
            "2026-01-02T03:04:07.000000001Z three\n2026-01-02T03:04:08.000000001Z \n",
        ),
    ];
    for (options, want) in table {
        assert_eq!(read(LOG, options.clone()).await, want, "{options:?}");
    }
}

#[test]
fn broken_lines_are_skipped() {
    for line in [
        "",
        "x",
        "t stdout",
        "t other F x",
        "t stdout X y",
        "\u{0}\u{ff}",
    ] {
        assert_eq!(format::parse(line.as_bytes()), None, "{line:?}");
    }
    assert_eq!(format::parse(b"t stdout F").unwrap().text, b"");
}

#[tokio::test]
async fn following_sees_appends_and_rotation_and_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let append = |text: &str| {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        writeln!(file, "2026-01-02T03:04:05.000000001Z stdout F {text}").unwrap();
    };
    append("a");
    let (tx, mut rx) = mpsc::channel(8);
    let (alive, running) = watch::channel(true);
    let options = Options {
        follow: true,
        ..Options::default()
    };
    let task = tokio::spawn(follow::stream(path.clone(), options, running, tx));
    let mut got = String::new();
    let mut until = async |want: &str| {
        while got != want {
            let chunk = tokio::time::timeout(Duration::from_secs(10), rx.recv()).await;
            got.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    };
    until("a\n").await;
    append("b");
    until("a\nb\n").await;
    append("c");
    fs::rename(&path, dir.path().join("0.log.20260102-030405")).unwrap();
    append("d");
    until("a\nb\nc\nd\n").await;
    append("e");
    alive.send(false).unwrap();
    until("a\nb\nc\nd\ne\n").await;
    task.await.unwrap().unwrap();
}
