//! The configuration, templates and what is done to every alert, through [`Config::parse`].

use expect_test::expect;

use crate::forward::outputs::tests::rich;
use crate::forward::{Alert, Config};

fn parse(yaml: &str) -> Result<Config, String> {
    let environment = |name: &str| (name == "STAGE").then(|| "prod".to_owned());
    Config::parse(yaml, &environment).map_err(|error| stdx::chain::chain(&error))
}

fn refused(yaml: &str) -> String {
    match parse(yaml) {
        Ok(config) => panic!("{yaml} is taken: {config:?}"),
        Err(error) => error,
    }
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_no_secret() {
    let cases = [
        "slack: {webhookurl: hooks.slack.com/SECRET}",
        "slack: {webhookurl: 'http://h', minimumpriority: high}",
        "slack: {webhookurl: 'http://h', outputformat: html}",
        "slack: {webhookurl: 'http://h', messageformat: '{{ if .Rule }}x{{ end }}'}",
        "slack: {webhookurl: 'http://h', messageformat: '{{ .Nothing }}'}",
        "slack: {webhookurl: 'http://h', messageformat: '{{ .Rule'}",
        "slack: {webhookurl: 'http://h', messageformat: '{{ .Rule | printf \"%s\" }}'}",
        "slack: [1]",
        "slack: {webhookurl: {a: b}}",
        "webhook: {address: 'http://h', customHeaders: {'a b': c}}",
        "webhook: {address: 'http://h', method: 'A B'}",
        "webhook: {address: 'http://h', checkcert: perhaps}",
        "{Webhook: {}, webhook: {}}",
        "alertmanager: {hostport: 'http://a,b'}",
        "alertmanager: {hostport: 'http://a', dropeventthresholds: '10'}",
        "alertmanager: {hostport: 'http://a', endpoint: /api/v1/alerts}",
        "elasticsearch: {hostport: 'http://e', batching: {enabled: true, flushinterval: soon}}",
        "cloudevents: {address: 'http://h', extensions: {Team: x}}",
        "otlp: {logs: {endpoint: 'http://h', protocol: grpc}}",
        "customfields: {a: '%NOWHERE'}",
        "templatedfields: {a: '{{ range . }}{{ end }}'}",
        "slack: {apikey: SECRET\n  : [}",
    ];
    let told: Vec<String> = cases.iter().map(|yaml| refused(yaml)).collect();
    assert!(
        told.iter().all(|line| !line.contains("SECRET")),
        "{told:#?}"
    );
    expect![[r#"
        slack.webhookurl: must be an address that begins with http:// or https://
        slack.minimumpriority: "high" is no priority of Falco's
        slack.outputformat: must be one of all, text, fields
        slack.messageformat: the template cannot be used: `{{ if .Rule }}` is not supported: only members (`.Output`), `index .OutputFields "name"`, `or` and quoted texts are
        slack.messageformat: the template cannot be used: an alert has no member `.Nothing`
        slack.messageformat: the template cannot be used: the action at byte 0 has no `}}`
        slack.messageformat: the template cannot be used: `{{ .Rule | printf "%s" }}` is not supported: only members (`.Output`), `index .OutputFields "name"`, `or` and quoted texts are
        slack: must be a mapping
        slack.webhookurl: must be a text
        webhook.customheaders.a b: is no header of HTTP
        webhook.method: is no method of HTTP
        webhook.checkcert: must be true or false
        webhook: is there twice, also as Webhook
        alertmanager.hostport: must be an address that begins with http:// or https://
        alertmanager.dropeventthresholds: "10" must be a number, a colon and a priority
        alertmanager.endpoint: Alertmanager has no API v1 since 0.27: use /api/v2/alerts
        elasticsearch.batching.flushinterval: must be a time span such as 500ms, 1s or 2m
        cloudevents.extensions.Team: names of extensions are lower-case letters and digits, and not taken
        otlp.logs.protocol: only http/json is spoken here
        customfields.a: there is no variable NOWHERE in the environment
        templatedfields.a: the template cannot be used: `{{ range . }}` is not supported: only members (`.Output`), `index .OutputFields "name"`, `or` and quoted texts are
        the configuration is no YAML: while parsing a flow mapping, did not find expected ',' or '}' at line 2, column 3"#]].assert_eq(&told.join("\n"));
}

#[test]
fn what_has_no_effect_is_told() {
    let config = parse(
        "{debug: true, listenport: 2801, influxdb: {hostport: x}, slack: {webhookurl: 'http://h', colour: red},
          elasticsearch: {numberofshards: 3}, webhook: {address: ''}, teams: }",
    )
    .expect("good");
    assert_eq!(config.outputs().collect::<Vec<_>>(), ["slack"]);
    expect![[r#"
        slack.colour: unknown key, ignored
        elasticsearch.numberofshards: has no effect here
        debug: has no effect here
        listenport: has no effect here
        influxdb: unknown key, ignored"#]]
    .assert_eq(&config.notices.join("\n"));
    assert_eq!(parse("").expect("good").outputs().count(), 0);
}

#[test]
fn alerts_are_enriched_as_upstream_does() {
    let config = parse(
        "{customfields: {stage: '%STAGE'}, customtags: [a, z], bracketreplacer: '_',
          templatedfields: {who: '{{ or (index . \"user.loginname\") (index . \"user.name\") \"nobody\" }}', none: '{{ .x }}'},
          outputFieldFormat: '<timestamp>: <priority> <output> <custom_fields> <templated_fields> (<tags>)'}",
    )
    .expect("good");
    let mut alert = rich();
    alert.output = "10:20:30.1: Critical Shell <tags> here".into();
    config.enrichment.apply(&mut alert);
    expect![[r#"{"uuid":"11111111-2222-4333-8444-555555555555","output":"10:20:30.1: Critical Shell <tags> here stage=prod none=<no value> who=root (a,container,shell,z)","priority":"Critical","rule":"Terminal shell","time":"2026-01-02T10:20:30.123456789Z","output_fields":{"container.id":"0123456789ab","evt.num":42,"evt.res":null,"k8s.ns.name":"shop","k8s.pod.name":"web-0","none":"<no value>","proc.aname_2":"runc","proc.cmdline":"sh -c 'x > /tmp/ä' and a tail of some length","stage":"prod","user.name":"root","who":"root"},"source":"syscall","tags":["a","container","shell","z"],"hostname":"node-1"}"#]].assert_eq(&String::from_utf8_lossy(&alert.to_json()));
}

#[test]
fn long_fields_are_cut_in_the_output_too() {
    let config = parse("").expect("good");
    let mut alert = rich();
    let long = "é".repeat(3000);
    alert.output = format!("before {long} after");
    alert.output_fields.insert("proc.args".into(), long.into());
    config.enrichment.apply(&mut alert);
    let short = format!("{}[...]", "é".repeat(253));
    assert_eq!(alert.output, format!("before {short} after"));
    assert_eq!(alert.output_fields["proc.args"], short.as_str());
}

#[test]
fn templates_are_filled_in_once() {
    let render = |template: &str, alert: &Alert| {
        let config = parse(&format!(
            "slack: {{webhookurl: 'http://h', messageformat: {template:?}}}"
        ));
        let mut config = config.expect("good");
        let sink = config.destinations.remove(0).sink;
        let crate::forward::outputs::Sink::Http(output, _) = sink else {
            panic!("Slack speaks HTTP")
        };
        let body = output.request(&[std::sync::Arc::new(alert.clone())]).body;
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        body["text"].as_str().unwrap_or_default().to_owned()
    };
    let mut alert = rich();
    alert.rule = "{{ .Output }}".into();
    assert_eq!(render("a {{ .Rule }} b", &alert), "a {{ .Output }} b");
    assert_eq!(
        render("a  {{- .Priority -}}  b", &alert),
        "a  {{- .Priority -}}  b".replace("  {{- .Priority -}}  ", "Critical")
    );
    assert_eq!(
        render("{{ index .OutputFields \"x\" }}", &alert),
        "<no value>"
    );
    assert_eq!(
        render("{{ index .OutputFields \"evt.num\" }}", &alert),
        "42"
    );
    assert_eq!(
        render("{{ or .Source `q` }}{{/* no */}}{{ .Tags }}", &alert),
        "syscall[container shell]"
    );
    assert_eq!(
        render("{{ .Time }}", &alert),
        "2026-01-02 10:20:30.123456789 +0000 UTC"
    );
    assert_eq!(
        render("{{ .Hostname }} {{ .UUID }}", &alert),
        "node-1 11111111-2222-4333-8444-555555555555"
    );
}
