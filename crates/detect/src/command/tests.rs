//! The command through its options: configuration files, validation, lists, a replay.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use rules::fields::Source;
use rules::program::{Action, Matching};

use super::*;
use crate::engine::{Control, DropAction};

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_configuration_of_falco_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("config.d");
    std::fs::create_dir(&more).unwrap();
    std::fs::write(
        more.join("a.yaml"),
        "rules_files: [/more]\njson_output: false\n",
    )
    .unwrap();
    let text = format!(
        "config_files: [{}]\nrules_files:\n  - /etc/a.yaml\njson_output: true\npriority: notice\n\
         rule_matching: all\nlog_level: info\nno_such_key: 1\nhttp_output:\n  enabled: true\n  url: \
         http://x\n  colour: red\nsyscall_event_drops:\n  threshold: .2\n  actions: [exit]\nrules:\n  - \
         disable: {{tag: network}}\n  - enable: {{rule: Some *}}\nfile_output: {{enabled: true, \
         filename: /f, keep_alive: true}}\nengine: {{kind: modern_ebpf, modern_ebpf: \
         {{buf_size_preset: 5}}}}\nappend_output:\n  - suggested_output: true\n",
        more.display()
    );
    let path = write(&folder, "falco.yaml", &text);
    let overrides = [
        "http_output.url=http://y".to_owned(),
        "rules[].disable.rule=Last".to_owned(),
        "buffered_outputs=true".to_owned(),
    ];
    let config = Config::load(Some(&path), &overrides).unwrap();
    assert_eq!(
        config.rules_files,
        [PathBuf::from("/etc/a.yaml"), "/more".into()]
    );
    assert!(!config.json_output && config.buffered_outputs && config.stdout);
    assert_eq!(config.matching, Matching::All);
    assert_eq!(config.http.unwrap().url, "http://y");
    assert_eq!(config.drops.actions, [DropAction::Exit]);
    assert!((config.drops.threshold - 0.2).abs() < 1e-9);
    assert_eq!(config.file, Some(("/f".into(), true, 0, 3)));
    assert_eq!(config.ring_bytes, 16 << 20);
    assert_eq!(config.append_output.len(), 1);
    assert_eq!(
        config.rules,
        [
            Action::Tag(false, "network".into()),
            Action::Name(true, "Some *".into()),
            Action::Name(false, "Last".into()),
        ]
    );
    assert_eq!(
        config.warnings,
        ["unknown key http_output.colour", "unknown key no_such_key"]
    );
    assert!(Config::load(None, &["novalue".into()]).is_err());
    assert!(Config::load(None, &["priority=loud".into()]).is_err());
    let defaults = Config::load(None, &[]).unwrap();
    assert!(defaults.warnings.is_empty() && !defaults.syslog);
}

#[test]
fn files_are_validated_and_what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(&folder, "good.yaml", "- list: a\n  items: [b]\n");
    let bad = write(&folder, "bad.yaml", "- rule: x\n");
    let missing = folder.path().join("none.yaml");
    let all_good = validate(std::slice::from_ref(&good), false, false);
    assert!(
        all_good.valid && all_good.text.contains("good.yaml: Ok"),
        "{all_good:?}"
    );
    let mixed = validate(&[good, bad], false, false);
    assert!(
        !mixed.valid && mixed.text.contains("bad.yaml: Invalid"),
        "{mixed:?}"
    );
    let json = validate(&[missing], true, false);
    let json: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!(json["falco_load_results"][0]["successful"], false);
}

#[test]
fn lists() {
    let names = list_fields(ListOptions {
        source: Some(Source::K8sAudit),
        names_only: true,
        ..ListOptions::default()
    });
    assert!(names.contains("ka.verb\n") && !names.contains("proc.name\n"));
    let text = list_fields(ListOptions::default());
    assert!(text.contains("Field Class:                  process\n"));
    assert!(list_events().contains("openat\n"));
    let mut loader = rules::load::Loader::new();
    let rule = "- rule: R\n  desc: D\n  condition: evt.type=open\n  output: O\n  priority: INFO\n";
    assert!(loader.load("r", rule).successful());
    let set = loader.finish();
    assert!(list_rules(&set, Some("R")).unwrap().contains('D'));
    assert_eq!(list_rules(&set, Some("S")), None);
    assert!(describe(&set, None).unwrap().contains("\"name\":\"R\""));
}

