//! Requests that go on to an aggregated server, as whoever made them.

use api::status::ApiError;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};

use super::ApiService;
use crate::auth::user::User;
use crate::http::{Body, text};
use crate::outbound;
use crate::proxy::{outgoing, relay, upgrade};
use crate::state::State;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

/// Passes a request on, and its answer back as it comes.
pub(crate) async fn serve(
    state: &State,
    to: &ApiService,
    user: &User,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let unavailable = |why: &str| Ok(text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")));
    let Some(remote) = to.remote.as_ref().filter(|_| to.available) else {
        return unavailable("service unavailable");
    };
    let mut endpoint = match &remote.endpoint {
        Ok(endpoint) => endpoint.clone(),
        Err(why) => return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"))),
    };
    let client = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let wanted = upgrade(&parts.headers);
    // An upgrade takes a connection for itself.
    endpoint.http2 = wanted.is_none();
    outgoing(&mut parts, wanted.as_ref());
    parts.headers.remove(header::HOST);
    put_user(&mut parts.headers, user);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri =
        outbound::uri(&endpoint, path).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let identity = state.aggregation.identity();
    let request = Request::from_parts(parts, body);
    let sent = state.outbound.send(&endpoint, identity.as_ref(), request);
    match sent.await {
        Ok(answer) => Ok(relay(answer, client, wanted.is_some(), ())),
        Err(error) => {
            tracing::debug!(service = to.name, "an aggregated server: {error}");
            unavailable(&format!("error trying to reach service: {error}"))
        }
    }
}

/// Says who asks, and nothing else of the sort.
pub(super) fn put_user(headers: &mut HeaderMap, user: &User) {
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            matches!(name, USER | UID | GROUP)
                || name.starts_with(EXTRA)
                || name.starts_with("impersonate-")
        })
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
    let mut put = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    };
    put(USER, &user.name);
    if !user.uid.is_empty() {
        put(UID, &user.uid);
    }
    for group in &user.groups {
        put(GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key));
        for value in values {
            put(&name, value);
        }
    }
}

/// A key as the name of a header has it.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let legal = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if legal {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_speaks_for_the_user() {
        let mut headers = HeaderMap::new();
        for name in [USER, "x-remote-extra-a", "impersonate-user", "accept"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let user = User {
            name: "jane".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("example.com/k".to_owned(), vec!["v".to_owned()])].into(),
            ..User::default()
        };
        put_user(&mut headers, &user);
        let mut told: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or_default()))
            .collect();
        told.sort();
        let wanted = [
            "accept=x",
            "x-remote-extra-example.com%2fk=v",
            "x-remote-group=a",
            "x-remote-group=b",
            "x-remote-user=jane",
        ];
        assert_eq!(told, wanted);
    }
}
