//! The engine over events that were made for it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use rules::program::{Action, Matching, Selection};

use super::drops::Lost;
use super::*;
use crate::event::{EventType as T, EventWriter};
use crate::outputs::{Message, Output, OutputError};

const RULES: &str = r#"
- macro: opened
  condition: evt.type in (open, openat) and fd.num >= 0
- rule: Secret opened
  desc: A file with a secret was opened.
  condition: opened and fd.name startswith /secret
  output: opened %fd.name by %proc.name (%evt.arg.flags)
  priority: WARNING
  tags: [files, host]
- rule: Anything opened
  desc: A file was opened.
  condition: opened
  output: opened %fd.name
  priority: INFO
  tags: [host]
- rule: Closed
  desc: A descriptor was closed.
  condition: evt.type = close and fd.name = /secret/a
  output: closed %fd.name
  priority: NOTICE
- rule: Audit
  desc: A secret was read.
  condition: ka.verb = get and ka.target.resource = secrets
  output: "%ka.user.name got %jevt.value[/objectRef/name]"
  priority: ERROR
  source: k8s_audit
"#;

/// Keeps what it is given.
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Message>>>);

impl Output for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        self.0.lock().unwrap().push(message.clone());
        Ok(())
    }
}

fn load(options: impl FnOnce(&mut RuleOptions)) -> Arc<Loaded> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let mut of = RuleOptions {
        files: vec![folder.path().to_owned()],
        ..RuleOptions::default()
    };
    options(&mut of);
    Arc::new(load_rules(&of).unwrap())
}

fn engine(rules: Arc<Loaded>) -> (Engine, Arc<Mutex<Vec<Message>>>) {
    let kept = Arc::default();
    let mut outputs = Outputs::new();
    outputs.add(Box::new(Kept(Arc::clone(&kept))), 0).unwrap();
    let engine = Engine::new(rules, Host::of_capture(), Table::default(), outputs);
    (engine, kept)
}

fn take(engine: &mut Engine, kind: T, fill: impl FnOnce(EventWriter) -> EventWriter) {
    let bytes = fill(EventWriter::new(kind, 1_700_000_000_000_000_001, 7)).finish();
    engine.take(&Event::parse(&bytes).unwrap(), None);
}

fn open(engine: &mut Engine, path: &str, fd: i64) {
    take(engine, T::OPENAT_2_X, |event| {
        event
            .i64(fd)
            .i64(-100)
            .text(path)
            .u32(1)
            .u32(0)
            .u32(0)
            .u64(0)
    });
}

fn said(engine: Engine, kept: &Mutex<Vec<Message>>) -> Vec<(String, String)> {
    engine.outputs.finish();
    let kept = kept.lock().unwrap();
    kept.iter()
        .map(|message| (message.rule.clone(), message.line.clone()))
        .collect()
}

#[test]
fn the_first_rule_or_all() {
    let (mut first, kept) = engine(load(|_| {}));
    open(&mut first, "/secret/a", 3);
    open(&mut first, "/other", 4);
    take(&mut first, T::CLOSE_X, |event| event.i64(0).i64(3));
    assert_eq!(first.counters.alerts(), 3);
    let summary = first.counters.summary(first.rules());
    assert_eq!(
        summary,
        "Events detected: 3\nRule counts by severity:\n   WARNING: 1\n   NOTICE: 1\n   INFO: \
         1\nTriggered rules by rule name:\n   Secret opened: 1\n   Anything opened: 1\n   Closed: 1\n"
    );
    let said_first = said(first, &kept);
    assert_eq!(
        said_first[0].1,
        "22:13:20.000000001: Warning opened /secret/a by <NA> (O_RDONLY)"
    );
    let names: Vec<_> = said_first.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(names, ["Secret opened", "Anything opened", "Closed"]);

    let (mut all, kept) = engine(load(|options| options.matching = Matching::All));
    open(&mut all, "/secret/a", 3);
    assert_eq!(said(all, &kept).len(), 2);
}

#[test]
fn what_is_enabled_and_what_is_captured() {
    let rules = load(|options| {
        options.selection = Selection {
            actions: vec![Action::Tag(false, "files".into())],
            lowest: rules::Priority::find("notice"),
        };
    });
    let (mut engine, kept) = engine(rules);
    // Rules that are off want nothing; what keeps processes true is wanted always.
    let wanted = engine.wanted();
    assert!(wanted.events.contains(T::CLOSE_X) && wanted.events.contains(T::EXECVE_19_X));
    assert!(!wanted.events.contains(T::CHMOD_X));
    open(&mut engine, "/secret/a", 3);
    take(&mut engine, T::CLOSE_X, |event| event.i64(0).i64(3));
    let names: Vec<_> = said(engine, &kept)
        .into_iter()
        .map(|(rule, _)| rule)
        .collect();
    assert_eq!(names, ["Closed"]);
}

#[test]
fn counts_follow_rules_that_are_loaded_again() {
    let (mut engine, kept) = engine(load(|_| {}));
    open(&mut engine, "/secret/a", 3);
    engine.replace_rules(load(|_| {}));
    open(&mut engine, "/secret/b", 4);
    assert_eq!(engine.counters.by_rule, [2, 0, 0, 0]);
    assert_eq!(said(engine, &kept).len(), 2);
}

