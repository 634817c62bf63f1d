//! Requests that a node or a pod answers: log, exec, attach, port-forward, proxy.
//!
//! Invariant: after a 101 on both sides bytes are only copied; what they mean is between the
//! client and the node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::status::ApiError;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pki::Trust;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::admission::connect;
use crate::auth::authn::SUBPROTOCOL;
use crate::config::Stream;
use crate::hooks::text;
use crate::http::{Body, BoxError};
use crate::outbound;
use crate::pipeline::Call;
use crate::query::Query;

/// How long a connection to a node or a pod may take.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Names the container that kubectl takes when none is given.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Headers that are about one connection only.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Where a request goes.
enum Target {
    Node(String),
    /// A pod, which may show any certificate over TLS: it has none that could be verified.
    Pod {
        address: SocketAddr,
        tls: bool,
    },
}

/// Serves the call; `rest` is the path behind `proxy`.
pub(crate) async fn serve(
    call: Call,
    rest: &str,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let call = connect::admit(call, rest).await?;
    if let Some(redirect) = to_root(&call, rest, &request) {
        return Ok(redirect);
    }
    let (target, path) = match (&*call.resource.plural, call.subresource.as_str()) {
        ("nodes", _) => node_proxy(&call, rest, request.uri())?,
        ("services", _) => service_proxy(&call, rest, request.uri())?,
        ("pods", "proxy") => pod_proxy(&call, rest, request.uri())?,
        _ => pod_request(&call)?,
    };
    let stream = dial(&call, &target).await?;
    forward(stream, request, &path).await
}

/// `…/proxy` is asked for as `…/proxy/`, so that what is relative in the page leads below it.
fn to_root(call: &Call, rest: &str, request: &Request<Body>) -> Option<Response<Body>> {
    let uri = request.uri();
    let reads = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let bare = call.subresource == "proxy" && rest.is_empty() && !uri.path().ends_with('/');
    if !reads || upgrades || !bare {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let place = format!("{}/{}", uri.path(), query.unwrap_or_default());
    let mut response = Response::new(crate::http::empty_body());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let place = http::HeaderValue::try_from(place).ok()?;
    response.headers_mut().insert(header::LOCATION, place);
    Some(response)
}

fn rest_path(rest: &str, uri: &Uri) -> String {
    let path = if rest.is_empty() { "/" } else { rest };
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn node_proxy(call: &Call, rest: &str, uri: &Uri) -> Result<(Target, String), ApiError> {
    let name = call.name.split(':').next().unwrap_or_default();
    if call.state.core("nodes").get("", name).is_none() {
        return Err(ApiError::not_found_named("", "nodes", name));
    }
    Ok((Target::Node(name.to_owned()), rest_path(rest, uri)))
}

/// What stands where a name is expected: `name`, `name:port` or `scheme:name:port`.
struct Named<'a> {
    tls: bool,
    name: &'a str,
    /// Empty where none is given.
    port: &'a str,
}

impl<'a> Named<'a> {
    /// `kind` is what is named, for the error.
    fn parse(kind: &str, text: &'a str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("invalid", "", ""),
        };
        match (scheme, name) {
            ("" | "http" | "https", name) if !name.is_empty() => Ok(Self {
                tls: scheme == "https",
                name,
                port,
            }),
            _ => Err(ApiError::bad_request(format!(
                "invalid {kind} request {text:?}"
            ))),
        }
    }
}

/// Whether requests may be sent to an address that an object names: not to the host itself, nor to
/// what only its own link knows.
fn allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => allowed(IpAddr::V4(v4)),
            None => {
                !(v6.is_loopback()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || v6.is_unspecified())
            }
        },
    }
}

fn pod_proxy(call: &Call, rest: &str, uri: &Uri) -> Result<(Target, String), ApiError> {
    let Named { tls, name, port } = Named::parse("pod", &call.name)?;
    let pod = call
        .state
        .core("pods")
        .get(&call.namespace, name)
        .ok_or_else(|| ApiError::not_found_named("", "pods", name))?
        .value();
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let first = containers
        .into_iter()
        .flatten()
        .find_map(|c| c.pointer("/ports/0/containerPort")?.as_u64());
    let port = match port {
        "" => first
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(if tls { 443 } else { 80 }),
        port => port
            .parse()
            .map_err(|_| ApiError::bad_request(format!("invalid pod request {:?}", call.name)))?,
    };
    let address: Option<IpAddr> = text(&pod, "/status/podIP").parse().ok();
    let address = address
        .filter(|a| allowed(*a))
        .ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    let address = SocketAddr::new(address, port);
    Ok((Target::Pod { address, tls }, rest_path(rest, uri)))
}

