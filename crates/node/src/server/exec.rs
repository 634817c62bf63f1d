//! `/exec/…` and `/attach/…`.
//!
//! Invariant: the command's output is read to its end before its exit code is told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use runtime::{Exec, Session, Shim};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
};

use super::{
    Body, Found, Query, Server,
    remote::{Outcome, Remote, Sink, Wanted},
    text,
    upgrade::{self, Transport, Upgrade},
    websocket,
};
use crate::{
    fdio::FdStream,
    spdy::{self, Lifetime},
    worker::View,
};

/// WebSocket protocols, the best first.
const WEB_SOCKET: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
/// SPDY protocols, the best first.
const SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Pieces that may wait in one direction.
const QUEUE: usize = 8;
/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// How long output may still come after the command has ended: something else may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is done in the container.
enum Doing {
    Exec(Exec),
    Attach {
        view: watch::Receiver<Arc<View>>,
        name: String,
    },
}

struct Place {
    shim: Shim,
    id: String,
    view: watch::Receiver<Arc<View>>,
}

fn place(found: &Found, container: &str) -> Result<Place, Box<Response<Body>>> {
    let missing = || {
        let name = found.pod.metadata.name.as_deref().unwrap_or_default();
        Box::new(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("container not found (\"{container}\") in pod \"{name}\"\n"),
        ))
    };
    let view = found.view.clone().ok_or_else(missing)?;
    let now = Arc::clone(&view.borrow());
    let running = now
        .containers
        .get(container)
        .filter(|c| c.running)
        .ok_or_else(missing)?;
    let shim = now.shim.clone().ok_or_else(missing)?;
    Ok(Place {
        shim,
        id: running.id.clone(),
        view,
    })
}

fn wanted(query: &Query) -> Wanted {
    let flag = |long: &str, short: &str| query.flag(long) || query.flag(short);
    let tty = query.flag("tty");
    Wanted {
        stdin: flag("input", "stdin"),
        stdout: flag("output", "stdout"),
        // A terminal has one output.
        stderr: flag("error", "stderr") && !tty,
        tty,
    }
}

impl Server {
    pub(super) fn exec(
        &self,
        request: Request<Incoming>,
        found: Found,
        container: &str,
    ) -> Response<Body> {
        let query = Query::of(&request);
        let wanted = wanted(&query);
        let exec = Exec {
            argv: query.all("command"),
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout || wanted.tty,
            stderr: wanted.stderr,
            kill_on_disconnect: true,
            ..Exec::default()
        };
        if exec.argv.is_empty() {
            return text(StatusCode::BAD_REQUEST, "you must specify a command\n");
        }
        match place(&found, container) {
            Ok(place) => self.session(request, wanted, place, |_| Doing::Exec(exec)),
            Err(refusal) => *refusal,
        }
    }

    pub(super) fn attach(
        &self,
        request: Request<Incoming>,
        found: Found,
        container: &str,
    ) -> Response<Body> {
        let query = Query::of(&request);
        let mut wanted = wanted(&query);
        let spec = crate::container::find(&found.pod, container).unwrap_or_default();
        wanted.tty = spec.tty == Some(true);
        wanted.stdin &= spec.stdin == Some(true);
        wanted.stderr &= !wanted.tty;
        let name = container.to_owned();
        match place(&found, container) {
            Ok(place) => self.session(request, wanted, place, |place| Doing::Attach {
                view: place.view.clone(),
                name,
            }),
            Err(refusal) => *refusal,
        }
    }

