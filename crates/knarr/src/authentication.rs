//! The flags of authentication, under the names that kube-apiserver gives them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use apiserver::Remote;
use apiserver::auth::chain::Authentication;
use apiserver::auth::front_proxy::FrontProxy;
use apiserver::auth::oidc::config::{Claim, Configuration, JwtIssuer};
use apiserver::auth::oidc::expressions::Expressions;
use apiserver::auth::oidc::jwt::Algorithm;
use apiserver::auth::webhook_token::WebhookTokenOptions;
use clap::Args;
use serde::Deserialize;

use crate::duration;

const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// How callers may show who they are; in a configuration file
/// `authentication: {configFile: …, oidcIssuerUrl: …}`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AuthenticationFlags {
    /// Who is believed: an AuthenticationConfiguration of apiserver.config.k8s.io; it is read again
    /// when it changes.
    #[arg(
        long = "authentication-config",
        env = "KNARR_AUTHENTICATION_CONFIG",
        value_name = "FILE"
    )]
    config_file: Option<PathBuf>,
    /// Believe requests without credentials to be of system:anonymous.
    #[arg(long = "anonymous-auth")]
    anonymous_auth: bool,
    /// Believe bootstrap tokens.
    #[arg(long = "enable-bootstrap-token-auth")]
    enable_bootstrap_token_auth: bool,
    /// An OpenID Connect issuer whose tokens are believed.
    #[arg(long = "oidc-issuer-url", value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// For whom its tokens must be.
    #[arg(long = "oidc-client-id", value_name = "ID")]
    oidc_client_id: Option<String>,
    /// The authorities of its server (PEM); those of the system when missing.
    #[arg(long = "oidc-ca-file", value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name [default: sub].
    #[arg(long = "oidc-username-claim", value_name = "CLAIM")]
    oidc_username_claim: Option<String>,
    /// What is put before the user's name; - for nothing [default: the URL and #, nothing for the
    /// claim email].
    #[arg(
        long = "oidc-username-prefix",
        value_name = "PREFIX",
        allow_hyphen_values = true
    )]
    oidc_username_prefix: Option<String>,
    /// The claim that has the user's groups.
    #[arg(long = "oidc-groups-claim", value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    /// What is put before groups.
    #[arg(long = "oidc-groups-prefix", value_name = "PREFIX")]
    oidc_groups_prefix: Option<String>,
    /// How its tokens may be signed, separated by commas [default: RS256].
    #[arg(
        long = "oidc-signing-algs",
        value_delimiter = ',',
        value_name = "ALGORITHMS"
    )]
    oidc_signing_algs: Vec<String>,
    /// A claim that must be there with a value, KEY=VALUE; may be given more than once.
    #[arg(
        long = "oidc-required-claim",
        value_delimiter = ',',
        value_name = "KEY=VALUE"
    )]
    oidc_required_claim: Vec<String>,
    /// A webhook that is asked about tokens that nobody else knows: a kubeconfig.
    #[arg(long = "authentication-token-webhook-config-file", value_name = "FILE")]
    token_webhook_config_file: Option<PathBuf>,
    /// v1 or v1beta1: the TokenReviews that it is sent [default: v1beta1].
    #[arg(long = "authentication-token-webhook-version", value_name = "VERSION")]
    token_webhook_version: Option<String>,
    /// How long its answers are good [default: 2m].
    #[arg(
        long = "authentication-token-webhook-cache-ttl",
        value_name = "DURATION"
    )]
    token_webhook_cache_ttl: Option<String>,
    /// The authority of a proxy in front (PEM) whose headers are believed.
    #[arg(long = "requestheader-client-ca-file", value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that the proxy's certificate may have; any when missing.
    #[arg(
        long = "requestheader-allowed-names",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    requestheader_allowed_names: Vec<String>,
    /// Headers that have the user's name, such as X-Remote-User.
    #[arg(
        long = "requestheader-username-headers",
        value_delimiter = ',',
        value_name = "HEADERS"
    )]
    requestheader_username_headers: Vec<String>,
    /// Headers that have the user's UID, such as X-Remote-Uid.
    #[arg(
        long = "requestheader-uid-headers",
        value_delimiter = ',',
        value_name = "HEADERS"
    )]
    requestheader_uid_headers: Vec<String>,
    /// Headers that have groups, such as X-Remote-Group.
    #[arg(
        long = "requestheader-group-headers",
        value_delimiter = ',',
        value_name = "HEADERS"
    )]
    requestheader_group_headers: Vec<String>,
    /// What headers of further attributes begin with, such as X-Remote-Extra-.
    #[arg(
        long = "requestheader-extra-headers-prefix",
        value_delimiter = ',',
        value_name = "PREFIXES"
    )]
    requestheader_extra_headers_prefix: Vec<String>,
}

