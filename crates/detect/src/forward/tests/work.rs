//! The forwarder at work, against a real HTTP server on loopback that answers as it is told to.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::forward::outputs::tests::rich;
use crate::forward::{
    Alert, Config, Forwarder, ObjectError, ObjectFuture, ObjectStore, Options, Priority,
};

#[derive(Debug, Clone)]
enum Reply {
    Status(u16),
    RetryAfter(u16, &'static str),
    Body(&'static str),
    Slow(Duration),
    HangUp,
}

/// What the server was asked and what it is to answer: the script first, then 200.
#[derive(Default)]
struct Told {
    script: VecDeque<Reply>,
    always: Option<Reply>,
    /// Status that was answered, headers, body.
    seen: Vec<(u16, hyper::HeaderMap, Vec<u8>)>,
}

struct Server {
    url: String,
    told: Arc<Mutex<Told>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Reply>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let told = Arc::new(Mutex::new(Told {
            script: script.into_iter().collect(),
            ..Told::default()
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let told = told.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let told = told.clone();
                    connections.spawn(async move {
                        let answer = service_fn(move |request| answer(told.clone(), request));
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), answer)
                            .await;
                    });
                }
            }
        });
        Server {
            url,
            told,
            _tasks: tasks,
        }
    }

    fn always(&self, reply: Option<Reply>) {
        self.told.lock().expect("no panic").always = reply;
    }

    /// The first words of the outputs that were taken, in order.
    fn taken(&self) -> Vec<String> {
        let told = self.told.lock().expect("no panic");
        let taken = told.seen.iter().filter(|(status, _, _)| *status == 200);
        taken
            .flat_map(|(_, _, body)| {
                serde_json::Deserializer::from_slice(body)
                    .into_iter::<serde_json::Value>()
                    .map(|alert| {
                        let alert = alert.expect("JSON");
                        let alert = alert.get("event").unwrap_or(&alert).clone();
                        alert["output"].as_str().unwrap_or_default().to_owned()
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn asked(&self) -> usize {
        self.told.lock().expect("no panic").seen.len()
    }

    async fn until(&self, what: impl Fn(&Server) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("taken: {:?}", self.taken()));
    }
}

async fn answer(
    told: Arc<Mutex<Told>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let headers = request.headers().clone();
    let body = request.into_body().collect().await?.to_bytes().to_vec();
    let reply = {
        let mut told = told.lock().expect("no panic");
        let always = told.always.clone();
        told.script
            .pop_front()
            .or(always)
            .unwrap_or(Reply::Status(200))
    };
    let note = |status| {
        told.lock()
            .expect("no panic")
            .seen
            .push((status, headers, body))
    };
    let response = Response::builder();
    let response = match reply {
        Reply::Status(status) => {
            note(status);
            response.status(status).body(Full::default())?
        }
        Reply::RetryAfter(status, after) => {
            note(status);
            response
                .status(status)
                .header("Retry-After", after)
                .body(Full::default())?
        }
        Reply::Body(body) => {
            note(200);
            response.body(Full::from(body))?
        }
        Reply::Slow(delay) => {
            note(0);
            tokio::time::sleep(delay).await;
            response.body(Full::default())?
        }
        Reply::HangUp => {
            note(0);
            return Err("hung up".into());
        }
    };
    Ok(response)
}

pub(super) fn options(directory: &Path) -> Options {
    Options {
        first_retry: Duration::from_millis(10),
        longest_retry: Duration::from_millis(50),
        attempt_timeout: Duration::from_millis(500),
        ..Options::new(directory)
    }
}

pub(super) fn start(yaml: &str, options: &Options) -> Forwarder {
    let config = Config::parse(yaml, &|_| None).expect("a good configuration");
    Forwarder::start(config, options, None).expect("starts")
}

pub(super) fn alert(output: impl ToString) -> Arc<Alert> {
    Arc::new(Alert {
        output: output.to_string(),
        ..rich()
    })
}

pub(super) fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn metric(forwarder: &Forwarder, line: &str) -> u64 {
    let metrics = forwarder.metrics();
    let line = format!("falcosecurity_falcosidekick_{line} ");
    let value = metrics.lines().find_map(|other| other.strip_prefix(&line));
    value
        .unwrap_or_else(|| panic!("no {line}in {metrics}"))
        .parse()
        .expect("a number")
}

pub(super) const STOP: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_now_is_tried_again_and_order_is_kept() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([
        Reply::Status(200),
        Reply::Status(500),
        Reply::HangUp,
        Reply::RetryAfter(429, "0"),
        Reply::Status(503),
        Reply::Slow(Duration::from_secs(5)),
        Reply::Status(200),
        Reply::Status(400),
        Reply::Status(302),
    ])
    .await;
    let yaml = format!("webhook: {{address: '{}'}}", server.url);
    let forwarder = start(&yaml, &options(temp.path()));
    for name in names(0..10) {
        forwarder.send(alert(name));
    }
    // The third and fourth are refused for good.
    server.until(|server| server.taken().len() == 8).await;
    let mut wanted = names(0..10);
    wanted.drain(2..4);
    assert_eq!(server.taken(), wanted);
    server
        .until(|_| metric(&forwarder, "outputs_queue_alerts{destination=\"webhook\"}") == 0)
        .await;
    assert_eq!(
        metric(
            &forwarder,
            "outputs_total{destination=\"webhook\",status=\"ok\"}"
        ),
        8
    );
    assert_eq!(
        metric(
            &forwarder,
            "outputs_total{destination=\"webhook\",status=\"error\"}"
        ),
        2
    );
    assert_eq!(
        metric(&forwarder, "outputs_retries_total{destination=\"webhook\"}"),
        5
    );
    assert_eq!(
        metric(
            &forwarder,
            "inputs_total{source=\"engine\",status=\"accepted\"}"
        ),
        10
    );
    assert_eq!(forwarder.stop(STOP).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_asks_for_patience_gets_it() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([Reply::RetryAfter(429, "1")]).await;
    let yaml = format!("webhook: {{address: '{}'}}", server.url);
    let forwarder = start(&yaml, &options(temp.path()));
    let before = std::time::Instant::now();
    forwarder.send(alert("a"));
    server.until(|server| server.taken() == ["a"]).await;
    assert!(before.elapsed() >= Duration::from_secs(1));
    assert_eq!(forwarder.stop(STOP).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_over_a_restart() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([]).await;
    server.always(Some(Reply::Status(503)));
    let yaml = format!("webhook: {{address: '{}'}}", server.url);
    let forwarder = start(&yaml, &options(temp.path()));
    for name in names(0..50) {
        forwarder.send(alert(name));
    }
    server.until(|server| server.asked() > 2).await;
    assert_eq!(forwarder.stop(Duration::from_millis(50)).await, 50);
    server.always(None);
    let forwarder = start(&yaml, &options(temp.path()));
    for name in names(50..60) {
        forwarder.send(alert(name));
    }
    assert_eq!(forwarder.stop(STOP).await, 0);
    assert_eq!(server.taken(), names(0..60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_repeats_at_most_what_was_under_way() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([]).await;
    let yaml = format!("webhook: {{address: '{}'}}", server.url);
    let live = temp.path().join("live");
    let forwarder = start(&yaml, &options(&live));
    let mut copies = 0;
    for name in names(0..60) {
        forwarder.send(alert(name));
        tokio::time::sleep(Duration::from_millis(2)).await;
        // What a kill at this instant would leave: some of the files older than others.
        if copies < 10
            && copy(
                &live.join("webhook"),
                &temp.path().join(format!("{copies}/webhook")),
            )
        {
            copies += 1;
        }
    }
    assert_eq!(forwarder.stop(STOP).await, 0);
    assert_eq!(server.taken(), names(0..60));
    for copied in 0..copies {
        let again = Server::start([]).await;
        let yaml = format!("webhook: {{address: '{}'}}", again.url);
        let forwarder = start(&yaml, &options(&temp.path().join(copied.to_string())));
        forwarder.stop(STOP).await;
        let taken = again.taken();
        let all = names(0..60);
        let ran_on = taken
            .first()
            .and_then(|first| all.iter().position(|name| name == first));
        if let Some(from) = ran_on {
            assert_eq!(taken, all[from..from + taken.len()]);
        }
    }
}

fn copy(from: &Path, to: &Path) -> bool {
    std::fs::create_dir_all(to).expect("a directory");
    let Ok(entries) = std::fs::read_dir(from) else {
        return false;
    };
    entries
        .flatten()
        .for_each(|entry| drop(std::fs::copy(entry.path(), to.join(entry.file_name()))));
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_drops_the_oldest_and_counts_them() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([]).await;
    server.always(Some(Reply::Status(503)));
    let yaml = format!("webhook: {{address: '{}'}}", server.url);
    let options = Options {
        queue_bytes: 32 * 1024,
        ..options(temp.path())
    };
    let forwarder = start(&yaml, &options);
    for name in names(0..500) {
        forwarder.send(alert(name));
    }
    let dropped = || metric(&forwarder, "outputs_dropped_total{destination=\"webhook\"}");
    server
        .until(|_| {
            metric(
                &forwarder,
                "inputs_total{source=\"engine\",status=\"accepted\"}",
            ) == 500
                && dropped() > 300
        })
        .await;
    assert!(metric(&forwarder, "outputs_queue_bytes{destination=\"webhook\"}") <= 32 * 1024);
    server.always(None);
    let wanted = 500 - dropped();
    server
        .until(|server| server.taken().len() as u64 >= wanted)
        .await;
    assert_eq!(dropped(), 500 - wanted);
    assert_eq!(forwarder.stop(STOP).await, 0);
    let taken = server.taken();
    assert_eq!(taken.len() as u64, wanted);
    assert_eq!(taken.last().map(String::as_str), Some("499"));
    assert!(taken.is_sorted_by_key(|name| name.parse::<u32>().unwrap_or_default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_are_minded_and_batches_are_made() {
    let temp = tempfile::tempdir().expect("a directory");
    let hook = Server::start([]).await;
    let splunk = Server::start([Reply::Status(503), Reply::Status(400), Reply::Status(400)]).await;
    let yaml = format!(
        "{{webhook: {{address: '{}', minimumpriority: error}}, splunk: {{host: '{}'}}}}",
        hook.url, splunk.url
    );
    let forwarder = start(&yaml, &options(temp.path()));
    for (name, priority) in [
        ("a", Priority::Warning),
        ("b", Priority::Error),
        ("c", Priority::Emergency),
        ("d", Priority::Debug),
    ] {
        forwarder.send(Arc::new(Alert {
            output: name.into(),
            priority,
            ..rich()
        }));
    }
    assert_eq!(forwarder.stop(STOP).await, 0);
    assert_eq!(hook.taken(), ["b", "c"]);
    // However the four came together: the refusal of a batch is one alert's fault, which is the
    // first to be refused alone; a single one that is refused is gone.
    let taken = splunk.taken();
    assert!(
        taken.len() >= 2 && taken.ends_with(&["d".into()]),
        "{taken:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_a_bulk_are_sent_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let server = Server::start([
        Reply::Status(503),
        Reply::Body(r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429}},{"create":{"status":400}}]}"#),
        Reply::Body(r#"{"errors":false,"items":[{"create":{"status":201}}]}"#),
    ])
    .await;
    let yaml = format!(
        "elasticsearch: {{hostport: '{}', enablecompression: true, batching: {{enabled: true, flushinterval: 300ms}}}}",
        server.url
    );
    let forwarder = start(&yaml, &options(temp.path()));
    for name in ["a", "b", "c"] {
        forwarder.send(alert(name));
    }
    server.until(|server| server.asked() == 3).await;
    server
        .until(|_| {
            metric(
                &forwarder,
                "outputs_queue_alerts{destination=\"elasticsearch\"}",
            ) == 0
        })
        .await;
    assert_eq!(
        metric(
            &forwarder,
            "outputs_total{destination=\"elasticsearch\",status=\"ok\"}"
        ),
        2
    );
    assert_eq!(
        metric(
            &forwarder,
            "outputs_total{destination=\"elasticsearch\",status=\"error\"}"
        ),
        1
    );
    assert_eq!(forwarder.stop(STOP).await, 0);
    let told = server.told.lock().expect("no panic");
    let (_, headers, body) = told.seen.last().expect("three requests");
    assert_eq!(headers["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text)
        .expect("gzip");
    assert!(
        text.contains(r#""output":"b""#) && text.lines().count() == 2,
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_is_waited_for() {
    let temp = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let yaml = format!("webhook: {{address: 'http://127.0.0.1:{port}/SECRET'}}");
    let forwarder = start(&yaml, &options(temp.path()));
    forwarder.send(alert("a"));
    let retries = || metric(&forwarder, "outputs_retries_total{destination=\"webhook\"}");
    tokio::time::timeout(STOP, async {
        while retries() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is tried again");
    assert_eq!(forwarder.stop(Duration::ZERO).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_why() {
    let temp = tempfile::tempdir().expect("a directory");
    let start = |yaml: &str| {
        let config = Config::parse(yaml, &|_| None).expect("a good configuration");
        match Forwarder::start(config, &options(temp.path()), None) {
            Ok(_) => panic!("{yaml} starts"),
            Err(error) => stdx::chain::chain(&error),
        }
    };
    assert_eq!(
        start("policyreport: {enabled: true}"),
        "output policyreport needs a Kubernetes API to write its objects to"
    );
    assert_eq!(
        start("{mutualtlsfilespath: /nowhere, webhook: {address: 'https://h', mutualtls: true}}"),
        "TLS of output webhook cannot be set up: cannot use /nowhere/ca.crt: No such file or \
         directory (os error 2)"
    );
    std::fs::write(temp.path().join("webhook"), "").expect("a file");
    let told = start("webhook: {address: 'http://h'}");
    assert!(
        told.starts_with("the queue of output webhook cannot be used: "),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_and_checked() {
    let temp = tempfile::tempdir().expect("a directory");
    let file = |name: &str| temp.path().join(name);
    let write = |name: &str, text: String| std::fs::write(file(name), text).expect("written");
    let make = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).expect("a certificate")
    };
    let (ours, theirs) = (make(&["client"]), make(&["localhost"]));
    write("client.crt", ours.cert.pem());
    write("client.key", ours.signing_key.serialize_pem());
    write("ca.crt", theirs.cert.pem());
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(ours.cert.der().clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(trusted),
        provider.clone(),
    )
    .allow_unauthenticated()
    .build()
    .expect("a verifier");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(theirs.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![theirs.cert.der().clone()], key.into())
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // Whether a certificate was shown, of every request.
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = shown.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let shown = stream.get_ref().1.peer_certificates().is_some();
            seen.lock().expect("no panic").push(shown);
            let told = Arc::new(Mutex::new(Told::default()));
            let answer = service_fn(move |request| answer(told.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    });
    let path = temp.path().display();
    let address = format!("address: 'https://localhost:{port}'");
    for (yaml, left) in [
        (
            format!("{{mutualtlsfilespath: '{path}', webhook: {{{address}, mutualtls: true}}}}"),
            0,
        ),
        (
            format!("{{tlsclient: {{cacertfile: '{path}/ca.crt'}}, webhook: {{{address}}}}}"),
            0,
        ),
        (format!("webhook: {{{address}, checkcert: false}}"), 0),
        (format!("webhook: {{{address}}}"), 1),
    ] {
        let forwarder = start(&yaml, &options(&temp.path().join(format!("queues-{left}"))));
        forwarder.send(alert("a"));
        assert_eq!(
            forwarder.stop(Duration::from_millis(1500)).await,
            left,
            "{yaml}"
        );
    }
    server.abort();
    assert_eq!(*shown.lock().expect("no panic"), [true, false, false]);
}

/// Objects in memory; the first write of each conflicts, and one namespace is gone.
#[derive(Default)]
struct Objects {
    reports: Mutex<std::collections::BTreeMap<String, serde_json::Value>>,
    conflicted: Mutex<std::collections::BTreeSet<String>>,
}

impl Objects {
    fn write(&self, namespace: Option<&str>, report: serde_json::Value) -> Result<(), ObjectError> {
        let key = namespace.unwrap_or_default().to_owned();
        match key.as_str() {
            "forbidden" => return Err(ObjectError::Refused("no right".into())),
            _ if self
                .conflicted
                .lock()
                .expect("no panic")
                .insert(key.clone()) =>
            {
                return Err(ObjectError::Conflict);
            }
            _ => {}
        }
        self.reports.lock().expect("no panic").insert(key, report);
        Ok(())
    }
}

impl ObjectStore for Objects {
    fn has_namespace<'a>(&'a self, name: &'a str) -> ObjectFuture<'a, bool> {
        Box::pin(async move { Ok(name != "gone") })
    }

    fn get<'a>(
        &'a self,
        namespace: Option<&'a str>,
        _name: &'a str,
    ) -> ObjectFuture<'a, Option<serde_json::Value>> {
        let key = namespace.unwrap_or_default();
        let report = self.reports.lock().expect("no panic").get(key).cloned();
        Box::pin(async move { Ok(report) })
    }

    fn create<'a>(
        &'a self,
        namespace: Option<&'a str>,
        report: serde_json::Value,
    ) -> ObjectFuture<'a, ()> {
        let written = self.write(namespace, report);
        Box::pin(async move { written })
    }

    fn update<'a>(
        &'a self,
        namespace: Option<&'a str>,
        report: serde_json::Value,
    ) -> ObjectFuture<'a, ()> {
        let written = self.write(namespace, report);
        Box::pin(async move { written })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_written_by_namespace() {
    let temp = tempfile::tempdir().expect("a directory");
    let objects = Arc::new(Objects::default());
    let yaml = "policyreport: {enabled: true, falconamespace: falco}";
    let config = Config::parse(yaml, &|_| None).expect("a good configuration");
    let forwarder = Forwarder::start(config, &options(temp.path()), Some(objects.clone()));
    let forwarder = forwarder.expect("starts");
    for namespace in ["shop", "gone", "../x", "forbidden", "shop"] {
        let mut alert = rich();
        alert
            .output_fields
            .insert("k8s.ns.name".into(), namespace.into());
        forwarder.send(Arc::new(alert));
    }
    forwarder.send(Arc::new(Alert {
        source: "a_plugin".into(),
        ..rich()
    }));
    let ok = "outputs_total{destination=\"policyreport\",status=\"ok\"}";
    let refused = "outputs_total{destination=\"policyreport\",status=\"error\"}";
    tokio::time::timeout(STOP, async {
        while metric(&forwarder, ok) + metric(&forwarder, refused) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("all are dealt with");
    assert_eq!(
        (metric(&forwarder, ok), metric(&forwarder, refused)),
        (4, 1)
    );
    assert_eq!(forwarder.stop(STOP).await, 0);
    let reports = objects.reports.lock().expect("no panic");
    let counts: Vec<(&str, usize)> = reports
        .iter()
        .map(|(key, report)| {
            (
                key.as_str(),
                report["results"].as_array().map_or(0, Vec::len),
            )
        })
        .collect();
    // What is no name of a namespace is told of the cluster.
    assert_eq!(counts, [("", 1), ("falco", 1), ("shop", 2)]);
}
