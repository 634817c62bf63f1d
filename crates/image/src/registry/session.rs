//! One way to a repository: an address, and what it takes to be let in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode};

use super::token::{self, Challenge};
use super::{Access, Clients, RegistryError, accept, http};
use crate::reference::DEFAULT_REGISTRY;
use crate::store::lock;
use crate::{Auth, Config, Digest, Mirror, Reference};

/// An address and credentials for one repository.
pub(crate) struct Session {
    clients: Arc<Clients>,
    name: String,
    repository: String,
    /// `host[:port][/path]`, without scheme.
    address: String,
    /// Whether to speak TLS; begins as false where plain HTTP is allowed.
    tls: AtomicBool,
    loopback: bool,
    /// Tells a mirror which registry is meant.
    namespace: Option<String>,
    auth: Option<Auth>,
    access: Access,
    /// The header that has worked last.
    authorization: Mutex<Option<String>>,
}

/// The body of a blob, from the byte on that was asked for, or from its start.
pub(crate) struct Blob {
    pub(crate) response: Response,
    /// Where it begins.
    pub(crate) offset: u64,
}

/// A request that can be sent again with other credentials.
struct Call<'a> {
    method: Method,
    /// Below `/v2/<repository>/`, or a whole URL.
    target: &'a str,
    headers: Vec<(reqwest::header::HeaderName, String)>,
    body: Body<'a>,
}

enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    File(&'a Path, Arc<dyn Fn(u64) + Send + Sync>),
}

impl Session {
    pub(crate) fn direct(
        clients: Arc<Clients>,
        config: &Config,
        reference: &Reference,
        auth: Option<Auth>,
        access: Access,
    ) -> Session {
        let registry = reference.registry();
        let address = if registry == DEFAULT_REGISTRY {
            "registry-1.docker.io"
        } else {
            registry
        };
        let loopback = http::is_loopback(registry);
        let may_be_plain = loopback
            || config
                .insecure_registries
                .iter()
                .any(|host| host == registry);
        Session {
            clients,
            name: reference.to_string(),
            repository: reference.repository().into(),
            address: address.into(),
            tls: AtomicBool::new(!may_be_plain),
            loopback,
            namespace: None,
            auth,
            access,
            authorization: Mutex::default(),
        }
    }

    pub(crate) fn mirror(clients: Arc<Clients>, mirror: &Mirror, reference: &Reference) -> Session {
        let (plain, address) = match mirror.url.strip_prefix("http://") {
            Some(address) => (true, address),
            None => (
                false,
                mirror.url.strip_prefix("https://").unwrap_or(&mirror.url),
            ),
        };
        let address = address.trim_end_matches('/').trim_end_matches("/v2");
        Session {
            clients,
            name: reference.to_string(),
            repository: reference.repository().into(),
            address: address.into(),
            tls: AtomicBool::new(!plain),
            loopback: http::is_loopback(address.split('/').next().unwrap_or(address)),
            namespace: Some(reference.registry().into()),
            auth: mirror.auth.clone(),
            access: Access::Pull,
            authorization: Mutex::default(),
        }
    }

    /// The address, for messages.
    pub(crate) fn endpoint(&self) -> &str {
        &self.address
    }

