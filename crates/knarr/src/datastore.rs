//! Where the cluster's data is kept: in a file of its own, or in an etcd. Invariant: what cannot work is
//! refused before anything is started.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;
use store::{EtcdConfig, EtcdTls};

/// The options that say where; in a configuration file `datastore: {url: …, cafile: …}`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct DatastoreFlags {
    /// Keep the cluster's data in an etcd (3.4 or newer), which several servers may share, and not in
    /// a file: etcd://HOST[:PORT],HOST[:PORT]…[/PREFIX], with TLS etcds://…; lists of http:// and
    /// https:// URLs as for k3s and kube-apiserver do as well. Port 2379 and prefix /knarr
    /// unless given [default: SQLite in DATA_DIR/db].
    #[arg(
        long = "datastore",
        visible_alias = "datastore-endpoint",
        env = "KNARR_DATASTORE",
        value_name = "URL"
    )]
    url: Option<String>,
    /// The CA certificates (PEM) that etcd's certificate is signed by; turns TLS on.
    #[arg(
        long = "datastore-cafile",
        env = "KNARR_DATASTORE_CAFILE",
        value_name = "FILE"
    )]
    cafile: Option<PathBuf>,
    /// Our certificate (PEM), for an etcd that asks for one.
    #[arg(
        long = "datastore-certfile",
        env = "KNARR_DATASTORE_CERTFILE",
        value_name = "FILE"
    )]
    certfile: Option<PathBuf>,
    /// The key (PEM) of our certificate.
    #[arg(
        long = "datastore-keyfile",
        env = "KNARR_DATASTORE_KEYFILE",
        value_name = "FILE"
    )]
    keyfile: Option<PathBuf>,
}

impl DatastoreFlags {
    /// These flags, over those of a file.
    pub(crate) fn or(self, file: DatastoreFlags) -> DatastoreFlags {
        DatastoreFlags {
            url: self.url.or(file.url),
            cafile: self.cafile.or(file.cafile),
            certfile: self.certfile.or(file.certfile),
            keyfile: self.keyfile.or(file.keyfile),
        }
    }

    /// The etcd, if it is to be one. Reads the files.
    pub(crate) fn etcd(&self) -> Result<Option<EtcdConfig>> {
        let Some(url) = &self.url else {
            if self.cafile.is_some() || self.certfile.is_some() || self.keyfile.is_some() {
                bail!("--datastore-cafile, -certfile and -keyfile are for --datastore etcds://…");
            }
            return Ok(None);
        };
        let identity = match (&self.certfile, &self.keyfile) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (None, None) => None,
            _ => bail!("--datastore-certfile and --datastore-keyfile belong together"),
        };
        let tls = match &self.cafile {
            Some(cafile) => Some(EtcdTls {
                ca_pem: read(cafile)?,
                identity,
            }),
            None if identity.is_some() => {
                bail!("a client certificate needs --datastore-cafile as well, to know etcd by")
            }
            None => None,
        };
        let config = EtcdConfig::parse(url, tls).context("--datastore")?;
        Ok(Some(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn files_and_url_must_fit_together() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flags = |url: Option<&str>, ca: bool, cert: bool, key: bool| {
            let path = |wanted: bool| wanted.then(|| file.path().to_owned());
            let flags = DatastoreFlags {
                url: url.map(str::to_owned),
                cafile: path(ca),
                certfile: path(cert),
                keyfile: path(key),
            };
            flags.etcd().map_err(|error| format!("{error:#}"))
        };
        assert_eq!(flags(None, false, false, false), Ok(None));
        let plain = flags(Some("etcd://a,b/p"), false, false, false)
            .unwrap()
            .unwrap();
        assert_eq!((plain.endpoints.len(), plain.tls), (2, None));
        let tls = flags(Some("etcd://a"), true, true, true).unwrap().unwrap();
        assert_eq!(tls.endpoints, ["https://a:2379"]);
        let cases = [
            (flags(None, true, false, false), "--datastore etcds://"),
            (
                flags(Some("etcds://a"), false, false, false),
                "--datastore-cafile",
            ),
            (
                flags(Some("etcds://a"), true, true, false),
                "belong together",
            ),
            (
                flags(Some("etcd://a"), false, true, true),
                "--datastore-cafile",
            ),
            (flags(Some("postgres://a"), false, false, false), "etcd://"),
        ];
        for (result, words) in cases {
            let error = result.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let missing = DatastoreFlags {
            url: Some("etcds://a".to_owned()),
            cafile: Some("/nowhere/ca.pem".into()),
            ..DatastoreFlags::default()
        };
        assert!(format!("{:#}", missing.etcd().unwrap_err()).contains("/nowhere/ca.pem"));
    }
}
