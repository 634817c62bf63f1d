//! From the claims of a verified token to a user. Pure.

use serde_json::{Map, Value};

use super::config::JwtIssuer;
use super::expressions;
use crate::auth::user::{AUTHENTICATED, User};

/// How far clocks may differ where a token is not yet valid.
const LEEWAY_SECS: f64 = 300.0;

/// Why a token that the issuer has signed is not believed. Upstream's words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClaimError {
    /// It is of another issuer.
    #[error("oidc: id token issued by a different provider, expected {expected:?} got {found:?}")]
    Issuer {
        /// The configured one.
        expected: String,
        /// That of the token.
        found: String,
    },
    /// It is for others.
    #[error("oidc: expected audience in {expected:?} got {found:?}")]
    Audience {
        /// The configured ones.
        expected: Vec<String>,
        /// Those of the token.
        found: Vec<String>,
    },
    /// It is past, or says no end.
    #[error("oidc: token is expired (Token Expiry: {0})")]
    Expired(String),
    /// It is of the future.
    #[error("oidc: current time before the nbf (not before) time")]
    NotYet,
    /// A claim is missing or of the wrong type.
    #[error("oidc: parse {what} {claim:?}: {fault}")]
    Claim {
        /// What it is for.
        what: &'static str,
        /// Its name.
        claim: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The issuer does not vouch for the address.
    #[error("oidc: email not verified")]
    Email,
    /// An expression gives nothing for a name.
    #[error("oidc: empty username via CEL expression is not allowed")]
    Nameless,
    /// An expression cannot be evaluated, or gives what it may not.
    #[error("oidc: error evaluating {what}: {fault}")]
    Expression {
        /// What it is for.
        what: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// A required claim is missing.
    #[error("oidc: required claim {0} not present in ID token")]
    Missing(String),
    /// A required claim has another value.
    #[error("oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}")]
    Other {
        /// Its name.
        claim: String,
        /// Its value.
        found: String,
        /// The value it must have.
        wanted: String,
    },
}

/// The user that claims stand for, at a time in seconds since 1970.
///
/// # Errors
/// [`ClaimError`] says what does not hold.
pub fn user(
    issuer: &JwtIssuer,
    claims: &Map<String, Value>,
    now_secs: f64,
) -> Result<User, ClaimError> {
    check(issuer, claims, now_secs)?;
    let by = &issuer.expressions;
    let seen = expressions::claims(claims);
    let faulty = |what: &'static str| move |fault| ClaimError::Expression { what, fault };
    let name = match &by.username {
        None => named(issuer, claims)?,
        Some(expression) => {
            let what = "username claim expression";
            let name = expression.text(&seen, "username").map_err(faulty(what))?;
            if name.is_empty() {
                return Err(ClaimError::Nameless);
            }
            name
        }
    };
    let groups = match &by.groups {
        None => grouped(issuer, claims)?,
        Some(expression) => expression
            .texts(&seen)
            .map_err(faulty("group claim expression"))?,
    };
    let uid = match (&issuer.uid, &by.uid) {
        (Some(claim), _) => string(claims, "uid claim", claim)?.to_owned(),
        (None, Some(expression)) => expression
            .text(&seen, "uid")
            .map_err(faulty("uid claim expression"))?,
        (None, None) => String::new(),
    };
    let mut user = User {
        name,
        uid,
        groups,
        ..User::default()
    };
    if let Some(jti) = claims
        .get("jti")
        .and_then(Value::as_str)
        .filter(|jti| !jti.is_empty())
    {
        let key = "authentication.kubernetes.io/credential-id".to_owned();
        user.extra.insert(key, vec![format!("JTI={jti}")]);
    }
    for (key, expression) in &by.extra {
        let values = expression.texts(&seen);
        let values = values.map_err(faulty("extra claim expression"))?;
        if !values.is_empty() {
            user.extra.insert(key.clone(), values);
        }
    }
    for (claim, wanted) in &issuer.required {
        if !claims.contains_key(claim) {
            return Err(ClaimError::Missing(claim.clone()));
        }
        let found = string(claims, "claim", claim)?;
        if found != wanted {
            return Err(ClaimError::Other {
                claim: claim.clone(),
                found: found.to_owned(),
                wanted: wanted.clone(),
            });
        }
    }
    expressions::hold(&by.claims, &seen).map_err(faulty("claim validation expression"))?;
    expressions::hold(&by.user, &expressions::user(&user))
        .map_err(faulty("user info validation rule"))?;
    if !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(user)
}

/// The name that a claim gives.
fn named(issuer: &JwtIssuer, claims: &Map<String, Value>) -> Result<String, ClaimError> {
    let name = &issuer.username;
    let username = string(claims, "username claims", &name.name)?;
    if name.name == "email" {
        match claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(ClaimError::Email),
            Some(_) => {
                return Err(ClaimError::Claim {
                    what: "claim",
                    claim: "email_verified".to_owned(),
                    fault: "not a boolean",
                });
            }
        }
    }
    Ok(format!("{}{username}", name.prefix))
}