fn list(flags: Vec<String>, file: Vec<String>) -> Vec<String> {
    if flags.is_empty() { file } else { flags }
}

impl AuthenticationFlags {
    /// These flags, over those of a file.
    pub(crate) fn or(self, file: Self) -> Self {
        Self {
            config_file: self.config_file.or(file.config_file),
            anonymous_auth: self.anonymous_auth || file.anonymous_auth,
            enable_bootstrap_token_auth: self.enable_bootstrap_token_auth
                || file.enable_bootstrap_token_auth,
            oidc_issuer_url: self.oidc_issuer_url.or(file.oidc_issuer_url),
            oidc_client_id: self.oidc_client_id.or(file.oidc_client_id),
            oidc_ca_file: self.oidc_ca_file.or(file.oidc_ca_file),
            oidc_username_claim: self.oidc_username_claim.or(file.oidc_username_claim),
            oidc_username_prefix: self.oidc_username_prefix.or(file.oidc_username_prefix),
            oidc_groups_claim: self.oidc_groups_claim.or(file.oidc_groups_claim),
            oidc_groups_prefix: self.oidc_groups_prefix.or(file.oidc_groups_prefix),
            oidc_signing_algs: list(self.oidc_signing_algs, file.oidc_signing_algs),
            oidc_required_claim: list(self.oidc_required_claim, file.oidc_required_claim),
            token_webhook_config_file: self
                .token_webhook_config_file
                .or(file.token_webhook_config_file),
            token_webhook_version: self.token_webhook_version.or(file.token_webhook_version),
            token_webhook_cache_ttl: self
                .token_webhook_cache_ttl
                .or(file.token_webhook_cache_ttl),
            requestheader_client_ca_file: self
                .requestheader_client_ca_file
                .or(file.requestheader_client_ca_file),
            requestheader_allowed_names: list(
                self.requestheader_allowed_names,
                file.requestheader_allowed_names,
            ),
            requestheader_username_headers: list(
                self.requestheader_username_headers,
                file.requestheader_username_headers,
            ),
            requestheader_uid_headers: list(
                self.requestheader_uid_headers,
                file.requestheader_uid_headers,
            ),
            requestheader_group_headers: list(
                self.requestheader_group_headers,
                file.requestheader_group_headers,
            ),
            requestheader_extra_headers_prefix: list(
                self.requestheader_extra_headers_prefix,
                file.requestheader_extra_headers_prefix,
            ),
        }
    }

    /// Authentication as these flags want it. Reads the files.
    pub(crate) fn authentication(&self, own_issuer: &str) -> Result<Authentication> {
        let mut authentication = Authentication {
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            front_proxy: self.front_proxy()?,
            webhook: self.webhook()?,
            issuers: self.issuer(own_issuer)?.into_iter().collect(),
            ..Authentication::default()
        };
        authentication.anonymous.enabled = self.anonymous_auth;
        let Some(path) = &self.config_file else {
            return Ok(authentication);
        };
        if !authentication.issuers.is_empty() {
            bail!("--authentication-config and the --oidc-* flags exclude each other");
        }
        let what = || format!("the authentication configuration {}", path.display());
        let read = Configuration::parse(&read(path)?, own_issuer).with_context(what)?;
        if let Some(anonymous) = read.anonymous {
            if self.anonymous_auth {
                bail!(
                    "--anonymous-auth and `anonymous` in {} exclude each other",
                    what()
                );
            }
            authentication.anonymous = anonymous;
        }
        authentication.issuers = read.issuers;
        authentication.file = Some(path.clone());
        Ok(authentication)
    }