    fn session(
        &self,
        mut request: Request<Incoming>,
        wanted: Wanted,
        place: Place,
        doing: impl FnOnce(&Place) -> Doing,
    ) -> Response<Body> {
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            let problem = "you must specify at least 1 of stdin, stdout, stderr\n";
            return text(StatusCode::BAD_REQUEST, problem);
        }
        let Upgrade {
            transport,
            protocol,
            on,
            response,
        } = match upgrade::accept(&mut request, &WEB_SOCKET, &SPDY) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return *refusal,
        };
        let doing = doing(&place);
        let drain = self.shared.config.drain.clone();
        tokio::spawn(async move {
            let work = async {
                let upgraded = match on.await {
                    Ok(upgraded) => upgraded,
                    Err(error) => {
                        tracing::debug!(error = stdx::chain(&error), "upgrade failed");
                        return;
                    }
                };
                match transport {
                    Transport::WebSocket => {
                        over_web_socket(upgraded, protocol, wanted, &place, doing).await
                    }
                    Transport::Spdy => over_spdy(upgraded, protocol, wanted, &place, doing).await,
                }
            };
            drain.run_until_cancelled(work).await;
        });
        response
    }
}

async fn over_web_socket(
    upgraded: Upgraded,
    protocol: &'static str,
    wanted: Wanted,
    place: &Place,
    doing: Doing,
) {
    let socket = websocket::open(upgraded).await;
    let (out, outgoing) = mpsc::channel(QUEUE);
    let sink = |channel: u8| Sink::WebSocket {
        channel,
        out: out.clone(),
    };
    let (stdin, input) = mpsc::channel(QUEUE);
    let (resize, sizes) = mpsc::channel(QUEUE);
    let remote = Remote {
        stdin: wanted.stdin.then_some(input),
        stdout: wanted.stdout.then(|| sink(1)),
        stderr: wanted.stderr.then(|| sink(2)),
        error: Some(sink(3)),
        resize: wanted.tty.then_some(sizes),
        json_status: protocol.starts_with("v4") || protocol.starts_with("v5"),
    };
    // An empty message on the lowest channel tells the client that the connection stands.
    let first = if wanted.stdout {
        1
    } else if wanted.stderr {
        2
    } else {
        3
    };
    let _ = out.send((first, Bytes::new())).await;
    drop(out);
    let incoming = vec![
        wanted.stdin.then_some(stdin),
        None,
        None,
        None,
        wanted.tty.then_some(resize),
    ];
    let pump = websocket::pump(socket, protocol.contains("base64"), incoming, outgoing);
    tokio::join!(pump, serve(place, doing, wanted, remote));
}

async fn over_spdy(
    upgraded: Upgraded,
    protocol: &'static str,
    wanted: Wanted,
    place: &Place,
    doing: Doing,
) {
    let (tx, mut streams) = mpsc::channel(QUEUE);
    let connection = spdy::serve(TokioIo::new(upgraded), Lifetime::Streams, tx);
    let work = async {
        let json_status = protocol.starts_with("v4");
        let sizes = wanted.tty && (json_status || protocol.starts_with("v3"));
        let expected = [wanted.stdin, wanted.stdout, wanted.stderr, true, sizes];
        let expected = expected.into_iter().filter(|w| *w).count();
        let mut remote = Remote {
            stdin: None,
            stdout: None,
            stderr: None,
            error: None,
            resize: None,
            json_status,
        };
        for _ in 0..expected {
            let Ok(Some(stream)) = tokio::time::timeout(OPENING, streams.recv()).await else {
                return;
            };
            let kind = stream.header("streamtype").unwrap_or_default().to_owned();
            let sink = Sink::Spdy(stream.sender);
            match kind.as_str() {
                "stdin" => remote.stdin = Some(stream.incoming),
                "stdout" => remote.stdout = Some(sink),
                "stderr" => remote.stderr = Some(sink),
                "error" => remote.error = Some(sink),
                "resize" => remote.resize = Some(stream.incoming),
                _ => return,
            }
        }
        serve(place, doing, wanted, remote).await;
    };
    let (result, ()) = tokio::join!(connection, work);
    if let Err(error) = result {
        tracing::debug!(error = stdx::chain(&error), "SPDY connection ended");
    }
}

