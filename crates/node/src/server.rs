//! The kubelet's HTTP API.
//!
//! Invariant: who may call is decided before a connection reaches this module; what
//! a caller asks for is looked up by the names in the path, never by paths of the host.

mod exec;
mod forward;
mod logs;
mod remote;
mod stats;
mod upgrade;
mod websocket;

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{pods::Pods, shared::SharedRef, worker::View};

/// The body of an answer.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the handlers work on.
pub(crate) struct Server {
    shared: SharedRef,
    pods: Arc<Pods>,
}

/// Serves the kubelet's HTTP API, one connection a call. Cheap to clone.
#[derive(Clone)]
pub struct KubeletService(Arc<Server>);

impl KubeletService {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self(server)
    }

    /// Serves one HTTP/1.1 connection, upgrades included, until it ends.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let server = Arc::clone(&self.0);
        let service = hyper::service::service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.handle(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            result = connection => if let Err(error) = result {
                tracing::debug!(error = stdx::chain(&error), "kubelet connection ended");
            },
            () = self.0.shared.config.drain.cancelled() => {}
        }
    }
}

/// A plain answer.
fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The query of a request; a name may come several times.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for pair in request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|p| !p.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(name)).or_default().push(decode(value));
        }
        Self(map)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// `1`, `true` and the empty value are true.
    fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| matches!(v, "1" | "true" | "t" | "T" | "TRUE" | "True" | ""))
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes
            .get(i + 1..i + 3)
            .and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (bytes[i], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                i += 1;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A pod that a request is about.
struct Found {
    pod: Arc<Pod>,
    view: Option<watch::Receiver<Arc<View>>>,
}

impl Server {
    pub(crate) fn new(shared: SharedRef, pods: Arc<Pods>) -> Self {
        Self { shared, pods }
    }

    async fn handle(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let opens = matches!(*request.method(), Method::GET | Method::POST);
        match parts.as_slice() {
            ["healthz", ..] if reads => text(StatusCode::OK, "ok"),
            ["pods"] if reads => self.pod_list(|_| true),
            ["runningpods"] if reads => self.pod_list(|view| view.shim.is_some()),
            ["stats", "summary"] if reads => json(&stats::summary(&self).await),
            ["metrics"] if reads => text(StatusCode::OK, stats::metrics(&self).await),
            ["containerLogs", namespace, pod, container] if reads => {
                match self.find(namespace, pod) {
                    Ok(found) => self.logs(&mut request, found, container).await,
                    Err(refusal) => *refusal,
                }
            }
            [verb @ ("exec" | "attach"), namespace, pod, .., container]
                if opens && (4..=5).contains(&parts.len()) =>
            {
                match self.find(namespace, pod) {
                    Ok(found) if *verb == "exec" => self.exec(request, found, container),
                    Ok(found) => self.attach(request, found, container),
                    Err(refusal) => *refusal,
                }
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] if opens => {
                match self.find(namespace, pod) {
                    Ok(found) => self.port_forward(request, found),
                    Err(refusal) => *refusal,
                }
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Result<Found, Box<Response<Body>>> {
        let Some(pod) = self.pods.informer.get(namespace, name) else {
            return Err(Box::new(text(
                StatusCode::NOT_FOUND,
                format!("pod \"{name}\" not found\n"),
            )));
        };
        let view = self
            .pods
            .view(pod.metadata.uid.as_deref().unwrap_or_default());
        Ok(Found { pod, view })
    }

    fn pod_list(&self, wanted: impl Fn(&View) -> bool) -> Response<Body> {
        let pods: Vec<_> = self
            .pods
            .informer
            .list()
            .into_iter()
            .filter(|p| {
                let view = self
                    .pods
                    .view(p.metadata.uid.as_deref().unwrap_or_default());
                wanted(&view.map(|v| Arc::clone(&v.borrow())).unwrap_or_default())
            })
            .collect();
        let items: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        json(
            &serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    }
}
