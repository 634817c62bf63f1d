//! Alerts by HTTP or HTTPS, one in the body of each POST.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pki_types::pem::PemObject as _;

use super::{Message, Output, OutputError};
use crate::forward::tls::Unchecked;

/// Where alerts are sent, and how.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Where.
    pub url: String,
    /// The user agent.
    pub user_agent: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Whether bodies are JSON.
    pub json: bool,
    /// Whether the server's certificate is believed whatever it is.
    pub insecure: bool,
    /// The file of the authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// Files of the client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether bodies are compressed with gzip.
    pub compress: bool,
    /// Whether connections are kept for the next alert.
    pub keep_alive: bool,
    /// How often an alert is tried again.
    pub retries: u32,
    /// How long one try may take.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            user_agent: "falcosecurity/falco".into(),
            headers: Vec::new(),
            json: false,
            insecure: false,
            ca: None,
            client: None,
            compress: false,
            keep_alive: true,
            retries: 5,
            timeout: Duration::from_secs(5),
        }
    }
}

/// The first wait before another try; each is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A server.
#[derive(Debug)]
pub struct HttpOutput {
    options: HttpOptions,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl HttpOutput {
    /// A client for the server; it connects at the first alert.
    ///
    /// # Errors
    /// When certificates or keys cannot be used.
    pub fn new(options: HttpOptions) -> Result<Self, OutputError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(OutputError::Start)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&options)?)
            .user_agent(&options.user_agent)
            .timeout(options.timeout);
        if !options.keep_alive {
            builder = builder.pool_max_idle_per_host(0);
        }
        let client = builder.build().map_err(|source| OutputError::Http {
            url: options.url.clone(),
            source,
        })?;
        Ok(Self {
            options,
            runtime,
            client,
        })
    }

    fn attempt(&self, body: &[u8]) -> Result<(), OutputError> {
        let kind = match self.options.json {
            true => "application/json",
            false => "text/plain",
        };
        let mut request = self
            .client
            .post(&self.options.url)
            .header("content-type", kind)
            .body(body.to_vec());
        if self.options.compress {
            request = request.header("content-encoding", "gzip");
        }
        for (name, value) in &self.options.headers {
            request = request.header(name, value);
        }
        let url = || self.options.url.clone();
        let answer = self
            .runtime
            .block_on(async { request.send().await })
            .map_err(|source| OutputError::Http { url: url(), source })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(OutputError::Status {
            url: url(),
            status: status.as_u16(),
        })
    }
}

impl Output for HttpOutput {
    fn name(&self) -> &'static str {
        "http"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        let line = message.line.as_bytes();
        let body = match self.options.compress {
            true => gzip(line).map_err(OutputError::Start)?,
            false => line.to_vec(),
        };
        let mut wait = FIRST_WAIT;
        for _ in 0..self.options.retries {
            match self.attempt(&body) {
                Ok(()) => return Ok(()),
                // What the server refuses it refuses again.
                Err(OutputError::Status { url, status })
                    if (400..500).contains(&status) && status != 429 =>
                {
                    return Err(OutputError::Status { url, status });
                }
                Err(_) => std::thread::sleep(wait),
            }
            wait *= 2;
        }
        self.attempt(&body)
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn unusable(path: &Path, problem: impl std::fmt::Display) -> OutputError {
    OutputError::Credentials {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OutputError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))
}

fn tls(options: &HttpOptions) -> Result<rustls::ClientConfig, OutputError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(Path::new("TLS"), error))?;
    let builder = if options.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
    } else {
        let mut roots = rustls::RootCertStore::empty();
        match &options.ca {
            Some(path) => {
                let (added, _) = roots.add_parsable_certificates(certificates(path)?);
                if added == 0 {
                    return Err(unusable(path, "no certificate in it"));
                }
            }
            None => {
                let native = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(native.certs);
            }
        }
        builder.with_root_certificates(roots)
    };
    match &options.client {
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| unusable(certificate, error))
        }
        None => Ok(builder.with_no_client_auth()),
    }
}
