//! Calls to a real TLS server, well and badly behaved.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use pki::{Authority, Leaf, San, ServerTls, Trust, Usage};
use serde_json::{Value, json};
use store::{Expect, Store, Write};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    answer_bytes: 1 << 20,
};

struct Server {
    address: SocketAddr,
    authority: Authority,
    connections: Arc<AtomicUsize>,
    _dir: TempDir,
}

fn leaf(usage: Usage, sans: Vec<San>) -> Leaf {
    Leaf {
        common_name: "front".to_owned(),
        organizations: Vec::new(),
        sans,
        usage,
        lifetime: Duration::from_secs(600),
    }
}

/// Answers with what it was asked: the path decides how well.
async fn serve(sans: Vec<San>) -> Server {
    pki::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path()).unwrap();
    let pair = authority.issue(&leaf(Usage::Server, sans)).unwrap();
    let tls = ServerTls::new(&pair, Some(authority.certificate_pem())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls.config());
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let peer = stream.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request: Request<Incoming>| answer(request, peer));
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Server {
        address,
        authority,
        connections,
        _dir: dir,
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: bool,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (path, version) = (
        request.uri().path_and_query().unwrap().to_string(),
        request.version(),
    );
    let host = request.headers().get("host").cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    match path.as_str() {
        "/hang" => std::future::pending().await,
        "/huge" => Ok(Response::new(full_body(vec![b'x'; 2 << 20]))),
        _ => {
            let told = json!({"path": path, "version": format!("{version:?}"), "peer": peer,
                "host": host.map(|h| h.to_str().unwrap_or_default().to_owned()),
                "body": String::from_utf8_lossy(&body)});
            Ok(Response::new(full_body(told.to_string())))
        }
    }
}

async fn outbound(objects: &[(&str, Value)]) -> (Outbound, Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Store::open(&path, store::Options::default()).await.unwrap();
    for (key, object) in objects {
        let bytes = crate::codec::encode(object);
        let write = Write::put(format!("/registry/{key}"), Expect::Absent, bytes);
        store.write(write).await.unwrap();
    }
    let (cache, _events) = Cache::load(&store).await.unwrap();
    (Outbound::new(cache), store, dir)
}

fn trusting(server: &Server) -> Trust {
    Trust::Authorities(server.authority.certificate_pem().to_owned())
}

fn localhost() -> Vec<San> {
    vec![San::Dns("localhost".to_owned())]
}