/// Runs or attaches, moves all bytes, and tells the outcome.
async fn serve(place: &Place, doing: Doing, wanted: Wanted, mut remote: Remote) {
    let opened = match &doing {
        Doing::Exec(exec) => place.shim.exec(&place.id, exec).await,
        Doing::Attach { .. } => {
            place
                .shim
                .attach(&place.id, wanted.stdin, wanted.stdout, wanted.stderr)
                .await
        }
    };
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => {
            let problem = stdx::chain(&error);
            finish(remote.stdout.take()).await;
            finish(remote.stderr.take()).await;
            remote
                .end(&Outcome::Failed(format!(
                    "Internal error occurred: {problem}"
                )))
                .await;
            return;
        }
    };
    let stdin = feed(session.stdin.take(), remote.stdin.take());
    let stdout = drain(session.stdout.take(), remote.stdout.take());
    let stderr = drain(session.stderr.take(), remote.stderr.take());
    let sizes = remote.resize.take();
    let outcome = {
        let output = async { tokio::join!(stdout, stderr) };
        let end = ended(&mut session, doing, sizes, &place.id);
        tokio::pin!(output, end, stdin);
        let mut fed = false;
        loop {
            tokio::select! {
                // Input alone never ends a session.
                () = &mut stdin, if !fed => fed = true,
                outcome = &mut end => {
                    // What was written before the end still comes.
                    let _ = tokio::time::timeout(LAST_WORDS, &mut output).await;
                    break outcome;
                }
                (gone, _) = &mut output => {
                    if gone {
                        // The client left: the command is killed with the session.
                        return;
                    }
                    break end.await;
                }
            }
        }
    };
    remote.end(&outcome).await;
}

/// The end of the command, or of the container that is attached to.
async fn ended(
    session: &mut Session,
    doing: Doing,
    sizes: Option<mpsc::Receiver<Bytes>>,
    id: &str,
) -> Outcome {
    let mut sizes = sizes;
    match doing {
        Doing::Exec(_) => loop {
            tokio::select! {
                code = session.wait() => return match code {
                    Ok(0) => Outcome::Success,
                    Ok(code) => Outcome::Exit(code),
                    Err(error) => Outcome::Failed(stdx::chain(&error)),
                },
                size = next(&mut sizes) => resize(session, size.as_ref()),
            }
        },
        Doing::Attach { mut view, name } => loop {
            let running = view
                .borrow_and_update()
                .containers
                .get(&name)
                .is_some_and(|c| c.running && c.id == id);
            if !running {
                return Outcome::Success;
            }
            tokio::select! {
                changed = view.changed() => if changed.is_err() {
                    return Outcome::Success;
                },
                size = next(&mut sizes) => resize(session, size.as_ref()),
            }
        },
    }
}

async fn next(sizes: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match sizes {
        Some(receiver) => {
            let size = receiver.recv().await;
            if size.is_none() {
                *sizes = None;
            }
            size
        }
        None => std::future::pending().await,
    }
}

fn resize(session: &Session, size: Option<&Bytes>) {
    let Some(size) = size.and_then(|s| serde_json::from_slice::<serde_json::Value>(s).ok()) else {
        return;
    };
    let side = |key: &str| {
        size[key]
            .as_u64()
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(0)
    };
    if let Err(error) = session.resize(side("Width"), side("Height")) {
        tracing::debug!(%error, "terminal not resized");
    }
}

async fn finish(sink: Option<Sink>) {
    if let Some(sink) = sink {
        sink.finish().await;
    }
}

async fn feed(fd: Option<std::os::fd::OwnedFd>, input: Option<mpsc::Receiver<Bytes>>) {
    let (Some(Ok(mut to)), Some(mut input)) = (fd.map(FdStream::new), input) else {
        return;
    };
    while let Some(bytes) = input.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Sends all output; true if the client left before its end.
async fn drain(fd: Option<std::os::fd::OwnedFd>, sink: Option<Sink>) -> bool {
    let mut gone = false;
    if let Some(Ok(mut from)) = fd.map(FdStream::new) {
        let mut buf = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buf).await {
            if let Some(sink) = &sink
                && !sink.send(Bytes::copy_from_slice(&buf[..n])).await
            {
                gone = true;
                break;
            }
        }
    }
    finish(sink).await;
    gone
}
