//! `/portForward/{namespace}/{pod}`: connections to ports inside a pod's network.
//!
//! Invariant: connections are made from inside the pod's network namespace, to
//! its loopback address only.

use std::{collections::HashMap, io, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use super::{
    Body, Found, Query, Server,
    remote::Sink,
    text,
    upgrade::{self, Transport, Upgrade},
    websocket::{self, Tunnel},
};
use crate::{
    spdy::{self, Lifetime, Stream},
    worker::jobs::host_network,
};

/// SPDY in a WebSocket, as new clients have it.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// WebSocket protocols, the best first.
const WEB_SOCKET: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
/// SPDY protocols.
const SPDY: [&str; 1] = ["portforward.k8s.io"];
/// Pieces that may wait in one direction.
const QUEUE: usize = 8;
/// How long one half of a pair of streams may wait for the other.
const PAIRING: Duration = Duration::from_secs(30);
/// How long connecting inside the pod may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where to connect.
#[derive(Clone)]
struct Inside {
    netns: Option<PathBuf>,
    pod: String,
}

impl Server {
    pub(super) fn port_forward(
        &self,
        mut request: Request<Incoming>,
        found: Found,
    ) -> Response<Body> {
        let pod = crate::identity::pod_words(&found.pod);
        let shim = found.view.as_ref().and_then(|v| v.borrow().shim.clone());
        let Some(shim) = shim else {
            let problem = format!("unable to forward port because pod is not running: {pod}\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, problem);
        };
        let netns = (!host_network(&found.pod)).then(|| shim.netns());
        let inside = Inside { netns, pod };
        let ports = Query::of(&request).all("port");
        let ports: Vec<u16> = ports
            .iter()
            .flat_map(|p| p.split(','))
            .filter_map(|p| p.parse().ok())
            .collect();
        let Upgrade {
            transport,
            protocol,
            on,
            response,
        } = match upgrade::accept(&mut request, &WEB_SOCKET, &SPDY) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return *refusal,
        };
        let drain = self.shared.config.drain.clone();
        tokio::spawn(async move {
            let work = async {
                let Ok(upgraded) = on.await else { return };
                match transport {
                    Transport::Spdy => over_spdy(TokioIo::new(upgraded), inside).await,
                    Transport::WebSocket if protocol == TUNNEL => {
                        over_spdy(Tunnel::new(websocket::open(upgraded).await), inside).await;
                    }
                    Transport::WebSocket => {
                        over_channels(upgraded, protocol.contains("base64"), ports, inside).await;
                    }
                }
            };
            drain.run_until_cancelled(work).await;
        });
        response
    }
}

impl Inside {
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let failed = |problem: String| {
            format!(
                "error forwarding port {port} to pod {}: {problem}",
                self.pod
            )
        };
        let netns = self.netns.clone();
        let made = tokio::task::spawn_blocking(move || match netns {
            Some(netns) => {
                sys::netns::with_path(&netns, || dial(port)).map_err(|e| stdx::chain(&e))?
            }
            None => dial(port),
        });
        let stream = made
            .await
            .map_err(|e| failed(e.to_string()))?
            .map_err(failed)?;
        stream
            .set_nonblocking(true)
            .map_err(|e| failed(e.to_string()))?;
        TcpStream::from_std(stream).map_err(|e| failed(e.to_string()))
    }
}

/// Connects to the loopback address, version 4 before 6. Blocking.
fn dial(port: u16) -> Result<std::net::TcpStream, String> {
    let four = SocketAddr::from(([127, 0, 0, 1], port));
    let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1_u16], port));
    let connect = |address| std::net::TcpStream::connect_timeout(&address, CONNECT);
    connect(four).or_else(|first| connect(six).map_err(|_| first)).map_err(|e| {
        let words = match e.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => e.to_string(),
        };
        format!("failed to connect to localhost:{port} inside namespace: dial tcp4 {four}: connect: {words}")
    })
}

/// The streams of one forwarded connection.
#[derive(Default)]
struct Pair {
    error: Option<Stream>,
    data: Option<Stream>,
}

