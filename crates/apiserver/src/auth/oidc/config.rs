//! How tokens of other issuers are configured: by flags, or by an `AuthenticationConfiguration` of
//! `apiserver.config.k8s.io`. Pure.

use api::validate::FieldError;
use serde::Deserialize;

use super::expressions::Expressions;
use super::jwt::Algorithm;
use super::mappings;

const GROUP: &str = "apiserver.config.k8s.io/";
const ISSUERS_LIMIT: usize = 64;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is no YAML.
    #[error("cannot be read")]
    Yaml(#[from] api::yaml::YamlError),
    /// It is not one document of the right kind.
    #[error("is not one document of kind AuthenticationConfiguration in {GROUP}v1 or v1beta1")]
    Kind,
    /// A field is unknown or of another type.
    #[error("cannot be read as an authentication configuration")]
    Shape(#[from] serde_json::Error),
    /// A value is wrong.
    #[error("is invalid: {}", words(.0))]
    Invalid(Vec<FieldError>),
}

fn words(errors: &[FieldError]) -> String {
    let words = errors.iter().map(|e| format!("{}: {}", e.path, e.body()));
    words.collect::<Vec<_>>().join(", ")
}

/// A claim that becomes a part of the user, with what is put before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The claim's name.
    pub name: String,
    /// What is put before its value.
    pub prefix: String,
}

/// An issuer whose tokens are believed, and how their claims become a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtIssuer {
    /// The claim `iss`, and where the discovery document is unless said otherwise.
    pub url: String,
    /// Where the discovery document is.
    pub discovery_url: Option<String>,
    /// The authorities of the issuer's server, PEM; those of the system when missing.
    pub ca_pem: Option<String>,
    /// One of these a token must be for.
    pub audiences: Vec<String>,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// The user's name.
    pub username: Claim,
    /// The user's groups.
    pub groups: Option<Claim>,
    /// The user's UID.
    pub uid: Option<String>,
    /// Claims that must be there with a value.
    pub required: Vec<(String, String)>,
    /// What is said by expressions, in the place of claims or beside them.
    pub expressions: Expressions,
}

/// Who may come without credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// Whether anybody may.
    pub enabled: bool,
    /// For which paths only; all when empty.
    pub paths: Vec<String>,
}

