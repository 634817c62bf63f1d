//! A small client for machines without kubectl: the same API, the same kubeconfig rules,
//! kubectl's words. Nothing here knows that the server is Knarr.

mod apply;
mod connect;
mod delete;
mod describe;
mod exec;
mod get;
mod jsonpath;
mod logs;
mod resource;
mod wait;

pub(crate) use apply::Apply;
pub(crate) use delete::Delete;
pub(crate) use describe::Describe;
pub(crate) use exec::Exec;
pub(crate) use get::Get;
pub(crate) use logs::Logs;
pub(crate) use wait::Wait;

use clap::Args;

/// Which cluster, and where in it.
#[derive(Args, Clone)]
pub(crate) struct Target {
    /// The kubeconfig; else $KUBECONFIG, ~/.kube/config, or that of the cluster on this machine.
    #[arg(long, global = true)]
    pub(crate) kubeconfig: Option<std::path::PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The namespace.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
}
