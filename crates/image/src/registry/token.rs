//! Authorization: challenges, basic credentials, and tokens from token services.

use std::sync::Arc;

use serde::Deserialize;

use super::{RegistryError, http};
use crate::Auth;

/// What a registry asks for with a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        error: Option<String>,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// The first challenge that we can answer; a token is preferred to a password.
pub(crate) fn parse_challenges<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let mut parameters = parameters(rest);
            let mut take = |key: &str| {
                let position = parameters
                    .iter()
                    .position(|(name, _)| name.eq_ignore_ascii_case(key))?;
                Some(parameters.swap_remove(position).1)
            };
            if let Some(realm) = take("realm") {
                let (service, scope, error) = (take("service"), take("scope"), take("error"));
                return Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                    error,
                });
            }
        }
    }
    basic
}

/// `key=value, key="quoted \" value"`; stops at what it does not understand.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((key, tail)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',', '\t']).to_string();
        let mut value = String::new();
        if let Some(quoted) = tail.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            let end = loop {
                match characters.next() {
                    Some((end, '"')) => break end + 1,
                    Some((_, '\\')) => value.extend(characters.next().map(|(_, c)| c)),
                    Some((_, character)) => value.push(character),
                    None => break quoted.len(),
                }
            };
            rest = &quoted[end..];
        } else {
            let end = tail.find([',', ' ']).unwrap_or(tail.len());
            value.push_str(&tail[..end]);
            rest = &tail[end..];
        }
        found.push((key, value));
        if found.len() > 32 {
            break;
        }
    }
    found
}

/// Asks the token service at `realm` for a token for `scope`.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    auth: Option<&Auth>,
    registry_uses_tls: bool,
) -> Result<String, RegistryError> {
    let protocol = |problem: &str| RegistryError::Protocol {
        url: realm.into(),
        problem: problem.into(),
    };
    let mut url =
        reqwest::Url::parse(realm).map_err(|_| protocol("invalid realm of the token service"))?;
    let plain = url.scheme() != "https";
    if plain
        && registry_uses_tls
        && auth.is_some()
        && !url.host_str().is_some_and(http::is_loopback)
    {
        return Err(protocol(
            "the token service wants credentials by plain HTTP",
        ));
    }
    let request = match auth {
        Some(auth) if !auth.identity_token.is_empty() => {
            let form = form_encode(&[
                ("grant_type", "refresh_token"),
                ("service", service.unwrap_or_default()),
                ("client_id", "knarr"),
                ("scope", scope),
                ("refresh_token", &auth.identity_token),
            ]);
            client
                .post(url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
        }
        _ => {
            if let Some(service) = service {
                url.query_pairs_mut().append_pair("service", service);
            }
            url.query_pairs_mut().append_pair("scope", scope);
            let request = client.get(url.clone());
            match auth {
                Some(auth) => request.basic_auth(&auth.username, Some(&auth.password)),
                None => request,
            }
        }
    };
    let response = request
        .send()
        .await
        .map_err(|source| RegistryError::Request {
            method: "Get".into(),
            url: url.to_string(),
            source: Arc::new(source.without_url()),
        })?;
    let status = response.status();
    if !status.is_success() {
        return Err(RegistryError::Token {
            url: url.to_string(),
            status: status.to_string(),
            anonymous: auth.is_none(),
            unauthorized: matches!(status.as_u16(), 400 | 401 | 403),
        });
    }
    let bytes = http::read_limited(response, 1 << 20).await?;
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|_| protocol("the token service's answer is no JSON"))?;
    let token = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if token.is_empty() {
        Err(protocol(
            "authorization server did not include a token in the response",
        ))
    } else {
        Ok(token)
    }
}

fn form_encode(pairs: &[(&str, &str)]) -> String {
    // The encoder for queries is the one for forms.
    let mut url = reqwest::Url::parse("http://form").expect("a constant URL parses");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let bearer = r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        assert_eq!(
            parse_challenges([r#"Basic realm="x""#, bearer].into_iter()),
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".into(),
                service: Some("reg".into()),
                scope: Some("repository:a/b:pull,push".into()),
                error: Some("insufficient_scope".into()),
            })
        );
        assert_eq!(
            parse_challenges(["basic"].into_iter()),
            Some(Challenge::Basic)
        );
        assert_eq!(
            parse_challenges(["Negotiate", "Bearer service=x"].into_iter()),
            None
        );
        assert_eq!(parameters(r#"a="b\"c" , d=e,f"#).len(), 2);
    }
}
