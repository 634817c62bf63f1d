//! Defaults < file < environment < flags, as one validated [`Config`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use apiserver::FairnessOptions;
use apiserver::admission::Admission;
use apiserver::admission::pod_security::PodSecurity;
use apiserver::auth::chain::Authentication;
use clap::{Args, ValueEnum};
use ipnet::Ipv4Net;
use serde::Deserialize;
use store::EtcdConfig;

use crate::audit::{Audit, AuditFlags};
use crate::authentication::AuthenticationFlags;
use crate::datastore::DatastoreFlags;

use crate::duration;
use crate::snapshot::schedule::Schedule;

/// Where a cluster keeps its data unless told otherwise.
pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/knarr";
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6443);
const DEFAULT_POD_CIDR: &str = "10.42.0.0/24";
const DEFAULT_SERVICE_CIDR: &str = "10.43.0.0/16";
const LEAST_VALIDITY: Duration = Duration::from_secs(10);
const MOST_VALIDITY: Duration = Duration::from_secs(87_600 * 60 * 60);
/// Twice a day and five of them, as k3s does.
const DEFAULT_SNAPSHOT_EVERY: &str = "12h";
const DEFAULT_SNAPSHOT_KEEP: usize = 5;
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of `knarr up`; each may also stand in the file (`dataDir: …`) or the environment.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[command(after_help = "Examples:\n  sudo knarr up\n  \
    sudo knarr up --data-dir /srv/edge --listen 127.0.0.1:7443\n  \
    sudo knarr up --config knarr.yaml --log json\n  \
    sudo knarr up --datastore etcds://10.0.0.1,10.0.0.2,10.0.0.3 --datastore-cafile ca.pem \\\n      \
    --datastore-certfile knarr.pem --datastore-keyfile knarr.key")]
pub(crate) struct UpFlags {
    /// A YAML file with these options (dataDir, listen, nodeName, …).
    #[arg(long, env = "KNARR_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where the cluster keeps its data [default: /var/lib/knarr].
    #[arg(long, env = "KNARR_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port of the API [default: 0.0.0.0:6443].
    #[arg(long, env = "KNARR_LISTEN")]
    listen: Option<SocketAddr>,
    /// The node's name [default: the host's name].
    #[arg(long, env = "KNARR_NODE_NAME")]
    node_name: Option<String>,
    /// The node's address [default: that of the default route].
    #[arg(long, env = "KNARR_NODE_IP")]
    node_ip: Option<IpAddr>,
    /// Addresses of pods [default: 10.42.0.0/24].
    #[arg(long, env = "KNARR_POD_CIDR")]
    pod_cidr: Option<Ipv4Net>,
    /// Addresses of Services [default: 10.43.0.0/16].
    #[arg(long, env = "KNARR_SERVICE_CIDR")]
    service_cidr: Option<Ipv4Net>,
    /// How long certificates are valid; they are renewed when a third of it is left
    /// [default: 8760h].
    #[arg(
        long,
        value_name = "DURATION",
        env = "KNARR_CERTIFICATE_VALIDITY_PERIOD"
    )]
    certificate_validity_period: Option<String>,
    #[command(flatten)]
    datastore: DatastoreFlags,
    /// A mirror of a registry, REGISTRY=URL; may be given more than once.
    #[arg(long = "registry-mirror", value_name = "REGISTRY=URL")]
    registry_mirrors: Vec<String>,
    /// A registry without TLS, HOST[:PORT]; may be given more than once.
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    insecure_registries: Vec<String>,
    /// What pods may do where a namespace's labels do not say it: MODE=LEVEL[:VERSION], MODE one of
    /// enforce, audit, warn; LEVEL one of privileged, baseline, restricted; may be given more than
    /// once [default: warn=baseline].
    #[arg(long = "pod-security", value_name = "MODE=LEVEL")]
    pod_security: Vec<String>,
    /// How many read requests are served at a time; they share their seats with the writes by
    /// priority [default: 400].
    #[arg(long = "max-requests-inflight", value_name = "COUNT")]
    max_requests_inflight: Option<u32>,
    /// How many write requests are served at a time [default: 200].
    #[arg(long = "max-mutating-requests-inflight", value_name = "COUNT")]
    max_mutating_requests_inflight: Option<u32>,
    #[command(flatten)]
    audit: AuditFlags,
    #[command(flatten)]
    authentication: AuthenticationFlags,
    /// How the log is written [default: text].
    #[arg(long, env = "KNARR_LOG")]
    log: Option<LogFormat>,
    /// How often a snapshot is saved to <data-dir>/snapshots; 0 for never [default: 12h].
    #[arg(long, env = "KNARR_SNAPSHOT_EVERY", value_name = "DURATION")]
    snapshot_every: Option<String>,
    /// How many of these snapshots are kept [default: 5].
    #[arg(long, env = "KNARR_SNAPSHOT_KEEP", value_name = "COUNT")]
    snapshot_keep: Option<usize>,
    /// Remove what an earlier run left on the host before starting.
    #[arg(long)]
    #[serde(skip)]
    cleanup: bool,
}