    fn issuer(&self, own_issuer: &str) -> Result<Option<JwtIssuer>> {
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            if self.oidc_issuer_url.is_some() || self.oidc_client_id.is_some() {
                bail!("--oidc-issuer-url and --oidc-client-id must be specified together");
            }
            return Ok(None);
        };
        if !url.starts_with("https://") || url == own_issuer {
            bail!("--oidc-issuer-url {url:?}: it is an https URL, and not this cluster's own");
        }
        let claim = self.oidc_username_claim.as_deref().unwrap_or("sub");
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if claim == "email" => String::new(),
            _ => format!("{url}#"),
        };
        let algorithms = match self.oidc_signing_algs.as_slice() {
            [] => vec![Algorithm::Rs256],
            names => names
                .iter()
                .map(|name| {
                    Algorithm::parse(name).with_context(|| {
                        format!("--oidc-signing-algs: unsupported signing alg: {name:?}")
                    })
                })
                .collect::<Result<_>>()?,
        };
        let required = self.oidc_required_claim.iter().map(|claim| {
            let (key, value) = claim
                .split_once('=')
                .with_context(|| format!("--oidc-required-claim {claim:?}: it is KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        });
        let ca_pem = self.oidc_ca_file.as_deref().map(bundle).transpose()?;
        Ok(Some(JwtIssuer {
            url: url.clone(),
            discovery_url: None,
            ca_pem,
            audiences: vec![client.clone()],
            algorithms,
            username: Claim {
                name: claim.to_owned(),
                prefix,
            },
            groups: self.oidc_groups_claim.as_ref().map(|name| Claim {
                name: name.clone(),
                prefix: self.oidc_groups_prefix.clone().unwrap_or_default(),
            }),
            uid: None,
            expressions: Expressions::default(),
            required: required.collect::<Result<_>>()?,
        }))
    }

    fn webhook(&self) -> Result<Option<(Remote, WebhookTokenOptions)>> {
        let Some(path) = &self.token_webhook_config_file else {
            return Ok(None);
        };
        let flag = "--authentication-token-webhook";
        let remote =
            Remote::read(path).with_context(|| format!("{flag}-config-file {}", path.display()))?;
        let mut options = WebhookTokenOptions::default();
        if let Some(version) = &self.token_webhook_version {
            if !matches!(version.as_str(), "v1" | "v1beta1") {
                bail!("{flag}-version {version:?}: it is v1 or v1beta1");
            }
            options.version.clone_from(version);
        }
        if let Some(ttl) = &self.token_webhook_cache_ttl {
            options.cache =
                duration::parse(ttl).map_err(|fault| anyhow!("{flag}-cache-ttl: {fault}"))?;
        }
        Ok(Some((remote, options)))
    }

    fn front_proxy(&self) -> Result<Option<FrontProxy>> {
        let Some(path) = &self.requestheader_client_ca_file else {
            return Ok(None);
        };
        if self.requestheader_username_headers.is_empty() {
            bail!("--requestheader-client-ca-file needs --requestheader-username-headers");
        }
        Ok(Some(FrontProxy {
            ca_pem: bundle(path)?,
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: self.requestheader_username_headers.clone(),
            uid_headers: self.requestheader_uid_headers.clone(),
            group_headers: self.requestheader_group_headers.clone(),
            extra_header_prefixes: self.requestheader_extra_headers_prefix.clone(),
        }))
    }
}

fn read(path: &Path) -> Result<String> {
    let what = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    if size > FILE_LIMIT_BYTES {
        bail!(
            "{} has {size} bytes; the most is {FILE_LIMIT_BYTES}",
            path.display()
        );
    }
    std::fs::read_to_string(path).with_context(what)
}

fn bundle(path: &Path) -> Result<String> {
    let pem = read(path)?;
    if !pki::is_certificate_bundle(&pem) {
        bail!("{} holds no certificates", path.display());
    }
    Ok(pem)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use apiserver::auth::chain::Authentication;

    use super::AuthenticationFlags;

    type Change = fn(&mut AuthenticationFlags);

    fn flags(change: Change) -> Result<Authentication, String> {
        let mut flags = AuthenticationFlags {
            oidc_issuer_url: Some("https://a".into()),
            oidc_client_id: Some("k".into()),
            ..AuthenticationFlags::default()
        };
        change(&mut flags);
        let read = flags.authentication("https://own");
        read.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn user_names_are_prefixed_as_upstream_does() {
        let prefix = |change| flags(change).unwrap().issuers[0].username.prefix.clone();
        assert_eq!(prefix(|_| {}), "https://a#");
        assert_eq!(prefix(|f| f.oidc_username_claim = Some("email".into())), "");
        assert_eq!(prefix(|f| f.oidc_username_prefix = Some("-".into())), "");
        assert_eq!(prefix(|f| f.oidc_username_prefix = Some("x:".into())), "x:");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let cases: [(Change, &str); 6] = [
            (|f| f.oidc_client_id = None, "must be specified together"),
            (
                |f| f.oidc_issuer_url = Some("http://a".into()),
                "it is an https URL",
            ),
            (
                |f| f.oidc_signing_algs = vec!["HS256".into()],
                "unsupported signing alg: \"HS256\"",
            ),
            (|f| f.oidc_required_claim = vec!["x".into()], "KEY=VALUE"),
            (
                |f| f.config_file = Some("/nowhere".into()),
                "exclude each other",
            ),
            (
                |f| f.requestheader_client_ca_file = Some("/nowhere".into()),
                "username-headers",
            ),
        ];
        for (change, words) in cases {
            let error = flags(change).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