    /// The digest that the registry gives for a tag; `None` when it does not say.
    pub(crate) async fn head_manifest(
        &self,
        identifier: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let target = format!("manifests/{identifier}");
        let response = self
            .send(&Call::new(Method::HEAD, &target).header(ACCEPT, accept()))
            .await?;
        match response.status() {
            status if status.is_success() => Ok(response
                .headers()
                .get("docker-content-digest")
                .and_then(|value| value.to_str().ok()?.parse().ok())),
            // Some registries know no HEAD here, and an absent body tells nothing: ask with GET.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => {
                Ok(None)
            }
            _ => Err(self.unexpected(Method::HEAD, response).await),
        }
    }

    pub(crate) async fn get_manifest(
        &self,
        identifier: &str,
        limit: u64,
    ) -> Result<bytes::Bytes, RegistryError> {
        let target = format!("manifests/{identifier}");
        let response = self
            .send(&Call::new(Method::GET, &target).header(ACCEPT, accept()))
            .await?;
        if !response.status().is_success() {
            return Err(self.unexpected(Method::GET, response).await);
        }
        http::read_limited(response, limit).await
    }

    /// Begins to fetch a blob at `offset`; a server that knows no ranges begins at 0.
    pub(crate) async fn get_blob(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<Blob, RegistryError> {
        let target = format!("blobs/{digest}");
        let mut call = Call::new(Method::GET, &target);
        if offset > 0 {
            call = call.header(RANGE, format!("bytes={offset}-"));
        }
        let response = self.send(&call).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if offset > 0 => Ok(Blob { response, offset }),
            StatusCode::OK => Ok(Blob {
                response,
                offset: 0,
            }),
            _ => Err(self.unexpected(Method::GET, response).await),
        }
    }

    pub(crate) async fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let target = format!("blobs/{digest}");
        let response = self.send(&Call::new(Method::HEAD, &target)).await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.unexpected(Method::HEAD, response).await),
        }
    }

    /// Uploads a file as a blob, in one piece. `sent` hears of the bytes.
    pub(crate) async fn put_blob(
        &self,
        digest: Digest,
        path: &Path,
        size: u64,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<(), RegistryError> {
        let call = Call::new(Method::POST, "blobs/uploads/").header(CONTENT_LENGTH, "0".into());
        let response = self.send(&call).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.unexpected(Method::POST, response).await);
        }
        let protocol = |problem: &str| RegistryError::Protocol {
            url: self.address.clone(),
            problem: problem.into(),
        };
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| protocol("no location for the upload"))?;
        let mut url = response
            .url()
            .join(location)
            .map_err(|_| protocol("invalid location for the upload"))?;
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let call = Call {
            method: Method::PUT,
            target: url.as_str(),
            headers: vec![
                (CONTENT_LENGTH, size.to_string()),
                (CONTENT_TYPE, "application/octet-stream".into()),
            ],
            body: Body::File(path, sent),
        };
        let response = self.send(&call).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.unexpected(Method::PUT, response).await),
        }
    }

    pub(crate) async fn put_manifest(
        &self,
        identifier: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let target = format!("manifests/{identifier}");
        let mut call = Call::new(Method::PUT, &target).header(CONTENT_TYPE, media_type.into());
        call.body = Body::Bytes(bytes);
        let response = self.send(&call).await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.unexpected(Method::PUT, response).await)
        }
    }

    /// Sends; answers one challenge; follows a server from HTTP to TLS where both are allowed.
    async fn send(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let mut challenged = false;
        let mut switched = false;
        loop {
            let response = self.send_once(call).await?;
            if response.status() == StatusCode::UNAUTHORIZED && !challenged {
                challenged = true;
                self.authorize(&response).await?;
                continue;
            }
            let plain = !self.tls.load(Ordering::Relaxed);
            if response.status() == StatusCode::BAD_REQUEST
                && plain
                && !switched
                && call.is_repeatable()
            {
                let url = response.url().to_string();
                let message = http::error_message(response).await;
                if message.contains("HTTPS server") || message.contains("HTTPS port") {
                    switched = true;
                    self.tls.store(true, Ordering::Relaxed);
                    continue;
                }
                let status = StatusCode::BAD_REQUEST;
                let method = call.method.to_string();
                return Err(RegistryError::Status {
                    method,
                    url,
                    status: status.to_string(),
                    code: 400,
                    message,
                });
            }
            return Ok(response);
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let url = self.url(call.target)?;
        let method = call.method.clone();
        let same_origin = url.origin() == self.url("")?.origin();
        let mut request = self
            .clients
            .get(self.loopback)?
            .request(method.clone(), url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        // An upload may be sent to another host: it is not to see the credentials.
        if let Some(authorization) = lock(&self.authorization).as_ref().filter(|_| same_origin) {
            request = request.header(AUTHORIZATION, authorization);
        }
        request = match &call.body {
            Body::None => request,
            Body::Bytes(bytes) => request.body(bytes.to_vec()),
            Body::File(path, sent) => request.body(file_body(path, sent.clone()).await?),
        };
        request.send().await.map_err(|source| {
            let method = title(&method);
            let url = url.to_string();
            if self.tls.load(Ordering::Relaxed)
                && stdx::chain(&source).contains("InvalidContentType")
            {
                return RegistryError::PlainHttp { method, url };
            }
            RegistryError::Request {
                method,
                url,
                source: Arc::new(source.without_url()),
            }
        })
    }

    fn url(&self, target: &str) -> Result<reqwest::Url, RegistryError> {
        let invalid = || RegistryError::Protocol {
            url: self.address.clone(),
            problem: "invalid address".into(),
        };
        if target.starts_with("http://") || target.starts_with("https://") {
            return reqwest::Url::parse(target).map_err(|_| invalid());
        }
        let scheme = if self.tls.load(Ordering::Relaxed) {
            "https"
        } else {
            "http"
        };
        let text = format!(
            "{scheme}://{}/v2/{}/{target}",
            self.address, self.repository
        );
        let mut url = reqwest::Url::parse(&text).map_err(|_| invalid())?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Finds what the registry wants to see in the next request.
    async fn authorize(&self, response: &Response) -> Result<(), RegistryError> {
        let denied = |detail: &str| RegistryError::Denied {
            detail: detail.into(),
        };
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge =
            token::parse_challenges(headers.iter().filter_map(|value| value.to_str().ok()));
        let header = match challenge {
            None => {
                return Err(denied(
                    "authorization failed: the registry names no way to authenticate",
                ));
            }
            Some(Challenge::Basic) => {
                let auth = self
                    .auth
                    .as_ref()
                    .ok_or_else(|| denied("authorization failed: no basic auth credentials"))?;
                basic(auth)
            }
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
                ..
            }) => {
                let scope = scope.unwrap_or_else(|| {
                    let actions = if self.access == Access::Push {
                        "pull,push"
                    } else {
                        "pull"
                    };
                    format!("repository:{}:{actions}", self.repository)
                });
                let client = self.clients.get(self.loopback)?;
                let tls = self.tls.load(Ordering::Relaxed);
                let token = token::fetch(
                    &client,
                    &realm,
                    service.as_deref(),
                    &scope,
                    self.auth.as_ref(),
                    tls,
                )
                .await?;
                format!("Bearer {token}")
            }
        };
        *lock(&self.authorization) = Some(header);
        Ok(())
    }

    async fn unexpected(&self, method: Method, response: Response) -> RegistryError {
        let status = response.status();
        let url = response.url().to_string();
        let refused = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .find_map(|value| {
                match token::parse_challenges(std::iter::once(value.to_str().ok()?)) {
                    Some(Challenge::Bearer { error, .. }) => error,
                    _ => None,
                }
            });
        let message = http::error_message(response).await;
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound {
                name: self.name.clone(),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let said = refused.filter(|error| !error.is_empty()).unwrap_or(message);
                let said = if said.is_empty() {
                    status.to_string()
                } else {
                    said
                };
                RegistryError::Denied {
                    detail: format!("server message: {said}: authorization failed"),
                }
            }
            _ => RegistryError::Status {
                method: method.to_string(),
                url,
                status: status.to_string(),
                code: status.as_u16(),
                message,
            },
        }
    }
}

impl<'a> Call<'a> {
    fn new(method: Method, target: &'a str) -> Call<'a> {
        Call {
            method,
            target,
            headers: Vec::new(),
            body: Body::None,
        }
    }

    fn header(mut self, name: reqwest::header::HeaderName, value: String) -> Call<'a> {
        self.headers.push((name, value));
        self
    }

    fn is_repeatable(&self) -> bool {
        !self.target.starts_with("http")
    }
}

fn basic(auth: &Auth) -> String {
    use base64::Engine as _;
    let pair = format!("{}:{}", auth.username, auth.password);
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

async fn file_body(
    path: &Path,
    sent: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<reqwest::Body, RegistryError> {
    use futures::StreamExt as _;
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|source| RegistryError::File {
            path: path.into(),
            source: Arc::new(source),
        })?;
    let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10);
    Ok(reqwest::Body::wrap_stream(stream.inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            sent(chunk.len() as u64);
        }
    })))
}

/// `Get`, as Go's client writes it.
fn title(method: &Method) -> String {
    let text = method.as_str();
    format!("{}{}", &text[..1], text[1..].to_ascii_lowercase())
}
