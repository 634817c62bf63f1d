//! The cluster's authority, the certificates made from it, and their renewal while we run.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use controllers::{Requested, Signer, SignerError};
use ipnet::Ipv4Net;
use pki::{Authority, KeyPair, Leaf, San, ServerTls, SigningRequest, TokenKeys, Usage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::kubeconfig;

/// The longest sleep before the clock is looked at again: clocks are set, machines suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the front proxy's authority is, below the others.
const FRONT: &str = "front-proxy";
/// After a renewal that failed.
const RETRY: Duration = Duration::from_secs(10 * 60);

/// Everything that proves who is who.
pub(crate) struct Credentials {
    authority: Arc<Authority>,
    folder: PathBuf,
    kubeconfig_path: PathBuf,
    server_url: String,
    server: Leaf,
    admin: Leaf,
    due: SystemTime,
    /// Presents the serving certificate; asks clients for theirs.
    pub(crate) tls: ServerTls,
    /// Signs service-account tokens.
    pub(crate) tokens: Arc<TokenKeys>,
    /// The authority's certificate.
    pub(crate) ca_pem: String,
    front: FrontAuthority,
}

/// The authority that only aggregated API servers trust, and what they trust it for.
struct FrontAuthority {
    authority: Authority,
    leaf: Leaf,
    identity: watch::Sender<KeyPair>,
}

/// Who the server is.
pub(crate) struct Names<'a> {
    pub(crate) node_name: &'a str,
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) service_cidr: Ipv4Net,
    pub(crate) listen: SocketAddr,
    /// How long certificates are valid.
    pub(crate) validity_period: Duration,
    /// The authority of a proxy in front, whose certificate is taken too.
    pub(crate) front_proxy_ca: Option<&'a str>,
}

impl Credentials {
    /// Loads what is there, makes what is missing, renews what is due, and writes the admin
    /// kubeconfig.
    pub(crate) fn load_or_create(data_dir: &Path, names: &Names<'_>) -> Result<Self> {
        let folder = data_dir.join("pki");
        let authority = Authority::load_or_create(&folder).context("the cluster's authority")?;
        let tokens = TokenKeys::load_or_create(&folder.join("service-account.key"))
            .context("the service-account key")?;
        let server = server_leaf(names);
        let admin = Leaf {
            common_name: "admin".to_owned(),
            organizations: vec!["system:masters".to_owned()],
            sans: Vec::new(),
            usage: Usage::Client,
            lifetime: names.validity_period,
        };
        let serving = pki::renew_if_due(&authority, &folder, "server", &server)
            .context("the serving certificate")?;
        let ca_pem = authority.certificate_pem().to_owned();
        let taken = format!("{ca_pem}\n{}", names.front_proxy_ca.unwrap_or_default());
        let tls = ServerTls::new(&serving.pair, Some(&taken)).context("TLS")?;
        let front = FrontAuthority::load_or_create(&folder, names.validity_period)
            .context("the front proxy's certificate")?;
        let host = if names.listen.ip().is_unspecified() {
            IpAddr::from([127, 0, 0, 1])
        } else {
            names.listen.ip()
        };
        let mut credentials = Self {
            authority: Arc::new(authority),
            folder,
            kubeconfig_path: data_dir.join(kubeconfig::FILE),
            server_url: format!("https://{}", SocketAddr::new(host, names.listen.port())),
            server,
            admin,
            due: serving.due,
            tls,
            tokens: Arc::new(tokens),
            ca_pem,
            front: front.0,
        };
        credentials.due = credentials.due.min(front.1);
        credentials.admin_kubeconfig()?;
        Ok(credentials)
    }

    /// What signs requests for certificates.
    pub(crate) fn signer(&self) -> Arc<dyn Signer> {
        Arc::new(ClusterSigner(self.authority.clone()))
    }

