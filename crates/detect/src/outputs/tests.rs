//! Outputs against what they write to.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::time::Instant;

use super::*;

fn message(line: &str) -> Message {
    Message {
        time_ns: 1_700_000_000_000_000_000,
        priority: Priority::Warning,
        rule: "A rule".into(),
        source: "syscall",
        tags: Vec::new(),
        line: line.into(),
        json: String::new(),
    }
}

#[test]
fn a_file_is_rotated_and_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.log");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let mut file = FileOutput::new(&path, true, false).rotated(12, 2);
    for line in ["first", "other", "third", "4", "5", "6", "sixth one"] {
        file.deliver(&message(line)).unwrap();
    }
    assert_eq!(read("alerts.log"), "sixth one\n");
    assert_eq!(read("alerts.log.1"), "third\n4\n5\n6\n");
    assert_eq!(read("alerts.log.2"), "first\nother\n");
    assert!(!folder.path().join("alerts.log.3").exists());
    // Moved away by somebody else.
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    file.reopen().unwrap();
    file.deliver(&message("new")).unwrap();
    assert_eq!(read("alerts.log"), "new\n");
    let mut once = FileOutput::new(&path, false, true);
    once.deliver(&message("more")).unwrap();
    assert_eq!(read("alerts.log"), "new\nmore\n");
    let error = FileOutput::new(folder.path(), true, false).deliver(&message("x"));
    assert!(matches!(error, Err(OutputError::File { .. })));
}

#[test]
fn the_system_log_gets_priorities() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = UnixDatagram::bind(&path).unwrap();
    let mut output = SyslogOutput::at(&path, "detect");
    output.deliver(&message("something")).unwrap();
    let mut buffer = [0; 256];
    let length = log.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]);
    assert!(text.starts_with("<12>Nov 1"), "{text}");
    let end = format!(" detect[{}]: something", std::process::id());
    assert!(text.ends_with(&end), "{text}");
    // A log that was restarted.
    drop(log);
    std::fs::remove_file(&path).unwrap();
    assert!(output.deliver(&message("lost")).is_err());
    let log = UnixDatagram::bind(&path).unwrap();
    output.deliver(&message("again")).unwrap();
    assert!(log.recv(&mut buffer).unwrap() > 0);
}

#[test]
fn a_program_for_all_alerts_or_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let command = format!("cat >> {}; echo end >> {0}", path.display());
    let mut all = ProgramOutput::new(&command, true);
    all.deliver(&message("a")).unwrap();
    all.deliver(&message("b")).unwrap();
    drop(all);
    let mut each = ProgramOutput::new(&command, false);
    each.deliver(&message("c")).unwrap();
    each.deliver(&message("d")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "a\nb\nend\nc\nend\nd\nend\n");
}

/// Answers requests with the statuses, and gives out their heads and bodies.
fn server(statuses: Vec<u16>) -> (String, std::sync::mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alerts", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            sender.send((head, body)).unwrap();
        }
    });
    (url, receiver)
}

#[test]
fn a_server_is_tried_again_unless_it_refuses() {
    let (url, requests) = server(vec![503, 200, 400]);
    let mut output = HttpOutput::new(HttpOptions {
        url,
        json: true,
        headers: vec![("x-token".into(), "secret".into())],
        compress: true,
        ..HttpOptions::default()
    })
    .unwrap();
    output.deliver(&message("{\"a\":1}")).unwrap();
    let _failed = requests.recv().unwrap();
    let (head, body) = requests.recv().unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /alerts "), "{head}");
    for line in [
        "user-agent: falcosecurity/falco\r\n",
        "content-type: application/json\r\n",
        "content-encoding: gzip\r\n",
        "x-token: secret\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&*body);
    decoder.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"a\":1}");
    let refused = output.deliver(&message("x"));
    assert!(matches!(
        refused,
        Err(OutputError::Status { status: 400, .. })
    ));
}

#[test]
fn keys_that_cannot_be_used_are_said_at_the_start() {
    let missing = HttpOptions {
        ca: Some("/none/ca.pem".into()),
        ..HttpOptions::default()
    };
    let error = HttpOutput::new(missing).unwrap_err();
    assert!(error.to_string().contains("/none/ca.pem"), "{error}");
}

/// Waits for a word before each alert.
struct Slow(std::sync::mpsc::Receiver<()>);

impl Output for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn deliver(&mut self, _message: &Message) -> Result<(), OutputError> {
        let _until_it_ends = self.0.recv();
        Ok(())
    }
}

#[test]
fn a_slow_output_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.log");
    let (go, wait) = channel();
    let mut outputs = Outputs::new();
    outputs.add(Box::new(Slow(wait)), 4).unwrap();
    outputs
        .add(Box::new(FileOutput::new(&path, true, true)), 1000)
        .unwrap();
    let begin = Instant::now();
    for number in 0..100 {
        outputs.send(message(&number.to_string()));
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(go);
    let stats = outputs.finish();
    assert_eq!((stats[1].delivered, stats[1].dropped), (100, 0));
    assert!(stats[0].dropped >= 94, "{stats:?}");
    assert_eq!(stats[0].delivered + stats[0].dropped, 100);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 100);
}