fn service_proxy(call: &Call, rest: &str, uri: &Uri) -> Result<(Target, String), ApiError> {
    let Named { tls, name, port } = Named::parse("service", &call.name)?;
    let service = call
        .state
        .core("services")
        .get(&call.namespace, name)
        .ok_or_else(|| ApiError::not_found_named("", "services", name))?
        .value();
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let port = ports
        .into_iter()
        .flatten()
        .find(|p| {
            port.is_empty()
                || text(p, "/name") == port
                || p.get("port")
                    .is_some_and(|n| n.as_u64().is_some_and(|n| port.parse() == Ok(n)))
        })
        .ok_or_else(|| {
            ApiError::unavailable(format!("no service port {port} found for service {name:?}"))
        })?;
    let address = endpoint(call, name, text(port, "/name")).ok_or_else(|| {
        ApiError::unavailable(format!(
            "no endpoints available for service {:?}",
            call.name
        ))
    })?;
    Ok((Target::Pod { address, tls }, rest_path(rest, uri)))
}

/// A ready endpoint of a Service's port, any of them. Only what is a pod's own address is taken: who
/// may write endpoints shall not make this server call what it can reach and they cannot.
fn endpoint(call: &Call, service: &str, port_name: &str) -> Option<SocketAddr> {
    let found = outbound::endpoints(&call.state.cache, &call.namespace, service, port_name);
    let outbound::Endpoints::Ready(ready) = found else {
        return None;
    };
    let pods = call.state.core("pods");
    let is_pod = |address: IpAddr, pod: &str| {
        let pod = pods.get(&call.namespace, pod);
        pod.is_some_and(|pod| {
            let pod = pod.value();
            let ips = pod.pointer("/status/podIPs").and_then(Value::as_array);
            let mut ips = ips.into_iter().flatten();
            ips.any(|ip| text(ip, "/ip").parse() == Ok(address))
        })
    };
    let mut candidates: Vec<SocketAddr> = ready
        .into_iter()
        .filter(|e| {
            e.pod
                .as_ref()
                .is_some_and(|pod| is_pod(e.address.ip(), pod))
        })
        .map(|e| e.address)
        .filter(|address| allowed(address.ip()))
        .collect();
    let any = rand::random_range(0..candidates.len().max(1));
    (!candidates.is_empty()).then(|| candidates.swap_remove(any))
}

/// A request to the node that a pod runs on, in the kubelet's own form.
fn pod_request(call: &Call) -> Result<(Target, String), ApiError> {
    let pod = call
        .state
        .core("pods")
        .get(&call.namespace, &call.name)
        .ok_or_else(|| ApiError::not_found(&call.resource, &call.name))?
        .value();
    let node = text(&pod, "/spec/nodeName");
    let place = format!("{}/{}", call.namespace, call.name);
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            call.name
        )));
    }
    let query = &call.query;
    let path = match call.subresource.as_str() {
        "portforward" => {
            let ports = pairs(query.all("ports").map(|port| ("port", port)));
            format!("/portForward/{place}?{ports}")
        }
        "log" => {
            let container = container(call, &pod)?;
            format!("/containerLogs/{place}/{container}?{}", log_query(query)?)
        }
        verb => {
            let container = container(call, &pod)?;
            let flags = [
                ("stdin", "input"),
                ("stdout", "output"),
                ("stderr", "error"),
                ("tty", "tty"),
            ]
            .into_iter()
            .filter(|(asked, _)| query.flag(asked))
            .map(|(_, sent)| (sent, "1"));
            let command = query.all("command").map(|word| ("command", word));
            format!(
                "/{verb}/{place}/{container}?{}",
                pairs(flags.chain(command))
            )
        }
    };
    Ok((Target::Node(node.to_owned()), path))
}

fn log_query(query: &Query) -> Result<String, ApiError> {
    const KEYS: &[&str] = &[
        "follow",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "timestamps",
        "tailLines",
        "limitBytes",
        "stream",
    ];
    for key in ["sinceSeconds", "tailLines", "limitBytes"] {
        let least = i64::from(key != "tailLines");
        if query.int(key)?.is_some_and(|n| n < least) {
            let error = api::validate::FieldError::invalid(
                key,
                query.get(key).unwrap_or_default(),
                if least == 1 {
                    "must be greater than 0"
                } else {
                    "must be greater than or equal to 0"
                },
            );
            return Err(ApiError::invalid_kind("", "PodLogOptions", "", &[error]));
        }
    }
    Ok(pairs(KEYS.iter().filter_map(|key| {
        query.text(key).map(|value| (*key, value))
    })))
}

/// The container that a request names, else the default one.
fn container(call: &Call, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        let all = pod
            .get("spec")
            .and_then(|s| s.get(list))
            .and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .map(|c| text(c, "/name"))
            .collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    let known = |name: &str| {
        main.contains(&name) || init.contains(&name) || names("ephemeralContainers").contains(&name)
    };
    match call.query.text("container") {
        Some(name) if known(name) => return Ok(name.to_owned()),
        Some(name) => {
            return Err(ApiError::bad_request(format!(
                "container {name} is not valid for pod {}",
                call.name
            )));
        }
        None => {}
    }
    match main.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => {
            let default = api::meta::annotation(pod, DEFAULT_CONTAINER).filter(|name| known(name));
            if let Some(name) = default {
                return Ok(name.to_owned());
            }
            let init = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]{init}",
                call.name,
                main.join(" ")
            )))
        }
    }
}