    /// The admin kubeconfig's path.
    pub(crate) fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig_path
    }

    fn admin_kubeconfig(&mut self) -> Result<()> {
        let renewal = pki::renew_if_due(&self.authority, &self.folder, "admin", &self.admin)
            .context("the admin's certificate")?;
        self.due = self.due.min(renewal.due);
        let text = kubeconfig::render(
            &self.server_url,
            &self.ca_pem,
            &renewal.pair.cert_pem,
            &renewal.pair.key_pem,
        )?;
        let same = std::fs::read_to_string(&self.kubeconfig_path).is_ok_and(|old| old == text);
        if same {
            Ok(())
        } else {
            kubeconfig::write(&self.kubeconfig_path, &text)
        }
    }

    /// Renews certificates when they are due, until drained; connections go on undisturbed.
    pub(crate) async fn keep_fresh(mut self, drain: CancellationToken) {
        loop {
            let left = self
                .due
                .duration_since(SystemTime::now())
                .unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => {}
                () = drain.cancelled() => return,
            }
            if SystemTime::now() < self.due {
                continue;
            }
            match self.renew() {
                Ok(()) => tracing::info!("certificates renewed"),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "cannot renew certificates");
                    self.due = SystemTime::now() + RETRY;
                }
            }
        }
    }

    fn renew(&mut self) -> Result<()> {
        let serving = pki::renew_if_due(&self.authority, &self.folder, "server", &self.server)?;
        self.tls.replace(&serving.pair)?;
        self.due = serving.due.min(self.front.renew(&self.folder)?);
        self.admin_kubeconfig()
    }

    /// As whom the server speaks to aggregated API servers.
    pub(crate) fn front_proxy(&self) -> apiserver::FrontProxy {
        apiserver::FrontProxy {
            ca_pem: self.front.authority.certificate_pem().to_owned(),
            name: self.front.leaf.common_name.clone(),
            identity: self.front.identity.subscribe(),
        }
    }
}

impl FrontAuthority {
    /// Also says when the certificate is due.
    fn load_or_create(folder: &Path, lifetime: Duration) -> Result<(Self, SystemTime)> {
        let folder = folder.join(FRONT);
        let authority = Authority::load_or_create(&folder)?;
        let leaf = Leaf {
            common_name: "front-proxy-client".to_owned(),
            organizations: Vec::new(),
            sans: Vec::new(),
            usage: Usage::Client,
            lifetime,
        };
        let renewal = pki::renew_if_due(&authority, &folder, "client", &leaf)?;
        let identity = watch::Sender::new(renewal.pair);
        let front = Self {
            authority,
            leaf,
            identity,
        };
        Ok((front, renewal.due))
    }

    fn renew(&self, folder: &Path) -> Result<SystemTime> {
        let folder = folder.join(FRONT);
        let renewal = pki::renew_if_due(&self.authority, &folder, "client", &self.leaf)?;
        if renewal.renewed {
            self.identity.send_replace(renewal.pair);
        }
        Ok(renewal.due)
    }
}

/// Signs with the cluster's authority.
struct ClusterSigner(Arc<Authority>);

impl Signer for ClusterSigner {
    fn read(&self, request: &[u8]) -> Result<Requested, SignerError> {
        let request = SigningRequest::parse(request).map_err(said)?;
        Ok(Requested {
            common_name: request.common_name,
            organizations: request.organizations,
            dns_names: request.dns_names,
            emails: request.emails,
            uris: request.uris,
            addresses: request.addresses,
        })
    }

    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        lifetime: Duration,
    ) -> Result<Vec<u8>, SignerError> {
        let request = SigningRequest::parse(request).map_err(said)?;
        let pem = self.0.sign(&request, usages, lifetime).map_err(said)?;
        Ok(pem.into_bytes())
    }

    fn ends(&self, certificate: &[u8]) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(pki::certificate_end(certificate)?).ok()
    }
}

fn said(error: impl std::error::Error + Send + Sync + 'static) -> SignerError {
    SignerError(format!("{:#}", anyhow::Error::new(error)))
}

fn server_leaf(names: &Names<'_>) -> Leaf {
    let mut sans: Vec<San> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        names.node_name,
    ]
    .into_iter()
    .map(|name| San::Dns(name.to_owned()))
    .collect();
    let service = IpAddr::from((u32::from(names.service_cidr.network()) + 1).to_be_bytes());
    let loopback = IpAddr::from([127, 0, 0, 1]);
    sans.extend(
        names
            .addresses
            .iter()
            .chain([&loopback, &service])
            .copied()
            .map(San::Ip),
    );
    if !names.listen.ip().is_unspecified() {
        sans.push(San::Ip(names.listen.ip()));
    }
    sans.sort();
    sans.dedup();
    Leaf {
        common_name: "knarr".to_owned(),
        organizations: Vec::new(),
        sans,
        usage: Usage::Server,
        lifetime: names.validity_period,
    }
}