/// What `knarr up` runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) node_name: String,
    pub(crate) node_ip: Option<IpAddr>,
    pub(crate) pod_cidr: Ipv4Net,
    pub(crate) service_cidr: Ipv4Net,
    pub(crate) certificate_validity_period: Duration,
    /// The etcd that has the data, if it is not in the data directory.
    pub(crate) etcd: Option<EtcdConfig>,
    /// Registry host and the URL asked instead.
    pub(crate) registry_mirrors: Vec<(String, String)>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) admission: Admission,
    pub(crate) audit: Audit,
    pub(crate) fairness: FairnessOptions,
    pub(crate) authentication: Authentication,
    pub(crate) log: LogFormat,
    pub(crate) cleanup: bool,
    /// When snapshots are saved; `None` for never.
    pub(crate) snapshots: Option<Schedule>,
}

impl Config {
    /// Lays flags (and environment, which clap folds in) over the file over the defaults.
    pub(crate) fn from_flags(flags: UpFlags) -> Result<Self> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => UpFlags::default(),
        };
        let mut mirrors = file.registry_mirrors;
        mirrors.extend(flags.registry_mirrors);
        let mut insecure = file.insecure_registries;
        insecure.extend(flags.insecure_registries);
        let cidr = |text: &str| text.parse().expect("the default is a CIDR");
        let config = Self {
            data_dir: flags
                .data_dir
                .or(file.data_dir)
                .unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            listen: flags.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN),
            node_name: match flags.node_name.or(file.node_name) {
                Some(name) => name,
                None => host_name()?,
            },
            node_ip: flags.node_ip.or(file.node_ip),
            pod_cidr: flags
                .pod_cidr
                .or(file.pod_cidr)
                .unwrap_or_else(|| cidr(DEFAULT_POD_CIDR))
                .trunc(),
            service_cidr: flags
                .service_cidr
                .or(file.service_cidr)
                .unwrap_or_else(|| cidr(DEFAULT_SERVICE_CIDR))
                .trunc(),
            certificate_validity_period: match flags
                .certificate_validity_period
                .or(file.certificate_validity_period)
            {
                Some(text) => validity_period(&text)?,
                None => pki::LEAF_LIFETIME,
            },
            etcd: flags.datastore.or(file.datastore).etcd()?,
            registry_mirrors: mirrors
                .iter()
                .map(|mirror| {
                    mirror
                        .split_once('=')
                        .map(|(registry, url)| (registry.to_owned(), url.to_owned()))
                        .with_context(|| format!("{mirror:?}: a mirror is REGISTRY=URL"))
                })
                .collect::<Result<_>>()?,
            insecure_registries: insecure,
            admission: Admission {
                pod_security: pod_security(file.pod_security.iter().chain(&flags.pod_security))?,
                ..Admission::default()
            },
            fairness: FairnessOptions {
                enabled: true,
                seats: flags
                    .max_requests_inflight
                    .or(file.max_requests_inflight)
                    .unwrap_or(400)
                    .saturating_add(
                        flags
                            .max_mutating_requests_inflight
                            .or(file.max_mutating_requests_inflight)
                            .unwrap_or(200),
                    ),
            },
            audit: flags.audit.or(file.audit).audit()?,
            authentication: flags
                .authentication
                .or(file.authentication)
                .authentication(crate::up::ISSUER)?,
            log: flags.log.or(file.log).unwrap_or(LogFormat::Text),
            cleanup: flags.cleanup,
            snapshots: schedule(
                flags.snapshot_every.or(file.snapshot_every).as_deref(),
                flags.snapshot_keep.or(file.snapshot_keep),
            )?,
        };
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        if !is_node_name(&self.node_name) {
            bail!(
                "--node-name {:?}: a node's name is lower case letters, digits, '-' and '.'",
                self.node_name
            );
        }
        if self.pod_cidr.prefix_len() > 29 {
            bail!("--pod-cidr {}: a node needs at least a /29", self.pod_cidr);
        }
        if self.service_cidr.prefix_len() > 28 {
            bail!(
                "--service-cidr {}: Services need at least a /28",
                self.service_cidr
            );
        }
        let (pods, services) = (&self.pod_cidr, &self.service_cidr);
        if pods.contains(&services.network()) || services.contains(&pods.network()) {
            bail!("--pod-cidr {pods} and --service-cidr {services} overlap");
        }
        Ok(())
    }
}