/// The groups that a claim gives.
fn grouped(issuer: &JwtIssuer, claims: &Map<String, Value>) -> Result<Vec<String>, ClaimError> {
    let Some(mapping) = &issuer.groups else {
        return Ok(Vec::new());
    };
    let Some(value) = claims.get(&mapping.name) else {
        return Ok(Vec::new());
    };
    let fault = || ClaimError::Claim {
        what: "groups claim",
        claim: mapping.name.clone(),
        fault: "neither a string nor a list of strings",
    };
    let named = one_or_many(value).ok_or_else(fault)?;
    let prefixed = named.into_iter().map(|g| format!("{}{g}", mapping.prefix));
    Ok(prefixed.collect())
}

/// Whose the token is, for whom, and when it holds.
fn check(issuer: &JwtIssuer, claims: &Map<String, Value>, now_secs: f64) -> Result<(), ClaimError> {
    let found = claims
        .get("iss")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if found != issuer.url {
        return Err(ClaimError::Issuer {
            expected: issuer.url.clone(),
            found: found.to_owned(),
        });
    }
    let audiences = claims.get("aud").and_then(one_or_many).unwrap_or_default();
    if !audiences
        .iter()
        .any(|audience| issuer.audiences.contains(audience))
    {
        return Err(ClaimError::Audience {
            expected: issuer.audiences.clone(),
            found: audiences,
        });
    }
    let seconds = |claim: &str| claims.get(claim).and_then(Value::as_f64);
    match seconds("exp") {
        Some(end) if end >= now_secs => {}
        end => {
            return Err(ClaimError::Expired(
                end.map_or_else(String::new, |e| e.to_string()),
            ));
        }
    }
    if seconds("nbf").is_some_and(|start| now_secs + LEEWAY_SECS < start) {
        return Err(ClaimError::NotYet);
    }
    Ok(())
}

fn string<'a>(
    claims: &'a Map<String, Value>,
    what: &'static str,
    claim: &str,
) -> Result<&'a str, ClaimError> {
    let fault = match claims.get(claim) {
        Some(Value::String(text)) => return Ok(text),
        Some(_) => "not a string",
        None => "claim not present",
    };
    Err(ClaimError::Claim {
        what,
        claim: claim.to_owned(),
        fault,
    })
}

