//! What every service is sent, over one rich alert and one minimal one, to the byte.

use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};

use super::{Destination, Sink};
use crate::forward::publish::{Delivery, Failure};
use crate::forward::request::{Answer, Request};
use crate::forward::{Alert, Config};

const RICH: &str = r#"{"uuid":"11111111-2222-4333-8444-555555555555","hostname":"node-1",
"output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')",
"output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop",
"k8s.pod.name":"web-0","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length",
"proc.aname[2]":"runc","user.name":"root"},"priority":"Critical","rule":"Terminal shell","source":"syscall",
"tags":["shell","container"],"time":"2026-01-02T10:20:30.123456789Z"}"#;

const MINIMAL: &str = r#"{"output":"x","priority":"debug","rule":"R","time":"2026-01-02T10:20:30Z",
"uuid":"u"}"#;

pub(crate) fn rich() -> Alert {
    Alert::from_json(RICH.as_bytes()).expect("an alert")
}

fn minimal() -> Alert {
    Alert::from_json(MINIMAL.as_bytes()).expect("an alert")
}

pub(crate) fn destination(yaml: &str) -> Destination {
    let config = Config::parse(yaml, &|_| None).expect("a good configuration");
    assert_eq!(config.notices, Vec::<String>::new());
    config.destinations.into_iter().next().expect("an output")
}

fn request(yaml: &str, alerts: &[Alert]) -> Request {
    let alerts: Vec<Arc<Alert>> = alerts.iter().cloned().map(Arc::new).collect();
    match destination(yaml).sink {
        Sink::Http(output, _) => output.request(&alerts),
        Sink::Own(_) | Sink::Objects(_) => panic!("not by HTTP"),
    }
}

fn judge(yaml: &str, answer: &Answer, alerts: usize) -> Result<Delivery, Failure> {
    match destination(yaml).sink {
        Sink::Http(output, _) => output.judge(answer, alerts),
        Sink::Own(_) | Sink::Objects(_) => panic!("not by HTTP"),
    }
}

