//! The web server in the image `knarr.local/hello`: says who answers, over what.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Longest answer that `--ask` prints.
const MAX_ANSWER_BYTES: usize = 1 << 20;
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Options of the tiny web server.
#[derive(Args)]
pub(crate) struct Hello {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Ask a server instead of being one: print the answer of http://HOST[:PORT][/PATH].
    #[arg(long, value_name = "URL")]
    ask: Option<String>,
}

impl Hello {
    /// Serves until SIGTERM.
    pub(crate) async fn run(self) -> Result<()> {
        if let Some(url) = &self.ask {
            print!("{}", ask(url).await?);
            return Ok(());
        }
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        println!("listening on {}", self.listen);
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = places.clone().acquire_owned().await?;
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(_) => continue,
                },
                _ = end.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            };
            tokio::spawn(async move {
                let service =
                    service_fn(
                        |request| async move { Ok::<_, Infallible>(answer(&request, peer)) },
                    );
                // A client that goes away is no news.
                let _gone = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                drop(place);
            });
        }
    }
}

/// One GET; names are looked up as any program in a pod does it.
async fn ask(url: &str) -> Result<String> {
    let rest = url
        .strip_prefix("http://")
        .context("only http:// is spoken here")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let ask = async {
        let stream = tokio::net::TcpStream::connect(&address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(format!("/{path}"))
            .header(http::header::HOST, host)
            .body(http_body_util::Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            anyhow::ensure!(
                response.status().is_success(),
                "{url} answers {}",
                response.status()
            );
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await;
            let bytes = body
                .map_err(|error| anyhow::anyhow!("{url}: {error}"))?
                .to_bytes();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        tokio::select! {
            answer = answer => answer,
            ended = connection => match ended {
                Ok(()) => anyhow::bail!("{url}: the connection ended before the answer"),
                Err(error) => Err(error.into()),
            },
        }
    };
    tokio::time::timeout(ASK_TIMEOUT, ask)
        .await
        .with_context(|| format!("{url} does not answer"))?
}

fn answer(request: &Request<hyper::body::Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
    let text = match request.uri().path() {
        "/healthz" => "ok\n".to_owned(),
        path => {
            println!("{} {path} from {peer}", request.method());
            let host = nix::unistd::gethostname().unwrap_or_default();
            format!("Hello from {}, aboard the knarr.\n", host.to_string_lossy())
        }
    };
    Response::new(Full::from(text))
}
