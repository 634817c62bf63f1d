//! The web server in the image `knarr.local/hello`: says who answers, over what.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// Options of the tiny web server.
#[derive(Args)]
pub(crate) struct Hello {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

impl Hello {
    /// Serves until SIGTERM.
    pub(crate) async fn run(self) -> Result<()> {
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