async fn over_spdy<S>(io: S, inside: Inside)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (tx, mut streams) = mpsc::channel::<Stream>(QUEUE);
    let connection = spdy::serve(io, Lifetime::Client, tx);
    let work = async {
        let mut waiting: HashMap<String, (tokio::time::Instant, Pair)> = HashMap::new();
        let mut forwards = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = streams.recv() => stream,
                Some(_) = forwards.join_next() => continue,
            };
            let Some(stream) = stream else { break };
            let now = tokio::time::Instant::now();
            waiting.retain(|_, (since, _)| now.duration_since(*since) < PAIRING);
            let id = stream.header("requestid").unwrap_or_default().to_owned();
            let entry = waiting
                .entry(id.clone())
                .or_insert_with(|| (now, Pair::default()));
            match stream.header("streamtype") {
                Some("error") => entry.1.error = Some(stream),
                Some("data") => entry.1.data = Some(stream),
                _ => {
                    stream.sender.reset().await;
                    continue;
                }
            }
            if entry.1.error.is_some()
                && entry.1.data.is_some()
                && let Some((
                    _,
                    Pair {
                        error: Some(error),
                        data: Some(data),
                    },
                )) = waiting.remove(&id)
            {
                forwards.spawn(forward(inside.clone(), error, data));
            }
        }
        while forwards.join_next().await.is_some() {}
    };
    let (result, ()) = tokio::join!(connection, work);
    if let Err(error) = result {
        tracing::debug!(error = stdx::chain(&error), "port-forward connection ended");
    }
}

async fn forward(inside: Inside, error: Stream, data: Stream) {
    let port = data.header("port").and_then(|p| p.parse::<u16>().ok());
    let connected = match port {
        Some(port) => inside.connect(port).await,
        None => Err(format!(
            "invalid port {:?}",
            data.header("port").unwrap_or_default()
        )),
    };
    match connected {
        Ok(stream) => copy(stream, data.incoming, Sink::Spdy(data.sender)).await,
        Err(problem) => {
            error.sender.send(problem.into()).await;
            data.sender.reset().await;
        }
    }
    error.sender.finish().await;
}

/// Moves bytes both ways until both halves are closed.
async fn copy(stream: TcpStream, mut incoming: mpsc::Receiver<Bytes>, sink: Sink) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    let up = async {
        while let Some(bytes) = incoming.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    let down = async {
        let mut buf = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buf).await {
            if !sink.send(Bytes::copy_from_slice(&buf[..n])).await {
                break;
            }
        }
        sink.finish().await;
    };
    tokio::pin!(up);
    tokio::pin!(down);
    tokio::select! {
        // The program in the pod has closed: there is nobody to send to.
        () = &mut down => {}
        () = &mut up => down.await,
    }
}

/// Two channels a port: bytes, then errors; the first message on each names the port.
async fn over_channels(upgraded: Upgraded, base64: bool, ports: Vec<u16>, inside: Inside) {
    let socket = websocket::open(upgraded).await;
    let (out, outgoing) = mpsc::channel(QUEUE);
    let mut incoming = Vec::new();
    let mut forwards = JoinSet::new();
    // The channel number is one byte.
    for (i, port) in ports.into_iter().take(100).enumerate() {
        let channel = u8::try_from(i * 2).unwrap_or(0);
        let (to, from_client) = mpsc::channel(QUEUE);
        incoming.extend([Some(to), None]);
        let sink = |channel| Sink::WebSocket {
            channel,
            out: out.clone(),
        };
        let (data, error) = (sink(channel), sink(channel + 1));
        let inside = inside.clone();
        forwards.spawn(async move {
            let name = Bytes::copy_from_slice(&port.to_le_bytes());
            if !(data.send(name.clone()).await && error.send(name).await) {
                return;
            }
            match inside.connect(port).await {
                Ok(stream) => copy(stream, from_client, data).await,
                Err(problem) => {
                    error.send(problem.into()).await;
                }
            }
        });
    }
    drop(out);
    let work = async { while forwards.join_next().await.is_some() {} };
    tokio::join!(websocket::pump(socket, base64, incoming, outgoing), work);
}
