//! The token service of a registry: who shows the right password gets a signed JWT.
//!
//! The protocol is that of Docker's distribution: `GET <realm>?service=…&scope=…` with basic
//! credentials, answered with `{"token": …}`; the registry knows the signer by the certificate in
//! the token's header.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::http::{Answer, Request, Server};

pub(crate) const SERVICE: &str = "test registry";
pub(crate) const ISSUER: &str = "testkit";
const LIFETIME_SECS: u64 = 300;

/// A running token service on loopback; ended with the process.
pub struct TokenServer {
    server: Server,
    certificate_pem: String,
}

impl TokenServer {
    /// Starts one that knows a single user.
    ///
    /// # Errors
    /// When no key can be made or no port be had.
    pub fn start(user: &str, password: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::default().self_signed(&key)?;
        let signer = Signer::new(&key, certificate.der())?;
        let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let user = user.to_owned();
        let server = Server::start(move |request| {
            let known = request.header("authorization") == Some(&wanted);
            let answer = if known {
                signer
                    .token(&user, &request)
                    .map(|token| ("200 OK", json!({"token": token})))
            } else {
                Ok((
                    "401 Unauthorized",
                    json!({"details": "incorrect username or password"}),
                ))
            };
            let (status, body) = answer.unwrap_or_else(|error| {
                let words = format!("{error:#}");
                ("500 Internal Server Error", json!({"details": words}))
            });
            Answer::json(status, &body)
        })?;
        Ok(Self {
            server,
            certificate_pem: certificate.pem(),
        })
    }

    /// Where clients ask.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The certificate of the key that signs.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The requests so far: method, path and query.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }
}

struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    header: Value,
}

impl Signer {
    fn new(key: &rcgen::KeyPair, certificate: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &key.serialize_der(),
            &random,
        )
        .ok()
        .context("a P-256 key")?;
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(certificate)]});
        Ok(Self {
            pair,
            random,
            header,
        })
    }

    /// A token for all that was asked for.
    fn token(&self, user: &str, request: &Request) -> Result<String> {
        let service = request.query("service").context("no service")?;
        let scope = request.query("scope").context("no scope")?;
        let parts: Vec<&str> = scope.split(':').collect();
        let [kind, name, actions] = parts[..] else {
            anyhow::bail!("no scope: {scope}");
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": user, "aud": service, "jti": "1",
            "iat": now, "nbf": now - 10, "exp": now + LIFETIME_SECS,
            "access": [{"type": kind, "name": name,
                "actions": actions.split(',').collect::<Vec<_>>()}],
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(self.header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .ok()
            .context("no signature")?;
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }
}