#[test]
fn audit_events_have_rules_of_their_own() {
    let (mut engine, kept) = engine(load(|_| {}));
    engine.format.json = true;
    let event = br#"{"kind":"EventList","items":[{"auditID":"1","stage":"ResponseComplete",
        "stageTimestamp":"2023-11-14T22:13:20.000001Z","verb":"get","user":{"username":"eve"},
        "objectRef":{"resource":"secrets","name":"token"}}]}"#;
    for event in AuditEvent::read_all(event).unwrap() {
        engine.take_audit(event.unwrap());
    }
    let said = said(engine, &kept);
    let json: serde_json::Value = serde_json::from_str(&said[0].1).unwrap();
    assert_eq!(json["rule"], "Audit");
    assert_eq!(json["source"], "k8s_audit");
    assert_eq!(json["output"], "22:13:20.000001000: Error eve got token");
    assert_eq!(json["output_fields"]["ka.user.name"], "eve");
}

#[test]
fn lost_events_are_told_as_falco_tells_them() {
    let lost = |events, lost| Lost {
        events,
        lost,
        full: lost,
        ..Lost::default()
    };
    let mut drops = Drops::new(DropOptions::default(), lost(0, 0));
    let second = 1_000_000_000;
    assert!(!drops.is_due(second));
    assert!(drops.is_due(2 * second));
    // A share of a tenth is borne.
    assert_eq!(drops.look(2 * second, lost(100, 10)).alert, None);
    let alert = drops.look(3 * second, lost(200, 60)).alert.unwrap();
    assert_eq!(
        alert.text,
        "Falco internal: syscall event drop. 50 system calls dropped in last second."
    );
    assert_eq!(alert.fields["n_drops"], "50");
    assert_eq!(alert.fields["n_evts"], "100");
    assert_eq!(alert.fields["ebpf_enabled"], "1");
    assert_eq!(alert.fields.len(), 15);
    // Not again at once, but after half a minute.
    assert_eq!(drops.look(4 * second, lost(300, 160)).alert, None);
    assert!(drops.look(40 * second, lost(400, 260)).alert.is_some());
    assert_eq!((drops.detected, drops.acted), (3, 2));
    let exit = DropOptions {
        actions: vec![DropAction::Exit],
        simulate: true,
        ..DropOptions::default()
    };
    let mut drops = Drops::new(exit, lost(0, 0));
    assert!(drops.look(second, lost(100, 0)).exit);
}

#[test]
fn metrics_have_falcos_names() {
    let (mut engine, kept) = engine(load(|_| {}));
    open(&mut engine, "/secret/a", 3);
    let snapshot = Snapshot {
        hostname: "a\"b".into(),
        kernel: Some(Lost {
            events: 9,
            open: 2,
            ..Lost::default()
        }),
        by_cpu: vec![(5, 1), (4, 0)],
        counters: engine.counters.clone(),
        outputs: engine.outputs.stats(),
        ..Snapshot::default()
    };
    let text = prometheus(&snapshot, engine.rules(), MetricsOptions::default());
    for line in [
        "# TYPE falcosecurity_falco_rules_matches_total counter",
        "falcosecurity_falco_rules_matches_total{priority=\"4\",rule_name=\"Secret opened\",\
         source=\"syscall\",tag_files=\"true\",tag_host=\"true\"} 1",
        "falcosecurity_scap_n_evts_total 9",
        "falcosecurity_scap_n_drops_buffer_total{dir=\"exit\",drop=\"open\"} 2",
        "falcosecurity_scap_n_evts_cpu_total{cpu=\"1\"} 4",
        "falcosecurity_evt_hostname_info{hostname=\"a\\\"b\"} 1",
        "falcosecurity_falco_outputs_queue_num_drops_total 0",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "{line}\nin\n{text}"
        );
    }
    said(engine, &kept);
}

#[test]
fn what_is_wrong_with_rule_files_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, "- rule: x\n  desc: y\n").unwrap();
    let options = |file| RuleOptions {
        files: vec![file],
        ..RuleOptions::default()
    };
    let error = load_rules(&options(path)).unwrap_err().to_string();
    assert!(
        error.contains("Invalid") && error.contains("LOAD_ERR"),
        "{error}"
    );
    let missing = load_rules(&options(folder.path().join("none"))).unwrap_err();
    assert!(matches!(missing, LoadRulesError::Unreadable { .. }));
}

#[test]
fn our_rules_are_built_in_and_take_changes() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules"));
    let files = find_files(&[folder.to_owned()]).unwrap();
    assert_eq!(files.len(), BUILT_IN.len());
    let own = load_rules(&RuleOptions::default()).unwrap();
    let of_files = load_rules(&RuleOptions {
        files,
        ..RuleOptions::default()
    });
    let of_files = of_files.unwrap();
    assert_eq!(own.set.describe(), of_files.set.describe());

    let place = tempfile::tempdir().unwrap();
    let change = place.path().join("mine.yaml");
    std::fs::write(
        &change,
        "- rule: Password hashes read\n  enabled: false\n  override:\n    enabled: replace\n",
    )
    .unwrap();
    let changed = load_rules(&RuleOptions {
        files: vec![BUILT_IN_NAME.into(), change],
        ..RuleOptions::default()
    });
    let is_enabled = |loaded: &Loaded| loaded.set.rule("Password hashes read").unwrap().enabled;
    assert!(is_enabled(&own));
    assert!(!is_enabled(&changed.unwrap()));
}