/// What a configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The issuers.
    pub issuers: Vec<JwtIssuer>,
    /// Who may come without credentials, if the file says so.
    pub anonymous: Option<Anonymous>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    jwt: Vec<JwtFile>,
    anonymous: Option<AnonymousFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct JwtFile {
    issuer: IssuerFile,
    pub(super) claim_validation_rules: Vec<RuleFile>,
    pub(super) claim_mappings: MappingsFile,
    pub(super) user_validation_rules: Vec<RuleFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct IssuerFile {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RuleFile {
    pub(super) claim: String,
    pub(super) required_value: String,
    pub(super) expression: String,
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MappingsFile {
    pub(super) username: MappingFile,
    pub(super) groups: MappingFile,
    pub(super) uid: MappingFile,
    pub(super) extra: Vec<ExtraFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MappingFile {
    pub(super) claim: String,
    pub(super) prefix: Option<String>,
    pub(super) expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ExtraFile {
    pub(super) key: String,
    pub(super) value_expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AnonymousFile {
    enabled: bool,
    conditions: Vec<ConditionFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConditionFile {
    path: String,
}

impl Configuration {
    /// Reads a file. Tokens of `own_issuer` are this server's own, and of no other.
    ///
    /// # Errors
    /// It is malformed, has unknown fields or wrong values, in upstream's words.
    pub fn parse(text: &str, own_issuer: &str) -> Result<Self, ConfigError> {
        let mut documents = api::yaml::parse_documents(text)?.into_iter();
        let (Some(document), None) = (documents.next(), documents.next()) else {
            return Err(ConfigError::Kind);
        };
        let version = document["apiVersion"]
            .as_str()
            .and_then(|v| v.strip_prefix(GROUP));
        if !matches!(version, Some("v1" | "v1beta1"))
            || document["kind"] != "AuthenticationConfiguration"
        {
            return Err(ConfigError::Kind);
        }
        let file: File = serde_json::from_value(document)?;
        let (mut errors, mut expressions) = (Vec::new(), Vec::new());
        if file.jwt.len() > ISSUERS_LIMIT {
            errors.push(FieldError::too_many("jwt", file.jwt.len(), ISSUERS_LIMIT));
        }
        for (index, jwt) in file.jwt.iter().enumerate() {
            let at = format!("jwt[{index}]");
            let issuer = format!("{at}.issuer");
            errors.extend(check_issuer(&jwt.issuer, &issuer, own_issuer));
            expressions.push(mappings::read(jwt, &at, &mut errors));
            let earlier = &file.jwt[..index];
            let url = &jwt.issuer.url;
            if earlier.iter().any(|other| other.issuer.url == *url) {
                errors.push(FieldError::duplicate(
                    format!("{at}.issuer.url"),
                    url.as_str(),
                ));
            }
            let discovery = &jwt.issuer.discovery_url;
            let again = |other: &JwtFile| other.issuer.discovery_url == *discovery;
            if !discovery.is_empty() && earlier.iter().any(again) {
                let at = format!("{at}.issuer.discoveryURL");
                errors.push(FieldError::duplicate(at, discovery.as_str()));
            }
        }
        let anonymous = file.anonymous.map(|anonymous| Anonymous {
            enabled: anonymous.enabled,
            paths: anonymous.conditions.into_iter().map(|c| c.path).collect(),
        });
        if let Some(anonymous) = &anonymous
            && !anonymous.enabled
            && !anonymous.paths.is_empty()
        {
            let words = "enabled should be set to true when conditions are defined";
            let paths = serde_json::json!(anonymous.paths);
            errors.push(FieldError::invalid("anonymous.conditions", paths, words));
        }
        if !errors.is_empty() {
            return Err(ConfigError::Invalid(errors));
        }
        Ok(Self {
            issuers: file
                .jwt
                .into_iter()
                .zip(expressions)
                .map(|(jwt, expressions)| JwtIssuer {
                    expressions,
                    ..JwtIssuer::from(jwt)
                })
                .collect(),
            anonymous,
        })
    }
}

impl From<JwtFile> for JwtIssuer {
    fn from(file: JwtFile) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let claim = |mapping: MappingFile| Claim {
            name: mapping.claim,
            prefix: mapping.prefix.unwrap_or_default(),
        };
        Self {
            url: file.issuer.url,
            discovery_url: some(file.issuer.discovery_url),
            ca_pem: some(file.issuer.certificate_authority),
            audiences: file.issuer.audiences,
            algorithms: Algorithm::ALL.to_vec(),
            username: claim(file.claim_mappings.username),
            groups: Some(claim(file.claim_mappings.groups)).filter(|c| !c.name.is_empty()),
            uid: some(file.claim_mappings.uid.claim),
            required: file
                .claim_validation_rules
                .into_iter()
                .filter(|rule| !rule.claim.is_empty())
                .map(|rule| (rule.claim, rule.required_value))
                .collect(),
            expressions: Expressions::default(),
        }
    }
}

/// What an issuer's URL must be.
fn check_url(url: &str, at: &str) -> Vec<FieldError> {
    let invalid = |words: &str| FieldError::invalid(at, url, words);
    let Ok(uri) = url.parse::<http::Uri>() else {
        return vec![invalid("invalid URL")];
    };
    let mut errors = Vec::new();
    if uri.scheme_str() != Some("https") {
        errors.push(invalid("URL scheme must be https"));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        errors.push(invalid("URL must not contain a username or password"));
    }
    if uri.query().is_some() {
        errors.push(invalid("URL must not contain a query"));
    }
    if url.contains('#') {
        errors.push(invalid("URL must not contain a fragment"));
    }
    errors
}

fn check_issuer(issuer: &IssuerFile, at: &str, own_issuer: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = format!("{at}.url");
    match issuer.url.as_str() {
        "" => errors.push(FieldError::required(path, "")),
        url => {
            if url == own_issuer {
                let words = format!("URL must not overlap with disallowed issuers: [{own_issuer}]");
                errors.push(FieldError::invalid(path.clone(), url, words));
            }
            errors.extend(check_url(url, &path));
        }
    }
    if !issuer.discovery_url.is_empty() {
        let (url, path) = (issuer.discovery_url.as_str(), format!("{at}.discoveryURL"));
        if url.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
            let words = "discoveryURL must be different from URL";
            errors.push(FieldError::invalid(path.clone(), url, words));
        }
        errors.extend(check_url(url, &path));
    }
    let path = format!("{at}.audiences");
    if issuer.audiences.is_empty() {
        let words = format!("at least one {path} is required");
        errors.push(FieldError::required(path.clone(), words));
    }
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if audience.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if issuer.audiences[..index].contains(audience) {
            errors.push(FieldError::duplicate(path, audience.as_str()));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let words = match (issuer.audiences.len(), policy) {
        (2.., policy) if policy != "MatchAny" => {
            Some("audienceMatchPolicy must be MatchAny for multiple audiences")
        }
        (1, policy) if !matches!(policy, "" | "MatchAny") => {
            Some("audienceMatchPolicy must be empty or MatchAny for single audience")
        }
        _ => None,
    };
    if let Some(words) = words {
        errors.push(FieldError::invalid(
            format!("{at}.audienceMatchPolicy"),
            policy,
            words,
        ));
    }
    if !issuer.certificate_authority.is_empty()
        && !pki::is_certificate_bundle(&issuer.certificate_authority)
    {
        let words = "data does not contain any valid RSA or ECDSA certificates";
        let path = format!("{at}.certificateAuthority");
        errors.push(FieldError::invalid(path, "<omitted>", words));
    }
    if !issuer.egress_selector_type.is_empty() {
        let words = "egress selectors are not supported by this server";
        let path = format!("{at}.egressSelectorType");
        errors.push(FieldError::invalid(
            path,
            issuer.egress_selector_type.as_str(),
            words,
        ));
    }
    errors
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Claim, Configuration};

    fn parse(jwt: &str) -> Result<Configuration, String> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{jwt}"
        );
        Configuration::parse(&text, "https://own").map_err(|e| stdx::chain::chain(&e))
    }

    #[test]
    fn a_file_becomes_issuers() {
        let read = parse(
            "jwt:\n- issuer: {url: 'https://a/x', audiences: [k, l], audienceMatchPolicy: MatchAny}\n  \
             claimMappings:\n    username: {claim: email, prefix: ''}\n    \
             groups: {claim: roles, prefix: 'a:'}\n    uid: {claim: sub}\n  \
             claimValidationRules: [{claim: hd, requiredValue: example.com}]\n\
             anonymous: {enabled: true, conditions: [{path: /livez}]}\n",
        )
        .unwrap();
        let issuer = &read.issuers[0];
        assert_eq!(
            (issuer.url.as_str(), issuer.audiences.len()),
            ("https://a/x", 2)
        );
        assert_eq!(
            issuer.username,
            Claim {
                name: "email".into(),
                prefix: String::new()
            }
        );
        assert_eq!(issuer.groups.as_ref().unwrap().prefix, "a:");
        assert_eq!(
            issuer.required,
            [("hd".to_owned(), "example.com".to_owned())]
        );
        assert_eq!(read.anonymous.unwrap().paths, ["/livez"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let issuer = |issuer: &str, mappings: &str| {
            format!("jwt:\n- issuer: {issuer}\n  claimMappings: {mappings}\n")
        };
        let good = "{username: {claim: sub, prefix: ''}}";
        let (url, name) = (
            "{url: 'https://a', audiences: [k]}",
            "username: {claim: sub, prefix: ''}",
        );
        for (text, words) in [
            (
                issuer("{audiences: [k]}", good),
                "jwt[0].issuer.url: Required value",
            ),
            (
                issuer("{url: 'http://a', audiences: [k]}", good),
                "URL scheme must be https",
            ),
            (
                issuer("{url: 'https://u@a', audiences: [k]}", good),
                "username or password",
            ),
            (
                issuer("{url: 'https://a?x', audiences: [k]}", good),
                "must not contain a query",
            ),
            (
                issuer("{url: 'https://own', audiences: [k]}", good),
                "disallowed issuers",
            ),
            (
                issuer("{url: 'https://a'}", good),
                "jwt[0].issuer.audiences: Required value",
            ),
            (
                issuer("{url: 'https://a', audiences: [k, l]}", good),
                "must be MatchAny",
            ),
            (
                issuer(
                    "{url: 'https://a', audiences: [k], certificateAuthority: x}",
                    good,
                ),
                "certificates",
            ),
            (issuer(url, "{}"), "claim or expression is required"),
            (
                issuer(url, "{username: {claim: sub}}"),
                "prefix is required",
            ),
            (
                issuer(url, &format!("{{{name}, surname: x}}")),
                "unknown field",
            ),
            (
                "anonymous: {conditions: [{path: /x}]}".to_owned(),
                "enabled should be set",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let twice = issuer(url, good) + &issuer(url, good).replace("jwt:\n", "");
        assert!(
            parse(&twice)
                .unwrap_err()
                .contains("jwt[1].issuer.url: Duplicate value")
        );
    }
}
