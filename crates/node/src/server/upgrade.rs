//! From an HTTP request to a connection of another protocol.
//!
//! Invariant: what is answered is a protocol that the client has offered.

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Body, text};

/// The header in which SPDY clients offer protocols.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// What the client wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    Spdy,
}

/// An accepted upgrade.
pub(super) struct Upgrade {
    pub(super) transport: Transport,
    /// The agreed protocol, "" if the client offered none.
    pub(super) protocol: &'static str,
    pub(super) on: OnUpgrade,
    pub(super) response: Response<Body>,
}

/// Whether a request asks for a WebSocket.
pub(super) fn wants_web_socket(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Accepts an upgrade to one of `web_socket` or `spdy`, in order of preference.
pub(super) fn accept(
    request: &mut Request<Incoming>,
    web_socket: &[&'static str],
    spdy: &[&'static str],
) -> Result<Upgrade, Box<Response<Body>>> {
    let headers = request.headers();
    let bad = |problem: &str| Box::new(text(StatusCode::BAD_REQUEST, format!("{problem}\n")));
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|u| u.to_str().ok())
        .ok_or_else(|| {
            bad("you must specify at least 1 of stdin, stdout, stderr and upgrade the connection")
        })?;
    let transport = if upgrade.eq_ignore_ascii_case("websocket") {
        Transport::WebSocket
    } else if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        Transport::Spdy
    } else {
        return Err(bad("unable to upgrade: unknown protocol"));
    };
    let name = match transport {
        Transport::WebSocket => header::SEC_WEBSOCKET_PROTOCOL.as_str(),
        Transport::Spdy => STREAM_PROTOCOL,
    };
    let offered: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .collect();
    let known = if transport == Transport::WebSocket {
        web_socket
    } else {
        spdy
    };
    let protocol = match offered.as_slice() {
        [] => "",
        offered => known.iter().find(|k| offered.contains(*k)).copied().ok_or_else(|| {
            Box::new(text(
                StatusCode::FORBIDDEN,
                format!("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}\n"),
            ))
        })?,
    };
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::WebSocket => {
            let key = headers
                .get(header::SEC_WEBSOCKET_KEY)
                .ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
                .map_err(|_| bad("bad Sec-WebSocket-Key"))?;
            out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            if !protocol.is_empty() {
                out.insert(
                    header::SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_static(protocol),
                );
            }
        }
        Transport::Spdy => {
            out.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            if !protocol.is_empty() {
                out.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            }
        }
    }
    Ok(Upgrade {
        transport,
        protocol,
        on: hyper::upgrade::on(request),
        response,
    })
}