#[test]
fn a_capture_is_replayed_into_a_file() {
    use crate::event::{Event, EventType, EventWriter};
    let folder = tempfile::tempdir().unwrap();
    let bytes = EventWriter::new(EventType::OPENAT_2_X, 1_700_000_000_000_000_000, 5)
        .i64(3)
        .i64(-100)
        .text("/etc/shadow")
        .u32(1)
        .u32(0)
        .u32(0)
        .u64(0)
        .finish();
    let mut writer = crate::capture::Writer::new(Vec::new()).unwrap();
    writer.event(0, &Event::parse(&bytes).unwrap()).unwrap();
    let capture = folder.path().join("a.scap");
    std::fs::write(&capture, writer.finish().unwrap()).unwrap();
    let rules = write(
        &folder,
        "rules.yaml",
        "- rule: Shadow\n  desc: d\n  condition: evt.type=openat and fd.name=/etc/shadow\n  output: \
         read %fd.name\n  priority: ERROR\n  tags: [t]\n",
    );
    let alerts = folder.path().join("alerts");
    let options = |tags: &[&str]| RunOptions {
        rules: vec![rules.clone()],
        capture: Some(capture.clone()),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        overrides: vec![
            "stdout_output.enabled=false".into(),
            "time_format_iso_8601=true".into(),
            "file_output.enabled=true".into(),
            format!("file_output.filename={}", alerts.display()),
        ],
        ..RunOptions::default()
    };
    let summary = run(options(&["t"]), &Control::default()).unwrap();
    assert!(summary.contains("Events detected: 1\n"), "{summary}");
    assert_eq!(
        std::fs::read_to_string(&alerts).unwrap(),
        "2023-11-14T22:13:20.000000000+0000: Error read /etc/shadow\n"
    );
    // Without the tag there is nothing.
    let summary = run(options(&["other"]), &Control::default()).unwrap();
    assert!(summary.contains("Events detected: 0\n"), "{summary}");
    let both = RunOptions {
        disabled: vec!["x".into()],
        ..options(&["t"])
    };
    assert!(matches!(
        run(both, &Control::default()),
        Err(CommandError::TagsBothWays)
    ));
}

#[test]
fn audit_events_come_by_a_webhook_and_metrics_are_served() {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let rules = write(
        &folder,
        "rules.yaml",
        "- rule: Secret\n  desc: d\n  condition: ka.verb=get\n  output: \"%ka.user.name\"\n  priority: \
         ERROR\n  source: k8s_audit\n",
    );
    let alerts = folder.path().join("alerts");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let options = RunOptions {
        rules: vec![rules],
        overrides: vec![
            "engine.kind=nodriver".into(),
            "stdout_output.enabled=false".into(),
            "webserver.listen_address=127.0.0.1".into(),
            format!("webserver.listen_port={port}"),
            "webserver.prometheus_metrics_enabled=true".into(),
            "file_output.enabled=true".into(),
            format!("file_output.filename={}", alerts.display()),
        ],
        ..RunOptions::default()
    };
    let control = Arc::new(Control::default());
    let running = std::thread::spawn({
        let control = Arc::clone(&control);
        move || run(options, &control)
    });
    let ask = |request: String| -> String {
        for _ in 0..100 {
            if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
                let patience = std::time::Duration::from_secs(10);
                stream.set_read_timeout(Some(patience)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                return answer;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("there is no server");
    };
    let get = |path: &str| {
        ask(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    };
    let post = |body: &str| {
        ask(format!(
            "POST /k8s-audit HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    assert!(get("/healthz").contains("\"status\": \"ok\""));
    assert!(get("/none").starts_with("HTTP/1.1 404"));
    assert!(post("nonsense").starts_with("HTTP/1.1 400"));
    let event = r#"{"kind":"EventList","items":[{"auditID":"1","verb":"get","user":{"username":"eve"},
        "stageTimestamp":"2023-11-14T22:13:20Z"}]}"#;
    assert!(post(event).starts_with("HTTP/1.1 200"));
    let name = "falcosecurity_falco_rules_matches_total{";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !get("/metrics").contains(name) && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(get("/metrics").contains(name));
    control.stop();
    let summary = running.join().unwrap().unwrap();
    assert!(summary.contains("Secret: 1"), "{summary}");
    let text = std::fs::read_to_string(&alerts).unwrap();
    assert!(text.ends_with("Error eve\n"), "{text}");
}
