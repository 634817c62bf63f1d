//! Requests that go on to a node.

use apiserver::{empty_body, full_body};
use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode, header};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Cluster, answer, master, pod};
use crate::https::Https;

const POD: &str = "/api/v1/namespaces/default/pods/p";

async fn with_pod() -> Cluster {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let mut p = pod("p");
    p["spec"]["nodeName"] = json!("n1");
    c.post("/api/v1/namespaces/default/pods", &p).await.ok();
    c
}

/// A node that tells what it was asked, and echoes on an upgraded stream.
async fn node(stream: tokio::io::DuplexStream) -> Result<(), hyper::Error> {
    let service = service_fn(|mut request: Request<hyper::body::Incoming>| async move {
        let asked = format!("{} {}", request.method(), request.uri());
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        if !request.headers().contains_key(header::UPGRADE) {
            return Ok::<_, std::convert::Infallible>(Response::new(full_body(asked)));
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut echo = [0; 4];
            stream.read_exact(&mut echo).await.unwrap();
            stream.write_all(&echo).await.unwrap();
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .body(empty_body())
            .unwrap();
        Ok(response)
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_node() {
    let mut c = with_pod().await;
    let get = |path: &str| {
        Request::builder()
            .uri(path)
            .header("authorization", "Bearer x")
            .extension(master())
            .body(empty_body())
            .unwrap()
    };
    let server = c.server.clone();
    let request = get(&format!("{POD}/log?follow=true&tailLines=5&container=main"));
    let asking = tokio::spawn(async move { answer(server.handle(request).await).await });
    let (name, stream) = c.dials.recv().await.unwrap();
    assert_eq!(name, "n1");
    let serving = tokio::spawn(node(stream));
    let got = asking.await.unwrap();
    assert_eq!(
        got.text,
        "GET /containerLogs/default/p/main?follow=true&tailLines=5"
    );
    serving.await.unwrap().unwrap();

    let unknown = c
        .get(&format!("{POD}/log?container=other"))
        .await
        .refused(400);
    assert_eq!(unknown, "container other is not valid for pod p");
    c.get("/api/v1/namespaces/default/pods/none/log")
        .await
        .refused(404);
    c.get(&format!("{POD}/log?limitBytes=0")).await.refused(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_is_passed_through_in_both_directions() {
    let mut c = with_pod().await;
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = c.server.clone();
    let front = tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            use http_body_util::BodyExt as _;
            let server = server.clone();
            async move {
                let mut request = request.map(|b| b.map_err(Into::into).boxed_unsync());
                request.extensions_mut().insert(master());
                Ok::<_, std::convert::Infallible>(server.handle(request).await)
            }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), service)
            .with_upgrades()
            .await
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!(
            "{POD}/exec?command=sh&command=-c&command=a+b&stdin=true&stdout=true"
        ))
        .header("host", "localhost")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .body(empty_body())
        .unwrap();
    let sending =
        tokio::spawn(async move { (sender.send_request(request).await.unwrap(), sender) });
    let (_, stream) = c.dials.recv().await.unwrap();
    tokio::spawn(node(stream));
    let (mut response, _sender) = sending.await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()[header::UPGRADE], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let wanted = "POST /exec/default/p/main?input=1&output=1&command=sh&command=-c&command=a%20b";
    let mut told = vec![0; wanted.len()];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), wanted);
    stream.write_all(b"ping").await.unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).await.unwrap();
    assert_eq!(echo, b"ping");
    front.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_what_is_proxied_ends_with_a_slash() {
    let c = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services/web/proxy";
    let answer = c.get(&format!("{path}?a=b")).await;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.headers["location"], format!("{path}/?a=b"));
    c.get(&format!("{path}/?a=b")).await.refused(404);
    c.send(Method::POST, path, "text/plain", "x".into())
        .await
        .refused(404);
}

/// Sets where a pod is.
async fn place(c: &Cluster, name: &str, ip: &str) {
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    c.patch(&path, "merge", &status).await.ok();
}

#[test]
fn pods_and_services_over_https() {
    testkit::isolated(async || {
        const IP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 99, 0, 1);
        testkit::Run::new("ip")
            .args(["address", "add", &format!("{IP}/32"), "dev", "lo"])
            .ok()?;
        let say = |asked: crate::https::Asked| {
            let said = format!("{} {}?{}", asked.method, asked.path, asked.query);
            async { Response::new(full_body(said)) }.boxed()
        };
        // Its certificate is for another name, as those of pods are.
        let server = Https::start_at(IP, &["elsewhere"], None, say).await;
        let port = server.port();
        let c = with_pod().await;
        let pods = "/api/v1/namespaces/default/pods";
        let said = c
            .get(&format!("{pods}/https:p:{port}/proxy/a?b=c"))
            .await
            .refused(400);
        assert_eq!(said, "address not allowed");
        place(&c, "p", &IP.to_string()).await;
        let got = c.get(&format!("{pods}/https:p:{port}/proxy/a?b=c")).await;
        assert_eq!((got.status, got.text.as_str()), (200, "GET /a?b=c"));
        // It does not speak plain HTTP.
        let plain = c.get(&format!("{pods}/p:{port}/proxy/")).await;
        assert!(plain.status != 200, "{}", plain.text);
        for (name, said) in [
            ("ftp:p:1", "invalid pod request \"ftp:p:1\""),
            ("https:p:port", "invalid pod request \"https:p:port\""),
            ("a:b:c:d", "invalid pod request \"a:b:c:d\""),
        ] {
            let got = c.get(&format!("{pods}/{name}/proxy/")).await.refused(400);
            assert_eq!(got, said);
        }
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            place(&c, "p", address).await;
            let got = c.get(&format!("{pods}/p:80/proxy/")).await.refused(400);
            assert_eq!(got, "address not allowed", "{address}");
        }

        place(&c, "p", &IP.to_string()).await;
        let service = json!({"metadata": {"name": "web"},
            "spec": {"ports": [{"name": "tls", "port": 443}]}});
        c.post("/api/v1/namespaces/default/services", &service)
            .await
            .ok();
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let slice = |target: serde_json::Value| {
            json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"name": "tls", "port": port}],
                "endpoints": [{"addresses": [IP.to_string()], "targetRef": target}]})
        };
        // An address that nobody says to be a pod's, or that is not that pod's.
        let said = "no endpoints available for service \"https:web:tls\"";
        let web = "/api/v1/namespaces/default/services/https:web:tls/proxy/x";
        for target in [
            serde_json::Value::Null,
            json!({"kind": "Pod", "namespace": "default", "name": "other"}),
            json!({"kind": "Pod", "namespace": "kube-system", "name": "p"}),
        ] {
            c.post(slices, &slice(target)).await.ok();
            assert_eq!(c.get(web).await.refused(503), said);
            c.delete(&format!("{slices}/web-1")).await.ok();
        }
        let target = json!({"kind": "Pod", "namespace": "default", "name": "p"});
        c.post(slices, &slice(target)).await.ok();
        assert_eq!(c.get(web).await.text, "GET /x?");
        let by_number = "/api/v1/namespaces/default/services/https:web:443/proxy/x";
        assert_eq!(c.get(by_number).await.text, "GET /x?");
        Ok(())
    });
}
