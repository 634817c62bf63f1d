//! JSON for people: two spaces a level, as `?pretty=true` asks for it.
//!
//! Invariant: only space between tokens is added; what the answer says stays as it was.

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;

use crate::http::{Body, full_body};
use crate::query::Query;

/// Programs whose users look at what comes; upstream's list.
const LOOKED_AT: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// Whether the answer is wanted that way.
pub(crate) fn wanted(query: &Query, headers: &HeaderMap) -> bool {
    if let Some(text) = query.text("pretty") {
        return matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT);
    agent
        .and_then(|value| value.to_str().ok())
        .is_some_and(|agent| LOOKED_AT.iter().any(|name| agent.starts_with(name)))
}

/// Spreads an answer in JSON over lines; any other stays as it is.
pub(crate) async fn spread(response: Response<Body>) -> Response<Body> {
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match boxed(body).await {
        Ok(bytes) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            full_body(indent(&bytes))
        }
        Err(error) => {
            // Our own bodies do not fail; if one did, the client must see it break off.
            tracing::warn!("reading an answer: {error}");
            full_body(Bytes::new())
        }
    };
    Response::from_parts(parts, body)
}

/// Boxed, as the compiler cannot see that the body's own future may move between threads.
fn boxed(body: Body) -> futures::future::BoxFuture<'static, Result<Bytes, crate::http::BoxError>> {
    Box::pin(async move { Ok(body.collect().await?.to_bytes()) })
}

/// Indents valid JSON.
fn indent(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    for byte in json {
        if quoted {
            out.push(*byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        let opened = matches!(out.last(), Some(b'{' | b'['));
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !opened {
                    line(&mut out, depth);
                }
            }
            // The first member of what was just opened.
            _ if opened => line(&mut out, depth),
            _ => {}
        }
        out.push(*byte);
        match byte {
            b'{' | b'[' => depth += 1,
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            b'"' => quoted = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::indent;

    #[test]
    fn indents_as_upstream_does() {
        for (json, wanted) in [
            ("{}", "{}"),
            (r#"{"a":[]}"#, "{\n  \"a\": []\n}"),
            (
                r#"{"a":[1,{"b":"x,{\"y\":"}],"c":null}"#,
                "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,{\\\"y\\\":\"\n    }\n  ],\n  \"c\": null\n}",
            ),
        ] {
            let out = String::from_utf8(indent(json.as_bytes())).unwrap();
            assert_eq!(out, wanted);
            let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(same(&out), same(json));
        }
    }
}
