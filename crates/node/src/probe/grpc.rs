//! The gRPC health check: `grpc.health.v1.Health/Check` over plain HTTP/2.
//!
//! Invariant: only `SERVING` is success; at most one small message is read.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::http::connect;

const MAX_BODY: usize = 16 * 1024;

/// Asks for the health of `service`; the error is what the event says. The caller bounds the time.
///
/// # Errors
/// When the service does not answer `SERVING`.
pub(crate) async fn check(host: &str, port: u16, service: &str, agent: &str) -> Result<(), String> {
    let stream = connect(host, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| stdx::chain(&e))?;
    let ask = async move {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, agent)
            .body(Full::new(message(service)))
            .map_err(|e| e.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| stdx::chain(&e))?;
        let from_headers = grpc_status(response.headers());
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|e| stdx::chain(e.as_ref()))?;
        let status = from_headers.or_else(|| body.trailers().and_then(grpc_status));
        judge(status, &body.to_bytes())
    };
    tokio::select! {
        answer = ask => answer,
        ended = connection => Err(ended.err().map_or_else(|| "EOF".into(), |e| stdx::chain(&e))),
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A length-prefixed `HealthCheckRequest`.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut n = service.len();
        while n >= 0x80 {
            field.put_u8(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
            n >>= 7;
        }
        field.put_u8(u8::try_from(n).unwrap_or(0));
        field.put_slice(service.as_bytes());
    }
    let mut out = BytesMut::with_capacity(5 + field.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(field.len()).unwrap_or(0));
    out.put_slice(&field);
    out.freeze()
}

fn judge(status: Option<u32>, body: &[u8]) -> Result<(), String> {
    match status {
        Some(0) => {}
        Some(12) => {
            return Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into());
        }
        Some(code) => {
            return Err(format!(
                "error: health rpc probe failed: rpc error: code = {code}"
            ));
        }
        None => return Err("error: health rpc probe failed: no status".into()),
    }
    // An empty message means status 0, UNKNOWN.
    let serving = match body.get(5..) {
        Some([0x08, value, ..]) => *value,
        _ => 0,
    };
    match serving {
        1 => Ok(()),
        2 => Err("service unhealthy (responded with \"NOT_SERVING\")".into()),
        3 => Err("service unhealthy (responded with \"SERVICE_UNKNOWN\")".into()),
        _ => Err("service unhealthy (responded with \"UNKNOWN\")".into()),
    }
}
