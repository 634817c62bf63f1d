//! Tests of `probe`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

#[test]
fn thresholds() {
    let probe: Probe =
        serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).unwrap();
    let mut tally = Tally::new(&probe);
    let table = [
        (true, None),
        (false, None),
        (true, None),
        (true, Some(true)),
        (true, None),
        (false, None),
        (false, None),
        (true, None),
        (false, None),
        (false, None),
        (false, Some(false)),
        (false, None),
        (true, None),
        (true, Some(true)),
    ];
    for (i, (success, want)) in table.into_iter().enumerate() {
        assert_eq!(tally.count(success), want, "step {i}");
    }
}

/// Serves one canned answer a connection and hands out the requests.
async fn server(answers: Vec<&'static str>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buf = vec![0; 4096];
            let n = stream.read(&mut buf).await.unwrap();
            requests.push(String::from_utf8_lossy(&buf[..n]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (port, task)
}

fn target(port: u16, value: serde_json::Value) -> http::Target {
    let mut value = value;
    value["port"] = json!("web");
    let c: Container = serde_json::from_value(
        json!({"name": "c", "ports": [{"name": "web", "containerPort": port}]}),
    )
    .unwrap();
    http_target(&serde_json::from_value(value).unwrap(), &c, "127.0.0.1").unwrap()
}

#[tokio::test]
async fn http_headers_redirects_and_failures() {
    let (port, requests) = server(vec![
        "HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno",
    ])
    .await;
    let t = target(
        port,
        json!({"path": "a?b=c", "httpHeaders": [{"name": "Host", "value": "x.y"}, {"name": "X", "value": "1"}]}),
    );
    assert_eq!(
        http::get(&t, USER_AGENT).await.unwrap(),
        http::Answer::Status(500, "no".into())
    );
    let requests = requests.await.unwrap();
    let first = requests[0].to_lowercase();
    assert!(first.starts_with("get /a?b=c http/1.1\r\n"), "{first}");
    assert!(
        first.contains("host: x.y\r\n") && first.contains("x: 1\r\n"),
        "{first}"
    );
    assert!(first.contains("user-agent: kube-probe/1.36\r\n"), "{first}");
    assert!(requests[1].starts_with("GET /next "), "{}", requests[1]);

    let (port, _requests) = server(vec![
        "HTTP/1.1 301 Moved\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    ])
    .await;
    let t = target(port, json!({}));
    assert_eq!(
        http::get(&t, USER_AGENT).await.unwrap(),
        http::Answer::Elsewhere(String::new())
    );

    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = http::get(&target(closed, json!({"path": "/h"})), USER_AGENT)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Get \"http://127.0.0.1:{closed}/h\": dial tcp 127.0.0.1:{closed}: connect: connection refused"
        )
    );
}

#[test]
fn ports_by_name() {
    let c: Container = serde_json::from_value(json!({"name": "c"})).unwrap();
    let get = |p: serde_json::Value| resolve_port(&serde_json::from_value(p).unwrap(), &c);
    assert_eq!(get(json!(80)), Ok(80));
    assert_eq!(get(json!("8080")), Ok(8080));
    assert_eq!(get(json!("web")).unwrap_err(), "couldn't find port: web");
    assert_eq!(get(json!(70000)).unwrap_err(), "invalid port number: 70000");
}
