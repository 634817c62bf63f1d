//! Watches over a WebSocket.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{Cluster, config_map};
use crate::listener::Door;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn open(
    door: &Door,
    user: (&str, &str),
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, http::Response<Option<Vec<u8>>>), tungstenite::Error> {
    let stream = door.connect(b"http/1.1", Some(user)).await;
    let mut request = format!("wss://localhost{MAPS}?watch=1{query}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    client_async(request, stream).await
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await;
    message
        .expect("a message in time")
        .map(|message| message.unwrap())
}

async fn event(socket: &mut Socket) -> Value {
    match next(socket).await {
        Some(Message::Text(text)) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_a_message() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    c.post(MAPS, &config_map("one", json!({}))).await.ok();
    let (door, serving) = Door::open(&c).await;
    let root = ("root", "system:masters");

    let offered = "base64url.bearer.authorization.k8s.io.bm9uZQ, binary.k8s.io";
    let (mut socket, answer) = open(&door, root, "", &[("sec-websocket-protocol", offered)])
        .await
        .unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "binary.k8s.io");
    let first = event(&mut socket).await;
    assert_eq!(first["type"], "ADDED");
    assert_eq!(first["object"]["metadata"]["name"], "one");
    c.post(MAPS, &config_map("two", json!({}))).await.ok();
    c.delete(&format!("{MAPS}/one")).await.ok();
    for (kind, name) in [("ADDED", "two"), ("DELETED", "one")] {
        let event = event(&mut socket).await;
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!(kind), &json!(name))
        );
    }

    // Protobuf comes in bytes, an event after a message's own length.
    let accept = [("accept", "application/vnd.kubernetes.protobuf")];
    let (mut binary, _) = open(&door, root, "", &accept).await.unwrap();
    let Some(Message::Binary(data)) = next(&mut binary).await else {
        panic!("no bytes");
    };
    assert_eq!(&data[..7], b"\x0a\x05ADDED");

    // A watch that ends says so.
    let (mut short, _) = open(&door, root, "&timeoutSeconds=1", &[]).await.unwrap();
    event(&mut short).await;
    assert!(matches!(
        next(&mut short).await,
        Some(Message::Close(Some(_)))
    ));

    // Refusals are answers as ever.
    for (user, query, code) in [
        (("jane", "people"), "", 403),
        (root, "&resourceVersion=rubbish", 422),
    ] {
        match open(&door, user, query, &[]).await {
            Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), code),
            other => panic!("{other:?}"),
        }
    }

    // The drain ends what is open.
    c.drain.cancel();
    while let Some(message) = next(&mut socket).await {
        assert!(matches!(message, Message::Close(_)), "{message:?}");
    }
    drop((socket, binary, short));
    tokio::time::timeout(Duration::from_secs(10), serving)
        .await
        .unwrap()
        .unwrap();
}