/// Lays levels over the default ones, the last one of a mode counts.
fn pod_security<'a>(levels: impl Iterator<Item = &'a String>) -> Result<PodSecurity> {
    let mut pod_security = PodSecurity::default();
    for text in levels {
        let flag = || format!("--pod-security {text:?}");
        let (mode, level) = text
            .split_once('=')
            .with_context(|| format!("{}: it is MODE=LEVEL[:VERSION]", flag()))?;
        let level = level.parse().with_context(flag)?;
        let policy = &mut pod_security.defaults;
        match mode {
            "enforce" => policy.enforce = level,
            "audit" => policy.audit = level,
            "warn" => policy.warn = level,
            _ => bail!("{}: the modes are enforce, audit and warn", flag()),
        }
    }
    Ok(pod_security)
}

/// What is shorter is gone before it is renewed; what is longer outlives the authority.
fn validity_period(text: &str) -> Result<Duration> {
    let flag = format!("--certificate-validity-period {text:?}");
    let period = duration::parse(text).map_err(|problem| anyhow!("{flag}: {problem}"))?;
    if period < LEAST_VALIDITY || period > MOST_VALIDITY {
        bail!("{flag}: certificates are valid for at least 10s and at most 87600h");
    }
    Ok(period)
}

fn schedule(every: Option<&str>, keep: Option<usize>) -> Result<Option<Schedule>> {
    let every = duration::parse(every.unwrap_or(DEFAULT_SNAPSHOT_EVERY))
        .map_err(|fault| anyhow!("--snapshot-every: {fault}"))?;
    let keep = keep.unwrap_or(DEFAULT_SNAPSHOT_KEEP);
    if keep == 0 {
        bail!("--snapshot-keep 0: to save no snapshots give --snapshot-every 0");
    }
    Ok((!every.is_zero()).then_some(Schedule { every, keep }))
}

fn read(path: &Path) -> Result<UpFlags> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?
        .len();
    if size > MAX_CONFIG_BYTES {
        bail!(
            "{} has {size} bytes; a configuration has at most {MAX_CONFIG_BYTES}",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("the configuration {}", path.display()))
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("the host's name")?;
    let name = name.to_string_lossy().to_lowercase();
    if !is_node_name(&name) {
        bail!("the host's name {name:?} is no node name; please give --node-name");
    }
    Ok(name)
}

/// A DNS-1123 subdomain, as the API server asks of a Node's name.
fn is_node_name(name: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Config, UpFlags};

    fn flags(change: impl FnOnce(&mut UpFlags)) -> Result<Config, String> {
        let mut flags = UpFlags {
            node_name: Some("n".into()),
            ..UpFlags::default()
        };
        change(&mut flags);
        Config::from_flags(flags).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nodeName: from-file\nlisten: 127.0.0.1:1\n").unwrap();
        let config = flags(|flags| {
            flags.config = Some(file.path().to_owned());
            flags.listen = Some("127.0.0.1:2".parse().unwrap());
            flags.node_name = None;
        })
        .unwrap();
        assert_eq!(config.node_name, "from-file");
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.etcd, None);
    }

    #[test]
    fn the_datastore_may_stand_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "datastore:\n  url: etcd://a,b/edge\n").unwrap();
        let config = flags(|flags| flags.config = Some(file.path().to_owned())).unwrap();
        let etcd = config.etcd.unwrap();
        assert_eq!((etcd.endpoints.len(), etcd.prefix.as_str()), (2, "/edge"));
    }

    #[test]
    fn bad_values_are_named() {
        let error = flags(|f| f.node_name = Some("Upper".into())).unwrap_err();
        assert!(error.contains("--node-name \"Upper\""), "{error}");
        let error = flags(|f| f.pod_cidr = Some("10.43.1.0/24".parse().unwrap())).unwrap_err();
        assert!(error.contains("overlap"), "{error}");
        let error = flags(|f| f.registry_mirrors = vec!["x".into()]).unwrap_err();
        assert!(error.contains("REGISTRY=URL"), "{error}");
        for (level, words) in [
            ("baseline", "MODE=LEVEL[:VERSION]"),
            (
                "enforce=strict",
                "must be one of privileged, baseline, restricted",
            ),
            ("warn=baseline:1.30", "must be \"latest\" or \"v1.x\""),
            ("allow=baseline", "the modes are enforce, audit and warn"),
        ] {
            let error = flags(|f| f.pod_security = vec![level.into()]).unwrap_err();
            assert!(error.contains(words) && error.contains(level), "{error}");
        }
        for period in ["soon", "9s", "99999h", "9999999999999h"] {
            let error = flags(|f| f.certificate_validity_period = Some(period.into())).unwrap_err();
            assert!(error.contains(period), "{error}");
        }
        let error = flags(|f| f.snapshot_every = Some("soon".into())).unwrap_err();
        assert!(error.contains("--snapshot-every: \"soon\""), "{error}");
        let error = flags(|f| f.snapshot_keep = Some(0)).unwrap_err();
        assert!(error.contains("--snapshot-every 0"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nodename: x\n").unwrap();
        let error = flags(|f| f.config = Some(file.path().to_owned())).unwrap_err();
        assert!(error.contains("nodename"), "{error}");
    }
}