/// Encodes query pairs.
pub(crate) fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    out.push(char::from(byte));
                }
                byte => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    out
}

async fn dial(call: &Call, target: &Target) -> Result<Box<dyn Stream>, ApiError> {
    let (dialing, whom) = match target {
        Target::Node(node) => (call.state.dialer.dial(node), node.clone()),
        Target::Pod { address, tls } => (dial_pod(*address, *tls), address.to_string()),
    };
    match tokio::time::timeout(DIAL_LIMIT, dialing).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(ApiError::unavailable(format!(
            "error trying to reach {whom}: {error}"
        ))),
        Err(_) => Err(ApiError::unavailable(format!(
            "error trying to reach {whom}: timed out"
        ))),
    }
}

fn dial_pod(address: SocketAddr, tls: bool) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
    Box::pin(async move {
        let stream = TcpStream::connect(address).await?;
        if !tls {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        }
        let config = pki::client_tls(&Trust::Anything, None).map_err(io::Error::other)?;
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Stream>)
    })
}

fn bad_gateway(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(502, "", format!("error trying to reach service: {error}"))
}

/// Whether a message asks for, or agrees to, another protocol; its name.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<http::HeaderValue> {
    let listed = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if listed {
        headers.get(header::UPGRADE).cloned()
    } else {
        None
    }
}

/// The WebSocket subprotocols that are offered, without what browsers put among them: a token.
pub(crate) fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.starts_with(SUBPROTOCOL))
        .map(str::to_owned)
        .collect()
}

/// Takes the credentials out of the WebSocket subprotocols.
fn without_bearer(headers: &mut HeaderMap) {
    let kept = subprotocols(headers);
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    for protocol in kept {
        if let Ok(value) = http::HeaderValue::from_str(&protocol) {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

/// Speaks HTTP/1.1 over a stream. Boxed, as the compiler cannot see that the connection's own
/// future may move between threads.
fn handshake(
    stream: Box<dyn Stream>,
) -> BoxFuture<'static, hyper::Result<http1::SendRequest<Body>>> {
    Box::pin(async move {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, which ends with the answer's body or the upgraded stream.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("connection to a node or pod: {error}");
            }
        });
        Ok(sender)
    })
}

/// Takes from a request what is between a client and this server alone.
pub(crate) fn outgoing(parts: &mut http::request::Parts, upgrade: Option<&http::HeaderValue>) {
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    // The caller's credentials are for this server alone.
    parts.headers.remove(header::AUTHORIZATION);
    without_bearer(&mut parts.headers);
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::UPGRADE, protocol.clone());
        parts.headers.insert(
            header::CONNECTION,
            http::HeaderValue::from_static("Upgrade"),
        );
    }
}

/// Sends the request over the stream and hands the answer back.
async fn forward(
    stream: Box<dyn Stream>,
    mut request: Request<Body>,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let client = hyper::upgrade::on(&mut request);
    let mut sender = handshake(stream).await.map_err(bad_gateway)?;
    let (mut parts, body) = request.into_parts();
    let wanted = upgrade(&parts.headers);
    parts.uri = path
        .parse()
        .map_err(|_| ApiError::bad_request("invalid path"))?;
    outgoing(&mut parts, wanted.as_ref());
    parts
        .headers
        .insert(header::HOST, http::HeaderValue::from_static("localhost"));
    let answer = sender
        .send_request(Request::from_parts(parts, body))
        .await
        .map_err(bad_gateway)?;
    Ok(relay(answer, client, wanted.is_some(), sender))
}

/// Hands an answer on: its body as it comes, or both directions of an upgraded connection. `held` is
/// kept as long as the body.
pub(crate) fn relay(
    mut answer: Response<Incoming>,
    client: OnUpgrade,
    upgraded: bool,
    held: impl Send + 'static,
) -> Response<Body> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && upgraded {
        let node = hyper::upgrade::on(&mut answer);
        // Owned by the two connections: it ends when either of them does.
        tokio::spawn(async move {
            let (client, node) = match tokio::try_join!(client, node) {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!("upgrade of a proxied connection: {error}");
                    return;
                }
            };
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
                tracing::debug!("proxied stream: {error}");
            }
        });
        let (parts, _) = answer.into_parts();
        return Response::from_parts(parts, crate::http::empty_body());
    }
    let (mut parts, body) = answer.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    parts.version = http::Version::default();
    // The connection must live as long as the body.
    let body = body
        .map_err(|error| Box::new(error) as BoxError)
        .map_frame(move |frame| {
            let _held = &held;
            frame
        });
    Response::from_parts(parts, body.boxed_unsync())
}