async fn post(out: &Outbound, to: &Endpoint) -> Result<Value, String> {
    let answered = out.post_json(to, "timeout=5s", "{}", LIMITS).await;
    let (status, bytes) = answered.map_err(|error| error.to_string())?;
    assert_eq!(status, 200);
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_reuse_connections_of_both_protocols() {
    let server = serve(localhost()).await;
    let (out, ..) = outbound(&[]).await;
    let url = format!("https://localhost:{}/a/b", server.address.port());
    let mut to = Endpoint::url(&url, trusting(&server)).unwrap();
    for (http2, version) in [(true, "HTTP/2.0"), (false, "HTTP/1.1")] {
        to.http2 = http2;
        let before = server.connections.load(Ordering::SeqCst);
        for _ in 0..5 {
            let told = post(&out, &to).await.unwrap();
            assert_eq!(told["version"], version);
            assert_eq!(told["path"], "/a/b?timeout=5s");
            assert_eq!(told["body"], "{}");
            assert_eq!(told["peer"], false);
        }
        // One, and perhaps others while that was not back yet; on a busy machine that takes a while.
        assert!(server.connections.load(Ordering::SeqCst) < before + 5);
    }
    // As somebody: another connection, with a certificate.
    let pair = server
        .authority
        .issue(&leaf(Usage::Client, Vec::new()))
        .unwrap();
    let mut request = Request::new(full_body(""));
    *request.uri_mut() = uri(&to, "/me").unwrap();
    let (_, bytes) = out.fetch(&to, Some(&pair), request, LIMITS).await.unwrap();
    let told: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(told["peer"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_certificate_is_taken() {
    let server = serve(localhost()).await;
    let (out, ..) = outbound(&[]).await;
    let url = format!("https://localhost:{}/", server.address.port());
    let words = |trust: Trust| {
        let (out, url) = (&out, url.clone());
        async move { post(out, &Endpoint::url(&url, trust).unwrap()).await.err() }
    };
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(words(trusting(&server)).await, None);
    assert_eq!(words(Trust::Anything).await, None);
    assert_eq!(words(Trust::System).await.as_deref(), Some(unknown));
    let other = serve(localhost()).await;
    assert_eq!(words(trusting(&other)).await.as_deref(), Some(unknown));
    let garbage = words(Trust::Authorities("garbage".to_owned())).await;
    assert!(garbage.is_some());

    let misnamed = serve(vec![San::Dns("other.example".to_owned())]).await;
    let url = format!("https://localhost:{}/", misnamed.address.port());
    let to = Endpoint::url(&url, trusting(&misnamed)).unwrap();
    assert_eq!(
        post(&out, &to).await.unwrap_err(),
        "tls: failed to verify certificate: x509: certificate is valid for other.example, not localhost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_servers_cost_no_more_than_allowed() {
    let server = serve(localhost()).await;
    let (out, ..) = outbound(&[]).await;
    let at = |path: &str| {
        let url = format!("https://localhost:{}{path}", server.address.port());
        Endpoint::url(&url, trusting(&server)).unwrap()
    };
    let limits = Limits {
        time: Duration::from_millis(300),
        ..LIMITS
    };
    let hung = out.post_json(&at("/hang"), "", "{}", limits).await;
    assert_eq!(hung.unwrap_err().to_string(), "context deadline exceeded");
    let huge = out.post_json(&at("/huge"), "", "{}", LIMITS).await;
    assert!(matches!(huge, Err(CallError::TooLarge { .. })));

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let to = Endpoint::url(&format!("https://{address}/"), trusting(&server)).unwrap();
    assert_eq!(
        post(&out, &to).await.unwrap_err(),
        format!("dial tcp {address}: connect: connection refused")
    );
}

fn service(spec: Value) -> (&'static str, Value) {
    let object = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "hook", "namespace": "ns"}, "spec": spec});
    ("core/services/ns/hook", object)
}

fn slice(port: u16, ready: bool) -> (&'static str, Value) {
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "hook-1", "namespace": "ns",
            "labels": {"kubernetes.io/service-name": "hook"}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": "https", "port": port}]});
    ("discovery.k8s.io/endpointslices/ns/hook-1", object)
}

#[tokio::test(flavor = "multi_thread")]
async fn services_lead_to_ready_endpoints() {
    let server = serve(vec![San::Dns("hook.ns.svc".to_owned())]).await;
    let port = server.address.port();
    let spec = json!({"clusterIP": "10.0.0.1",
        "ports": [{"name": "https", "port": 8443, "targetPort": "tls"}]});
    let bundle = STANDARD.encode(server.authority.certificate_pem());
    let config = |port: u16| {
        let service = json!({"namespace": "ns", "name": "hook", "port": port, "path": "/x"});
        Endpoint::of_client_config(&json!({"caBundle": bundle, "service": service})).unwrap()
    };
    let (out, ..) = outbound(&[service(spec.clone()), slice(port, true)]).await;
    let told = post(&out, &config(8443)).await.unwrap();
    assert_eq!(told["host"], "hook.ns.svc:8443");
    assert_eq!(told["path"], "/x?timeout=5s");
    assert_eq!(
        post(&out, &config(443)).await.unwrap_err(),
        "no service port 443 found for service \"hook\""
    );
    let (out, ..) = outbound(&[service(spec.clone()), slice(port, false)]).await;
    assert_eq!(
        post(&out, &config(8443)).await.unwrap_err(),
        "no endpoints available for service \"hook\""
    );
    let (out, ..) = outbound(&[]).await;
    assert_eq!(
        post(&out, &config(8443)).await.unwrap_err(),
        "service \"hook\" not found"
    );
    let untracked = json!({"clusterIP": "127.0.0.1", "ports": [{"name": "https", "port": port}]});
    let (out, ..) = outbound(&[service(untracked)]).await;
    post(&out, &config(port)).await.unwrap();
}
