//! What rules say: templates, lines, JSON.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::{self, TimeZone};
use rules::fields::Source;
use rules::load::ExtraField;
use rules::{Alert, AlertOptions, Priority, Template, TemplateError};
use serde_json::{Value as Json, json};

use crate::{Made, Value};

fn event() -> Made {
    Made::new("openat")
        .with("proc.name", "bash")
        .with("proc.cmdline", "bash -c \"x\"\n\u{1b}[31m")
        .with("proc.pid", 42_i64)
        .with("proc.aname", "sshd")
        .with("proc.aname", "systemd")
        .with("proc.aname[2]", "systemd")
        .with("fd.dev", 0xfd00_i64)
        .with("fd.name", Value::Text(b"/tmp/\xff\xfe".to_vec()))
        .with("fd.types", "file")
        .with("fd.types", "ipv4")
        .with("fd.sip", Value::Address("::1".parse().unwrap()))
        .with("evt.is_open_read", true)
        .with("evt.buffer", Value::Text(b"a\x00b".to_vec()))
        .with("evt.arg.flags", "O_RDONLY")
        .with("proc.env[A B]", "c")
        .with("evt.deltatime.ns", 12_u64)
}

fn render(template: &str) -> Option<String> {
    let template = Template::parse(Source::Syscall, template).unwrap();
    let text = template.render(&event(), &TimeZone::UTC)?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn templates() {
    let cases = [
        ("plain", "plain"),
        ("%proc.name", "bash"),
        ("a %proc.name b=%proc.pid.", "a bash b=42."),
        ("%proc.name%proc.pid", "bash42"),
        ("%proc.name.", "bash."),
        ("%proc.name.x", "bash.x"),
        ("%proc.aname[2]!", "systemd!"),
        ("%proc.aname", "sshd systemd"),
        ("%evt.arg.flags|", "O_RDONLY|"),
        ("%proc.env[\"A B\"]", "c"),
        ("%toupper(proc.name)", "BASH"),
        ("%len(proc.name)%", "4%"),
        ("[%6proc.name]", "[bash  ]"),
        ("[%2proc.name]", "[ba]"),
        ("%fd.dev", "FD00"),
        ("%fd.types", "(file,ipv4)"),
        ("%fd.sip", "::1"),
        ("%evt.is_open_read", "true"),
        ("%evt.buffer", "a.b"),
        ("%evt.deltatime.ns", "000000012"),
        ("%evt.time", "22:13:20.123456789"),
        ("%evt.time.s", "22:13:20"),
        ("%evt.time.iso8601", "2023-11-14T22:13:20.123456789+0000"),
        ("%evt.datetime.s", "2023-11-14 22:13:20"),
        ("%evt.type", "openat"),
        ("*%proc.exe", "<NA>"),
        ("%join(\"-\",(proc.name, \"y\"))", "bash-y"),
    ];
    for (template, expected) in cases {
        if template.ends_with(")%") {
            assert_eq!(
                Template::parse(Source::Syscall, template).unwrap_err(),
                TemplateError::EndsWithPercent
            );
            continue;
        }
        assert_eq!(render(template).as_deref(), Some(expected), "{template}");
    }
    assert_eq!(render("x %proc.exe"), None);
}

#[test]
fn templates_that_cannot_be() {
    let cases = [
        ("", "empty formatting token"),
        (
            "%",
            "invalid formatting syntax: formatting cannot end with a %",
        ),
        (
            "%12",
            "invalid formatting syntax: formatting cannot end with a number",
        ),
        ("% x", "unknown filter: unexpected token after '"),
        (
            "%proc.nam",
            "unknown filter: filter_check called with nonexistent field proc.nam",
        ),
        (
            "%ka.verb",
            "unknown filter: filter_check called with nonexistent field ka.verb",
        ),
        ("%evt.arg", "unknown filter: filter syntax error: evt.arg"),
        (
            "%tolower(proc.pid)",
            "unknown filter: can't add field transformer: type 'INT64' is not supported by 'tolower' transformer applied on field 'proc.pid'",
        ),
    ];
    for (template, expected) in cases {
        let error = Template::parse(Source::Syscall, template).unwrap_err();
        assert_eq!(error.to_string(), expected, "{template}");
    }
}

fn alert(output: &str, check: impl FnOnce(&Alert<'_>)) {
    let template = Template::parse(Source::Syscall, output).unwrap().lenient();
    let field = |format: &str, raw| ExtraField {
        format: format.into(),
        template: Template::parse(Source::Syscall, format).unwrap().lenient(),
        raw,
    };
    let extra = BTreeMap::from([
        ("proc.pid".to_owned(), field("%proc.pid", true)),
        ("who".to_owned(), field("%proc.name/%proc.exe", false)),
    ]);
    let tags = BTreeSet::from(["b".to_owned(), "a".to_owned()]);
    check(&Alert {
        rule: "A rule",
        source: "syscall",
        priority: Priority::Informational,
        tags: &tags,
        template: &template,
        extra_fields: &extra,
    });
}

#[test]
fn lines() {
    alert("Opened %fd.name (%proc.exe, %proc.cmdline)", |alert| {
        let options = AlertOptions::default();
        assert_eq!(
            alert.text(&event(), &options),
            r#"22:13:20.123456789: Informational Opened /tmp/�� (<NA>, bash -c \"x\"\n\u001b[31m)"#
        );
        let options = AlertOptions {
            time_iso8601: true,
            ..AlertOptions::default()
        };
        assert!(
            alert
                .text(&event(), &options)
                .starts_with("2023-11-14T22:13:20.123456789+0000: Informational Opened")
        );
        let options = AlertOptions {
            time_zone: TimeZone::fixed(tz::offset(2)),
            ..AlertOptions::default()
        };
        assert!(
            alert
                .text(&event(), &options)
                .starts_with("00:13:20.123456789: ")
        );
    });
}

#[test]
fn json_lines() {
    alert(
        "x %proc.name %proc.exe %fd.dev %fd.types %evt.is_open_read %proc.aname %tolower(fd.name)",
        |alert| {
            let options = AlertOptions {
                hostname: "node".into(),
                ..AlertOptions::default()
            };
            let text = alert.json(&event(), &options);
            assert!(
                text.starts_with(r#"{"hostname":"node","output":"22:13:20"#),
                "{text}"
            );
            let json: Json = serde_json::from_str(&text).unwrap();
            assert_eq!(
                json,
                json!({
                    "hostname": "node",
                    "output": "22:13:20.123456789: Informational x bash <NA> FD00 (file,ipv4) true sshd systemd /tmp/\u{fffd}\u{fffd}",
                    "output_fields": {
                        "evt.time": 1_700_000_000_123_456_789_u64,
                        "evt.is_open_read": true,
                        "fd.dev": "FD00",
                        "fd.name": "/tmp/\u{fffd}\u{fffd}",
                        "fd.types": ["file", "ipv4"],
                        "proc.aname": "sshd systemd",
                        "proc.exe": null,
                        "proc.name": "bash",
                        "proc.pid": 42,
                        "who": "bash/<NA>",
                    },
                    "priority": "Informational",
                    "rule": "A rule",
                    "source": "syscall",
                    "tags": ["a", "b"],
                    "time": "2023-11-14T22:13:20.123456789Z",
                })
            );
            let options = AlertOptions {
                output: false,
                tags: false,
                message: true,
                output_fields: false,
                ..options
            };
            let json: Json = serde_json::from_str(&alert.json(&event(), &options)).unwrap();
            assert_eq!(
                json["message"],
                "x bash <NA> FD00 (file,ipv4) true sshd systemd /tmp/\u{fffd}\u{fffd}"
            );
            assert!(json.get("output").is_none() && json.get("output_fields").is_none());
        },
    );
}
