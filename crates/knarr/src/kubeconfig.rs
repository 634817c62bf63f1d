//! The admin kubeconfig: how it is written and shown.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use clap::Args;
use serde_json::json;

use crate::config::DEFAULT_DATA_DIR;

/// The kubeconfig's name in the data directory.
pub(crate) const FILE: &str = "admin.kubeconfig";

/// Print the admin kubeconfig.
#[derive(Args)]
#[command(after_help = "Examples:\n  knarr kubeconfig > ~/.kube/config\n  \
                        export KUBECONFIG=$(knarr kubeconfig --path)")]
pub(crate) struct Show {
    /// The cluster's data directory.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Print the file's path, not its text.
    #[arg(long)]
    path: bool,
}

impl Show {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let path = self.data_dir.join(FILE);
        if self.path {
            if !path.is_file() {
                bail!(
                    "{} is not there: has `knarr up` run with this data directory?",
                    path.display()
                );
            }
            println!("{}", path.display());
        } else {
            let text = std::fs::read_to_string(&path).with_context(|| {
                format!(
                    "cannot read {}: has `knarr up` run with this data directory?",
                    path.display()
                )
            })?;
            print!("{text}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The text of a kubeconfig for one user of one cluster.
pub(crate) fn render(server: &str, ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<String> {
    let coded = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "knarr", "cluster": {
            "server": server, "certificate-authority-data": coded(ca_pem)}}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": coded(cert_pem), "client-key-data": coded(key_pem)}}],
        "contexts": [{"name": "knarr", "context": {"cluster": "knarr", "user": "admin"}}],
        "current-context": "knarr",
    });
    serde_saphyr::to_string(&config).context("a kubeconfig is plain data")
}

/// Writes a kubeconfig that only its owner may read, all at once.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    pki::write_private(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