/// The request as it goes over the wire, a line a header.
fn check(yaml: &str, alerts: &[Alert], wanted: Expect) {
    let request = request(yaml, alerts);
    let mut text = format!("{} {}\n", request.method, request.url);
    for (name, value) in &request.headers {
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push('\n');
    text.push_str(std::str::from_utf8(&request.body).expect("UTF-8"));
    text.push('\n');
    wanted.assert_eq(&text);
}

#[test]
fn slack() {
    let yaml = "slack: {webhookurl: 'https://hooks.slack.com/services/X/Y', channel: '#alerts',
        messageformat: 'rule *{{ .Rule }}* by *{{ index .OutputFields \"user.name\" }}*'}";
    check(
        yaml,
        &[rich()],
        expect![[r##"
        POST https://hooks.slack.com/services/X/Y
        Content-Type: application/json; charset=utf-8

        {"text":"rule *Terminal shell* by *root*","username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","channel":"#alerts","attachments":[{"fallback":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","color":"#ff5400","text":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","fields":[{"title":"rule","value":"Terminal shell","short":true},{"title":"priority","value":"Critical","short":true},{"title":"source","value":"syscall","short":true},{"title":"hostname","value":"node-1","short":true},{"title":"tags","value":"container, shell","short":true},{"title":"container.id","value":"0123456789ab","short":true},{"title":"k8s.ns.name","value":"shop","short":true},{"title":"k8s.pod.name","value":"web-0","short":true},{"title":"proc.aname[2]","value":"runc","short":true},{"title":"proc.cmdline","value":"sh -c 'x > /tmp/ä' and a tail of some length","short":false},{"title":"user.name","value":"root","short":true},{"title":"time","value":"2026-01-02 10:20:30.123456789 +0000 UTC","short":false}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
    let yaml = "slack: {webhookurl: 'https://hooks.slack.com/services/X/Y', icon: i, footer: f, username: u}";
    check(
        yaml,
        &[minimal()],
        expect![[r##"
        POST https://hooks.slack.com/services/X/Y
        Content-Type: application/json; charset=utf-8

        {"username":"u","icon_url":"i","attachments":[{"fallback":"x","color":"#ccfff2","text":"x","fields":[{"title":"rule","value":"R","short":true},{"title":"priority","value":"Debug","short":true},{"title":"source","value":"syscalls","short":true},{"title":"time","value":"2026-01-02 10:20:30 +0000 UTC","short":false}],"footer":"f"}]}
    "##]],
    );
    let yaml = "slack: {webhookurl: 'https://hooks.slack.com/services/X/Y', outputformat: text}";
    check(
        yaml,
        &[minimal()],
        expect![[r##"
        POST https://hooks.slack.com/services/X/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"x","color":"#ccfff2","text":"x","fields":null}]}
    "##]],
    );
    let yaml = "slack: {webhookurl: 'https://hooks.slack.com/services/X/Y', outputformat: fields}";
    check(
        yaml,
        &[minimal()],
        expect![[r##"
        POST https://hooks.slack.com/services/X/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"x","color":"#ccfff2","fields":[{"title":"rule","value":"R","short":true},{"title":"priority","value":"Debug","short":true},{"title":"source","value":"syscalls","short":true},{"title":"time","value":"2026-01-02 10:20:30 +0000 UTC","short":false}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
}

#[test]
fn mattermost() {
    let yaml = "mattermost: {webhookurl: 'http://chat/hooks/Y'}";
    check(
        yaml,
        &[rich()],
        expect![[r##"
        POST http://chat/hooks/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","color":"#ff5400","text":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","fields":[{"title":"rule","value":"Terminal shell","short":true},{"title":"hostname","value":"node-1","short":true},{"title":"priority","value":"Critical","short":true},{"title":"source","value":"syscall","short":true},{"title":"tags","value":"container, shell","short":true},{"title":"container.id","value":"0123456789ab","short":true},{"title":"k8s.ns.name","value":"shop","short":true},{"title":"k8s.pod.name","value":"web-0","short":true},{"title":"proc.aname[2]","value":"runc","short":true},{"title":"proc.cmdline","value":"sh -c 'x > /tmp/ä' and a tail of some length","short":false},{"title":"user.name","value":"root","short":true},{"title":"time","value":"2026-01-02 10:20:30.123456789 +0000 UTC","short":false}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
    check(
        yaml,
        &[minimal()],
        expect![[r##"
        POST http://chat/hooks/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"x","color":"#ccfff2","text":"x","fields":[{"title":"rule","value":"R","short":true},{"title":"priority","value":"Debug","short":true},{"title":"source","value":"syscalls","short":true},{"title":"time","value":"2026-01-02 10:20:30 +0000 UTC","short":false}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
}

#[test]
fn rocketchat() {
    let yaml = "rocketchat: {webhookurl: 'http://chat/hooks/Y'}";
    check(
        yaml,
        &[rich()],
        expect![[r##"
        POST http://chat/hooks/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","color":"#ff5400","text":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","fields":[{"title":"rule","value":"Terminal shell","short":true},{"title":"priority","value":"Critical","short":true},{"title":"source","value":"syscall","short":true},{"title":"tags","value":"container, shell","short":true},{"title":"container.id","value":"0123456789ab","short":true},{"title":"k8s.ns.name","value":"shop","short":true},{"title":"k8s.pod.name","value":"web-0","short":true},{"title":"proc.aname[2]","value":"runc","short":true},{"title":"proc.cmdline","value":"sh -c 'x > /tmp/ä' and a tail of some length","short":false},{"title":"user.name","value":"root","short":true},{"title":"time","value":"2026-01-02 10:20:30.123456789 +0000 UTC","short":false},{"title":"hostname","value":"node-1","short":true}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
    check(
        yaml,
        &[minimal()],
        expect![[r##"
        POST http://chat/hooks/Y
        Content-Type: application/json; charset=utf-8

        {"username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","attachments":[{"fallback":"x","color":"#ccfff2","text":"x","fields":[{"title":"rule","value":"R","short":true},{"title":"priority","value":"Debug","short":true},{"title":"source","value":"syscalls","short":true},{"title":"time","value":"2026-01-02 10:20:30 +0000 UTC","short":false}],"footer":"https://github.com/falcosecurity/falcosidekick"}]}
    "##]],
    );
    let yaml = "rocketchat: {webhookurl: 'http://chat/hooks/Y', outputformat: text}";
    check(
        yaml,
        &[minimal()],
        expect![[r#"
        POST http://chat/hooks/Y
        Content-Type: application/json; charset=utf-8

        {"text":"x","username":"Falcosidekick","icon_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png"}
    "#]],
    );
}

#[test]
fn teams() {
    let yaml = "teams: {webhookurl: 'https://x.webhook.office.com/Y', activityimage: i}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        POST https://x.webhook.office.com/Y
        Content-Type: application/json; charset=utf-8

        {"@type":"MessageCard","summary":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","themeColor":"ff9000","sections":[{"activityTitle":"Falcosidekick","activitySubtitle":"2026-01-02 10:20:30.123456789 +0000 UTC","activityImage":"i","text":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","facts":[{"name":"rule","value":"Terminal shell"},{"name":"priority","value":"Critical"},{"name":"source","value":"syscall"},{"name":"hostname","value":"node-1"},{"name":"container.id","value":"0123456789ab"},{"name":"k8s.ns.name","value":"shop"},{"name":"k8s.pod.name","value":"web-0"},{"name":"proc.aname[2]","value":"runc"},{"name":"proc.cmdline","value":"sh -c 'x > /tmp/ä' and a tail of some length"},{"name":"user.name","value":"root"},{"name":"tags","value":"container, shell"}]}]}
    "#]],
    );
    check(
        yaml,
        &[minimal()],
        expect![[r#"
        POST https://x.webhook.office.com/Y
        Content-Type: application/json; charset=utf-8

        {"@type":"MessageCard","summary":"x","themeColor":"ccfff2","sections":[{"activityTitle":"Falcosidekick","activitySubtitle":"2026-01-02 10:20:30 +0000 UTC","activityImage":"i","text":"x","facts":[{"name":"rule","value":"R"},{"name":"priority","value":"Debug"},{"name":"source","value":"syscalls"}]}]}
    "#]],
    );
    let yaml = "teams: {webhookurl: 'https://x.webhook.office.com/Y', outputformat: facts}";
    check(
        yaml,
        &[minimal()],
        expect![[r#"
        POST https://x.webhook.office.com/Y
        Content-Type: application/json; charset=utf-8

        {"@type":"MessageCard","summary":"x","themeColor":"ccfff2","sections":[{"activityTitle":"Falcosidekick","activitySubtitle":"2026-01-02 10:20:30 +0000 UTC","text":"","facts":[{"name":"rule","value":"R"},{"name":"priority","value":"Debug"},{"name":"source","value":"syscalls"}]}]}
    "#]],
    );
}

#[test]
fn discord() {
    let yaml = "discord: {webhookurl: 'https://discord.com/api/webhooks/Y'}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        POST https://discord.com/api/webhooks/Y
        Content-Type: application/json; charset=utf-8

        {"content":"","avatar_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","embeds":[{"title":"","url":"","description":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","color":"15105570","fields":[{"name":"rule","value":"Terminal shell","inline":true},{"name":"priority","value":"Critical","inline":true},{"name":"source","value":"syscall","inline":true},{"name":"hostname","value":"node-1","inline":true},{"name":"container.id","value":"```0123456789ab```","inline":true},{"name":"k8s.ns.name","value":"```shop```","inline":true},{"name":"k8s.pod.name","value":"```web-0```","inline":true},{"name":"proc.aname[2]","value":"```runc```","inline":true},{"name":"proc.cmdline","value":"```sh -c 'x > /tmp/ä' and a tail of some length```","inline":true},{"name":"user.name","value":"```root```","inline":true},{"name":"tags","value":"container, shell","inline":true},{"name":"time","value":"2026-01-02 10:20:30.123456789 +0000 UTC","inline":true}]}]}
    "#]],
    );
    check(
        yaml,
        &[minimal()],
        expect![[r#"
        POST https://discord.com/api/webhooks/Y
        Content-Type: application/json; charset=utf-8

        {"content":"","avatar_url":"https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png","embeds":[{"title":"","url":"","description":"x","color":"12370112","fields":[{"name":"rule","value":"R","inline":true},{"name":"priority","value":"Debug","inline":true},{"name":"source","value":"syscalls","inline":true},{"name":"time","value":"2026-01-02 10:20:30 +0000 UTC","inline":true}]}]}
    "#]],
    );
}

#[test]
fn alertmanager() {
    let yaml = "alertmanager: {hostport: 'http://a:9093', expiresafter: 60, extralabels: 'team:sec',
        extraannotations: {runbook: 'http://r'}, customseveritymap: 'critical:page', customHeaders: {X-A: b}}";
    check(
        yaml,
        &[rich(), minimal()],
        expect![[r#"
        POST http://a:9093/api/v2/alerts
        Content-Type: application/json; charset=utf-8
        X-A: b

        [{"labels":{"alertname":"Terminal shell","container_id":"0123456789ab","eventsource":"syscall","evt_num":"42","hostname":"node-1","k8s_ns_name":"shop","k8s_pod_name":"web-0","priority":"Critical","proc_aname_2_":"runc","proc_cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","rule":"Terminal shell","severity":"page","source":"falco","tags":"container,shell","team":"sec","user_name":"root"},"annotations":{"description":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","info":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","runbook":"http://r","summary":"Terminal shell"},"endsAt":"2026-01-02T10:21:30.123456789Z"},{"labels":{"alertname":"R","eventsource":"syscalls","priority":"Debug","rule":"R","severity":"information","source":"falco","team":"sec"},"annotations":{"description":"x","info":"x","runbook":"http://r","summary":"R"},"endsAt":"2026-01-02T10:21:30Z"}]
    "#]],
    );
    let drops = r#"{"output":"drops","output_fields":{"n_drops":"815508","n_drops_bug":"0",
        "n_drops_page_faults":5,"n_evts":"2270350","1st/field?":"v"},"priority":"Debug",
        "rule":"Falco internal: syscall event drop","time":"2026-01-02T10:20:30Z"}"#;
    let drops = Alert::from_json(drops.as_bytes()).expect("an alert");
    check(
        "alertmanager: {hostport: ['http://a:9093/']}",
        &[drops],
        expect![[r#"
            POST http://a:9093/api/v2/alerts
            Content-Type: application/json; charset=utf-8

            [{"labels":{"_1st_field_":"v","alertname":"Falco internal: syscall event drop","eventsource":"syscalls","n_drops":">10000","n_drops_bug":"0","n_drops_page_faults":">1","priority":"Critical","rule":"Falco internal: syscall event drop","severity":"critical","source":"falco"},"annotations":{"description":"drops","info":"drops","summary":"Falco internal: syscall event drop"}}]
        "#]],
    );
}

#[test]
fn elasticsearch() {
    let yaml = "elasticsearch: {hostport: 'http://es:9200', username: u, password: p, pipeline: 'a b', suffix: monthly}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        POST http://es:9200/falco-2026.01/_doc?pipeline=a%20b
        Content-Type: application/json; charset=utf-8
        Authorization: Basic dTpw

        {"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop","k8s.pod.name":"web-0","proc.aname[2]":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user.name":"root"},"source":"syscall","tags":["container","shell"],"hostname":"node-1","@timestamp":"2026-01-02T10:20:30.123456789Z"}
    "#]],
    );
    let yaml = "elasticsearch: {hostport: 'http://es:9200', apikey: k, flattenfields: true, batching: {enabled: true}}";
    check(
        yaml,
        &[rich(), minimal()],
        expect![[r#"
        POST http://es:9200/_bulk
        Content-Type: application/json; charset=utf-8
        Authorization: APIKey k

        {"create":{"_index":"falco-2026.01.02","_id":"11111111-2222-4333-8444-555555555555"}}
        {"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container_id":"0123456789ab","evt_num":42,"evt_res":null,"k8s_ns_name":"shop","k8s_pod_name":"web-0","proc_aname[2]":"runc","proc_cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user_name":"root"},"source":"syscall","tags":["container","shell"],"hostname":"node-1","@timestamp":"2026-01-02T10:20:30.123456789Z"}
        {"create":{"_index":"falco-2026.01.02","_id":"u"}}
        {"uuid":"u","output":"x","priority":"Debug","rule":"R","time":"2026-01-02T10:20:30Z","output_fields":{},"source":"syscalls","@timestamp":"2026-01-02T10:20:30Z"}

    "#]],
    );
}

#[test]
fn elasticsearch_takes_each_document_of_a_bulk_by_itself() {
    let yaml = "elasticsearch: {hostport: 'http://es:9200', batching: {enabled: true}}";
    let body = br#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409}},
        {"create":{"status":400,"error":{"type":"document_parsing_exception"}}},{"create":{"status":429}}]}"#;
    let answer = Answer {
        status: 200,
        body: body.to_vec(),
        ..Answer::default()
    };
    assert_eq!(
        judge(yaml, &answer, 4),
        Ok(Delivery {
            refused: 1,
            reason: Some(r#"status 400: {"type":"document_parsing_exception"}"#.into()),
            again: vec![3],
        })
    );
    let answer = Answer {
        status: 200,
        body: b"<html>".to_vec(),
        ..Answer::default()
    };
    assert!(matches!(
        judge(yaml, &answer, 4),
        Err(Failure::Later { .. })
    ));
}

#[test]
fn loki() {
    let yaml =
        "{customfields: {env: prod}, loki: {hostport: 'http://loki:3100', user: u, apikey: k,
        tenant: t, extralabels: 'user.name, proc.aname[2]'}}";
    let mut enriched = rich();
    enriched.output_fields.insert("env".into(), "prod".into());
    check(
        yaml,
        &[enriched.clone(), minimal(), enriched],
        expect![[r#"
        POST http://loki:3100/loki/api/v1/push
        Content-Type: application/json
        X-Scope-OrgID: t
        Authorization: Basic dTpr

        {"streams":[{"stream":{"env":"prod","hostname":"node-1","k8s_ns_name":"shop","k8s_pod_name":"web-0","priority":"Critical","proc_aname2":"runc","rule":"Terminal shell","source":"syscall","tags":"container,shell","user_name":"root"},"values":[["1767349230123456789","10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')"],["1767349230123456789","10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')"]]},{"stream":{"priority":"Debug","rule":"R","source":"syscalls"},"values":[["1767349230000000000","x"]]}]}
    "#]],
    );
    check(
        "loki: {hostport: 'http://loki:3100', format: json}",
        &[minimal()],
        expect![[r#"
            POST http://loki:3100/loki/api/v1/push
            Content-Type: application/json

            {"streams":[{"stream":{"priority":"Debug","rule":"R","source":"syscalls"},"values":[["1767349230000000000","{\"uuid\":\"u\",\"output\":\"x\",\"priority\":\"Debug\",\"rule\":\"R\",\"time\":\"2026-01-02T10:20:30Z\",\"output_fields\":{},\"source\":\"syscalls\"}"]]}]}
        "#]],
    );
}

#[test]
fn splunk() {
    let yaml = "splunk: {host: 'https://s:8088/services/collector/event', token: t}";
    check(
        yaml,
        &[rich(), minimal()],
        expect![[r#"
        POST https://s:8088/services/collector/event
        Content-Type: application/json; charset=utf-8
        Authorization: Splunk t

        {"event":{"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop","k8s.pod.name":"web-0","proc.aname[2]":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user.name":"root"},"source":"syscall","tags":["container","shell"],"hostname":"node-1"},"sourcetype":"falcosidekick"}
        {"event":{"uuid":"u","output":"x","priority":"Debug","rule":"R","time":"2026-01-02T10:20:30Z","output_fields":{},"source":"syscalls"},"sourcetype":"falcosidekick"}

    "#]],
    );
}

#[test]
fn pagerduty() {
    check(
        "pagerduty: {routingKey: k}",
        &[rich()],
        expect![[r#"
        POST https://events.pagerduty.com/v2/enqueue
        Content-Type: application/json; charset=utf-8

        {"routing_key":"k","event_action":"trigger","dedup_key":"11111111-2222-4333-8444-555555555555","payload":{"summary":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","source":"falco","severity":"critical","timestamp":"2026-01-02T10:20:30Z","custom_details":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"hostname":"node-1","k8s.ns.name":"shop","k8s.pod.name":"web-0","proc.aname[2]":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user.name":"root"}}}
    "#]],
    );
    check(
        "pagerduty: {routingKey: k, region: EU}",
        &[minimal()],
        expect![[r#"
            POST https://events.eu.pagerduty.com/v2/enqueue
            Content-Type: application/json; charset=utf-8

            {"routing_key":"k","event_action":"trigger","dedup_key":"u","payload":{"summary":"x","source":"falco","severity":"critical","timestamp":"2026-01-02T10:20:30Z","custom_details":{}}}
        "#]],
    );
}

#[test]
fn opsgenie() {
    check(
        "opsgenie: {apikey: k, region: eu}",
        &[rich()],
        expect![[r#"
        POST https://api.eu.opsgenie.com/v2/alerts
        Content-Type: application/json; charset=utf-8
        Authorization: GenieKey k

        {"message":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","entity":"Falcosidekick","description":"Terminal shell","details":{"container_id":"0123456789ab","hostname":"node-1","k8s_ns_name":"shop","k8s_pod_name":"web-0","priority":"Critical","proc_aname[2]":"runc","proc_cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","rule":"Terminal shell","source":"syscall","tags":"container, shell","user_name":"root"},"priority":"P2"}
    "#]],
    );
    check(
        "opsgenie: {apikey: k}",
        &[minimal()],
        expect![[r#"
        POST https://api.opsgenie.com/v2/alerts
        Content-Type: application/json; charset=utf-8
        Authorization: GenieKey k

        {"message":"x","entity":"Falcosidekick","description":"R","details":{"priority":"Debug","rule":"R","source":"syscalls"},"priority":"P5"}
    "#]],
    );
}

#[test]
fn webhook() {
    let yaml = "webhook: {address: 'http://h/x?y=1', method: patch, customHeaders: {Authorization: Bearer z}}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        PATCH http://h/x?y=1
        Content-Type: application/json; charset=utf-8
        Authorization: Bearer z

        {"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop","k8s.pod.name":"web-0","proc.aname[2]":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user.name":"root"},"source":"syscall","tags":["container","shell"],"hostname":"node-1"}
    "#]],
    );
    check(
        "webhook: {address: 'http://h'}",
        &[minimal()],
        expect![[r#"
        POST http://h
        Content-Type: application/json; charset=utf-8

        {"uuid":"u","output":"x","priority":"Debug","rule":"R","time":"2026-01-02T10:20:30Z","output_fields":{},"source":"syscalls"}
    "#]],
    );
}

#[test]
fn cloudevents() {
    let yaml = "cloudevents: {address: 'http://h', extensions: {team: 'sec ops'}}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        POST http://h
        Content-Type: application/json
        ce-specversion: 1.0
        ce-id: 11111111-2222-4333-8444-555555555555
        ce-source: https://falco.org
        ce-type: falco.rule.output.v1
        ce-time: 2026-01-02T10:20:30.123456789Z
        ce-eventsource: syscall
        ce-hostname: node-1
        ce-priority: Critical
        ce-rule: Terminal%20shell
        ce-team: sec%20ops

        {"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop","k8s.pod.name":"web-0","proc.aname[2]":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","user.name":"root"},"source":"syscall","tags":["container","shell"],"hostname":"node-1"}
    "#]],
    );
    check(
        "cloudevents: {address: 'http://h', mode: structured}",
        &[minimal()],
        expect![[r#"
            POST http://h
            Content-Type: application/cloudevents+json

            {"specversion":"1.0","id":"u","source":"https://falco.org","type":"falco.rule.output.v1","datacontenttype":"application/json","time":"2026-01-02T10:20:30Z","eventsource":"syscalls","priority":"Debug","rule":"R","data":{"uuid":"u","output":"x","priority":"Debug","rule":"R","time":"2026-01-02T10:20:30Z","output_fields":{},"source":"syscalls"}}
        "#]],
    );
}

#[test]
fn otlp() {
    let yaml = "otlp: {logs: {endpoint: 'http://otel:4318/v1/logs', headers: 'a=b, c=d'}}";
    check(
        yaml,
        &[rich()],
        expect![[r#"
        POST http://otel:4318/v1/logs
        Content-Type: application/json
        a: b
        c: d

        {"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"falco"}},{"key":"service.version","value":{"stringValue":"0.1.0"}}]},"scopeLogs":[{"scope":{"name":"falco"},"logRecords":[{"timeUnixNano":"1767349230123456789","observedTimeUnixNano":"1767349230123456789","severityNumber":18,"severityText":"Critical","body":{"stringValue":"10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')"},"attributes":[{"key":"priority","value":{"stringValue":"Critical"}},{"key":"source","value":{"stringValue":"syscall"}},{"key":"rule","value":{"stringValue":"Terminal shell"}},{"key":"hostname","value":{"stringValue":"node-1"}},{"key":"tags","value":{"stringValue":"container,shell"}},{"key":"timestamp","value":{"stringValue":"2026-01-02 10:20:30.123456789 +0000 UTC"}},{"key":"container.id","value":{"stringValue":"0123456789ab"}},{"key":"evt.num","value":{"stringValue":"42"}},{"key":"k8s.ns.name","value":{"stringValue":"shop"}},{"key":"k8s.pod.name","value":{"stringValue":"web-0"}},{"key":"proc.aname[2]","value":{"stringValue":"runc"}},{"key":"proc.cmdline","value":{"stringValue":"sh -c 'x > /tmp/ä' and a tail of some length"}},{"key":"user.name","value":{"stringValue":"root"}}]}]}]}]}
    "#]],
    );
    check(
        yaml,
        &[minimal()],
        expect![[r#"
        POST http://otel:4318/v1/logs
        Content-Type: application/json
        a: b
        c: d

        {"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"falco"}},{"key":"service.version","value":{"stringValue":"0.1.0"}}]},"scopeLogs":[{"scope":{"name":"falco"},"logRecords":[{"timeUnixNano":"1767349230000000000","observedTimeUnixNano":"1767349230000000000","severityNumber":5,"severityText":"Debug","body":{"stringValue":"x"},"attributes":[{"key":"priority","value":{"stringValue":"Debug"}},{"key":"source","value":{"stringValue":"syscalls"}},{"key":"rule","value":{"stringValue":"R"}},{"key":"hostname","value":{"stringValue":""}},{"key":"tags","value":{"stringValue":""}},{"key":"timestamp","value":{"stringValue":"2026-01-02 10:20:30 +0000 UTC"}}]}]}]}]}
    "#]],
    );
}

#[test]
fn datadoglogs() {
    check(
        "datadoglogs: {apikey: k, service: s}",
        &[rich()],
        expect![[r#"
            POST https://http-intake.logs.datadoghq.com/api/v2/logs
            Content-Type: application/json; charset=utf-8
            DD-API-KEY: k

            [{"ddsource":"falco","hostname":"node-1","service":"s","message":"{\"uuid\":\"11111111-2222-4333-8444-555555555555\",\"output\":\"10:20:30.123456789: Critical Shell in \\\"web\\\" (user=root cmd=sh -c 'x > /tmp/ä')\",\"priority\":\"Critical\",\"rule\":\"Terminal shell\",\"time\":\"2026-01-02T10:20:30.123456789Z\",\"output_fields\":{\"container.id\":\"0123456789ab\",\"evt.num\":42,\"evt.res\":null,\"k8s.ns.name\":\"shop\",\"k8s.pod.name\":\"web-0\",\"proc.aname[2]\":\"runc\",\"proc.cmdline\":\"sh -c 'x > /tmp/ä' and a tail of some length\",\"user.name\":\"root\"},\"source\":\"syscall\",\"tags\":[\"container\",\"shell\"],\"hostname\":\"node-1\"}","ddtags":"container,shell"}]
        "#]],
    );
    check(
        "datadoglogs: {apikey: k, host: 'https://eu/'}",
        &[minimal()],
        expect![[r#"
            POST https://eu/api/v2/logs
            Content-Type: application/json; charset=utf-8
            DD-API-KEY: k

            [{"ddsource":"falco","message":"{\"uuid\":\"u\",\"output\":\"x\",\"priority\":\"Debug\",\"rule\":\"R\",\"time\":\"2026-01-02T10:20:30Z\",\"output_fields\":{},\"source\":\"syscalls\"}"}]
        "#]],
    );
}

#[test]
fn policyreport() {
    use super::policyreport::PolicyReports;
    let reports = PolicyReports {
        max_events: 2,
        prune_by_priority: false,
        fallback_namespace: "default".into(),
    };
    let first = reports.add(None, Some("shop"), &[&rich()]);
    let pretty = |report| serde_json::to_string_pretty(&sorted(report)).expect("JSON");
    expect![[r#"
        {
          "apiVersion": "wgpolicyk8s.io/v1alpha2",
          "kind": "PolicyReport",
          "metadata": {
            "labels": {
              "app.kubernetes.io/managed-by": "falcosidekick"
            },
            "name": "falco-policy-report",
            "namespace": "shop"
          },
          "results": [
            {
              "category": "SI - System and Information Integrity",
              "message": "10:20:30.123456789: Critical Shell in \"web\" (user=root cmd=sh -c 'x > /tmp/ä')",
              "policy": "syscall",
              "properties": {
                "container.id": "0123456789ab",
                "evt.num": "42",
                "evt.res": "<nil>",
                "k8s.ns.name": "shop",
                "k8s.pod.name": "web-0",
                "proc.aname[2]": "runc",
                "proc.cmdline": "sh -c 'x > /tmp/ä' and a tail of some length",
                "user.name": "root"
              },
              "resources": [
                {
                  "apiVersion": "v1",
                  "kind": "Pod",
                  "name": "web-0",
                  "namespace": "shop"
                }
              ],
              "result": "fail",
              "rule": "Terminal shell",
              "severity": "critical",
              "source": "Falco",
              "timestamp": {
                "nanos": 123456789,
                "seconds": 1767349230
              }
            }
          ],
          "summary": {
            "error": 0,
            "fail": 1,
            "pass": 0,
            "skip": 0,
            "warn": 0
          }
        }"#]].assert_eq(&pretty(&first));
    let pruned = reports.add(Some(&first), Some("shop"), &[&minimal(), &minimal()]);
    assert_eq!(pruned["summary"]["skip"], 2);
    assert_eq!(pruned["summary"]["fail"], 0);
    let reports = PolicyReports {
        prune_by_priority: true,
        ..reports
    };
    let pruned = reports.add(Some(&first), Some("shop"), &[&minimal(), &minimal()]);
    assert_eq!(
        (&pruned["summary"]["skip"], &pruned["summary"]["fail"]),
        (&1.into(), &1.into())
    );
    expect![[r#"
        {
          "apiVersion": "wgpolicyk8s.io/v1alpha2",
          "kind": "ClusterPolicyReport",
          "metadata": {
            "labels": {
              "app.kubernetes.io/managed-by": "falcosidekick"
            },
            "name": "falco-cluster-policy-report"
          },
          "results": [
            {
              "category": "SI - System and Information Integrity",
              "message": "x",
              "policy": "syscalls",
              "result": "skip",
              "rule": "R",
              "severity": "info",
              "source": "Falco",
              "timestamp": {
                "nanos": 0,
                "seconds": 1767349230
              }
            }
          ],
          "summary": {
            "error": 0,
            "fail": 0,
            "pass": 0,
            "skip": 1,
            "warn": 0
          }
        }"#]]
    .assert_eq(&pretty(&reports.add(None, None, &[&minimal()])));
}

/// Members in the order of their names, however the library was built.
fn sorted(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Every output at once, for what must hold of all.
const ALL: &str = r#"
slack: {webhookurl: 'http://h/slack', messageformat: '{{ .Output }}'}
rocketchat: {webhookurl: 'http://h/rocketchat'}
mattermost: {webhookurl: 'http://h/mattermost'}
teams: {webhookurl: 'http://h/teams'}
datadoglogs: {apikey: k}
discord: {webhookurl: 'http://h/discord'}
alertmanager: {hostport: 'http://h'}
elasticsearch: {hostport: 'http://h', batching: {enabled: true}}
loki: {hostport: 'http://h', extralabels: 'proc.cmdline'}
opsgenie: {apikey: k}
webhook: {address: 'http://h'}
splunk: {host: 'http://h'}
cloudevents: {address: 'http://h'}
pagerduty: {routingkey: k}
otlp: {logs: {endpoint: 'http://h'}}
"#;

#[test]
fn hostile_alerts_break_no_payload() {
    let config = Config::parse(ALL, &|_| None).expect("a good configuration");
    let nasty = "\u{0}\u{1b}[31m\r\nX-Evil: 1\"\\\u{202e}\u{fffd}```{{ .Rule }}</script>\u{2028}";
    let mut hostile = vec![];
    for text in [
        nasty.to_owned(),
        nasty.repeat(20_000),
        String::new(),
        "ä".repeat(1 << 20),
    ] {
        let mut alert = rich();
        alert.output = text.clone();
        alert.rule = text.clone();
        alert.source = text.clone();
        alert.hostname = text.clone();
        alert.uuid = text.clone();
        alert.tags = vec![text.clone(), "b".into()];
        for n in 0..40 {
            alert.output_fields.insert(
                format!("{n}{}", text.chars().take(300).collect::<String>()),
                text.as_str().into(),
            );
        }
        alert
            .output_fields
            .insert("proc.cmdline".into(), text.as_str().into());
        config.enrichment.apply(&mut alert);
        assert!(alert.to_json().len() <= crate::forward::enrich::LONGEST_ALERT_BYTES);
        assert!(Alert::from_json(&alert.to_json()).is_ok());
        hostile.push(Arc::new(alert));
    }
    for destination in &config.destinations {
        let Sink::Http(output, _) = &destination.sink else {
            continue;
        };
        for alerts in hostile.chunks(1).chain([&hostile[..]]) {
            let name = &destination.name;
            let request = output.request(alerts);
            for (header, value) in &request.headers {
                assert!(
                    reqwest::header::HeaderName::from_bytes(header.as_bytes()).is_ok(),
                    "{name}: {header}"
                );
                assert!(
                    reqwest::header::HeaderValue::from_str(value).is_ok(),
                    "{name}: {header}"
                );
            }
            let values = serde_json::Deserializer::from_slice(&request.body)
                .into_iter::<serde_json::Value>();
            let count = values
                .inspect(|value| assert!(value.is_ok(), "{name}"))
                .count();
            assert!(count >= 1, "{name}");
            if matches!(name.as_str(), "splunk" | "elasticsearch") {
                // A line an event, whatever is in it.
                let lines = request
                    .body
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .count();
                assert_eq!(lines, count, "{name}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let json = b"{\"output\":\"a\xff\xfe\x01b\nc\",\"priority\":\"Debug\",\"rule\":\"R\",\"time\":\"2026-01-02T10:20:30Z\"}";
    let alert = Alert::from_json(json).expect("an alert");
    assert_eq!(alert.output, "a\u{fffd}\u{fffd} b c");
    assert_eq!(alert.source, "syscalls");
    assert_eq!(alert.uuid.len(), 36);
    assert!(Alert::from_json(b"{}").is_err());
    assert!(Alert::from_json(b"").is_err());
}