fn one_or_many(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::user;
    use crate::auth::oidc::config::{Claim, JwtIssuer};

    #[test]
    fn claims_make_a_user_or_say_why_not() {
        let claim = |name: &str, prefix: &str| Claim {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        };
        let issuer = JwtIssuer {
            url: "https://a".to_owned(),
            audiences: vec!["k".to_owned(), "l".to_owned()],
            username: claim("email", "a:"),
            groups: Some(claim("roles", "g:")),
            uid: Some("sub".to_owned()),
            required: vec![("hd".to_owned(), "x".to_owned())],
            ..JwtIssuer::default()
        };
        let with = |changes: Value| {
            let mut claims = json!({"iss": "https://a", "aud": "k", "exp": 2000, "nbf": 1000,
                "email": "jane@x", "email_verified": true, "roles": ["r", "s"], "sub": "7",
                "hd": "x", "jti": "j"});
            for (key, value) in changes.as_object().unwrap() {
                if value.is_null() {
                    claims.as_object_mut().unwrap().remove(key);
                } else {
                    claims[key.as_str()] = value.clone();
                }
            }
            user(&issuer, claims.as_object().unwrap(), 1500.0).map_err(|e| e.to_string())
        };
        let jane = with(json!({"aud": ["z", "l"]})).unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("a:jane@x", "7"));
        assert_eq!(jane.groups, ["g:r", "g:s", "system:authenticated"]);
        assert_eq!(
            jane.extra["authentication.kubernetes.io/credential-id"],
            ["JTI=j"]
        );
        assert_eq!(with(json!({"roles": "one"})).unwrap().groups[0], "g:one");
        assert_eq!(with(json!({"roles": null})).unwrap().groups.len(), 1);
        assert!(with(json!({"nbf": 1799})).is_ok());
        for (changes, words) in [
            (json!({"iss": "https://b"}), "different provider"),
            (
                json!({"aud": "z"}),
                "expected audience in [\"k\", \"l\"] got [\"z\"]",
            ),
            (json!({"aud": null}), "expected audience"),
            (json!({"exp": 1499}), "token is expired"),
            (json!({"exp": null}), "token is expired"),
            (json!({"exp": "2000"}), "token is expired"),
            (json!({"nbf": 1801}), "before the nbf"),
            (json!({"email": null}), "claim not present"),
            (json!({"email": 7}), "not a string"),
            (json!({"email_verified": false}), "email not verified"),
            (json!({"email_verified": "true"}), "not a boolean"),
            (json!({"roles": [7]}), "neither a string nor a list"),
            (json!({"sub": null}), "uid claim"),
            (json!({"hd": null}), "required claim hd not present"),
            (json!({"hd": "y"}), "Got = y, want = x"),
        ] {
            let error = with(changes.clone()).unwrap_err();
            assert!(error.contains(words), "{changes}: {error}");
        }
    }

    #[test]
    fn expressions_make_a_user_or_say_why_not() {
        let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
            jwt:\n- issuer: {url: 'https://a', audiences: [k]}\n  claimMappings:\n    \
            username: {expression: \"'a:' + claims.sub\"}\n    \
            groups: {expression: \"claims.?realm.roles.orValue([]).map(r, 'g:' + r)\"}\n    \
            uid: {expression: \"string(claims.number)\"}\n    \
            extra: [{key: example.com/tenant, valueExpression: 'claims.example__dot__com__slash__tenant'},\n      \
              {key: example.com/none, valueExpression: \"''\"}]\n  \
            claimValidationRules: [{expression: 'claims.exp - claims.iat <= 3600', message: too long}]\n  \
            userValidationRules: [{expression: \"!user.groups.exists(g, g.startsWith('g:system:'))\", message: 'no'}]\n";
        let read = crate::auth::oidc::config::Configuration::parse(text, "https://own").unwrap();
        let with = |changes: Value| {
            let mut claims = json!({"iss": "https://a", "aud": "k", "exp": 2000, "iat": 1000,
                "sub": "jane", "number": 7, "realm": {"roles": ["r", "", "s"]},
                "example.com/tenant": ["x", "y"]});
            for (key, value) in changes.as_object().unwrap() {
                claims[key.as_str()] = value.clone();
            }
            user(&read.issuers[0], claims.as_object().unwrap(), 1500.0).map_err(|e| e.to_string())
        };
        let jane = with(json!({})).unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("a:jane", "7"));
        assert_eq!(jane.groups, ["g:r", "g:", "g:s", "system:authenticated"]);
        assert_eq!(jane.extra["example.com/tenant"], ["x", "y"]);
        assert!(!jane.extra.contains_key("example.com/none"));
        let nobody = with(json!({"realm": {}})).unwrap();
        assert_eq!(nobody.groups, ["system:authenticated"]);
        for (changes, words) in [
            (
                json!({"iat": -2000}),
                "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= 3600' failed: too long",
            ),
            (
                json!({"realm": {"roles": ["system:masters"]}}),
                "error evaluating user info validation rule: validation expression",
            ),
            (
                json!({"sub": 7}),
                "error evaluating username claim expression: expression ''a:' + claims.sub' resulted in error: no such overload",
            ),
            (
                json!({"example.com/tenant": [7]}),
                "error evaluating extra claim expression: expression must return a string or a list of strings",
            ),
            (
                json!({"realm": 7}),
                "error evaluating group claim expression: expression ",
            ),
        ] {
            let error = with(changes.clone()).unwrap_err();
            assert!(error.contains(words), "{changes}: {error}");
        }
    }
}
