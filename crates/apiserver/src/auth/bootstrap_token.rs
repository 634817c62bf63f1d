//! Bootstrap tokens: `id.secret` of a Secret in `kube-system`, by which a node that knows nothing yet
//! asks for its certificate.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::live::{BoundKind, LiveLookup};
use super::user::{AUTHENTICATED, User};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const GROUP_REST_LIMIT: usize = 256;

/// The parts of a token, if it has the form of one.
pub(super) fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (is_plain(id, 6) && is_plain(secret, 16)).then_some((id, secret))
}

/// The user of a token; `None` when there is none such, or no more, for a reason that the log has.
pub(super) fn user(lookup: &dyn LiveLookup, token: &str, now: Timestamp) -> Option<User> {
    let (id, secret) = parse(token)?;
    let name = format!("bootstrap-token-{id}");
    let found = lookup.object(BoundKind::Secret, NAMESPACE, &name)?;
    match check(&found, id, secret, now) {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::debug!(secret = name, "bootstrap token: {why}");
            None
        }
    }
}

fn check(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<User, &'static str> {
    let data = |key: &str| {
        let encoded = object["data"][key].as_str().unwrap_or_default();
        STANDARD.decode(encoded).unwrap_or_default()
    };
    let text = |key: &str| String::from_utf8(data(key)).unwrap_or_default();
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Err("is deleted and awaiting removal");
    }
    if object["type"] != TYPE {
        return Err("has invalid type");
    }
    if !same(&data("token-secret"), secret.as_bytes()) {
        return Err("has invalid value for key token-secret");
    }
    if text("token-id") != id {
        return Err("has invalid value for key token-id");
    }
    let expiration = text("expiration");
    let is_over = |until: &str| {
        until
            .parse::<Timestamp>()
            .map_or(true, |until| until <= now)
    };
    if !expiration.is_empty() && is_over(&expiration) {
        return Err("has expired");
    }
    if text("usage-bootstrap-authentication") != "true" {
        return Err("is not marked usage-bootstrap-authentication=true");
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    let extra = text("auth-extra-groups");
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_group(group) {
            return Err("has invalid value for key auth-extra-groups");
        }
        groups.insert(group.to_owned());
    }
    let mut groups: Vec<String> = groups.into_iter().collect();
    groups.push(AUTHENTICATED.to_owned());
    Ok(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    })
}

/// A group that bootstrap tokens may have: none that has rights of its own.
fn is_group(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=GROUP_REST_LIMIT).contains(&rest.len())
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}

/// Compares in a time that does not tell where two secrets differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && differing == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::{check, is_group, parse};

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let all = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token",
            ),
        ];
        for (key, value) in all.iter().chain(changes) {
            data[*key] = json!(STANDARD.encode(value));
        }
        json!({"metadata": {"name": "bootstrap-token-abcdef"},
            "type": "bootstrap.kubernetes.io/token", "data": data})
    }

    #[test]
    fn a_secret_makes_a_user_while_it_holds() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let answer = |secret: &Value, word: &str| check(secret, "abcdef", word, now);
        let user = answer(&secret(&[]), "0123456789abcdef").unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token",
                "system:authenticated"
            ]
        );
        for (changes, words) in [
            (&[("token-secret", "0123456789abcdee")][..], "token-secret"),
            (&[("token-secret", "")], "token-secret"),
            (&[("token-id", "fedcba")], "token-id"),
            (&[("expiration", "2025-12-31T23:59:59Z")], "expired"),
            (&[("expiration", "soon")], "expired"),
            (&[("usage-bootstrap-authentication", "yes")], "not marked"),
            (
                &[("auth-extra-groups", "system:masters")],
                "auth-extra-groups",
            ),
        ] {
            let error = answer(&secret(changes), "0123456789abcdef").unwrap_err();
            assert!(error.contains(words), "{changes:?}: {error}");
        }
        assert!(
            answer(
                &secret(&[("expiration", "2026-01-01T00:00:01Z")]),
                "0123456789abcdef"
            )
            .is_ok()
        );
        let mut other = secret(&[]);
        other["type"] = json!("Opaque");
        assert!(answer(&other, "0123456789abcdef").is_err());
        other = secret(&[]);
        other["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(answer(&other, "0123456789abcdef").is_err());
    }

    #[test]
    fn forms() {
        assert_eq!(
            parse("abc123.0123456789abcdef"),
            Some(("abc123", "0123456789abcdef"))
        );
        for token in [
            "abc123",
            "ABC123.0123456789abcdef",
            "abc123.0123",
            "a.b.c",
            "",
        ] {
            assert_eq!(parse(token), None, "{token}");
        }
        assert!(is_group("system:bootstrappers:a-b:c"));
        for group in [
            "system:bootstrappers",
            "system:bootstrappers:",
            "system:bootstrappers:a-",
            "system:nodes",
        ] {
            assert!(!is_group(group), "{group}");
        }
    }
}
