//! `knarr logs`.

use anyhow::{Result, bail};
use clap::Args;
use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use std::io::Write;

use super::Target;
use super::connect::connect;
use super::get::words;

/// Print the log of a container.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  knarr logs hello-7d9c\n  knarr logs -f --tail 10 pod/web -c app"
)]
pub(crate) struct Logs {
    /// The pod.
    pod: String,
    /// The container, where there are several.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on as the log grows.
    #[arg(short, long)]
    follow: bool,
    /// The log of the container's last life.
    #[arg(short, long)]
    previous: bool,
    /// Only so many lines from the end.
    #[arg(long)]
    tail: Option<i64>,
    /// Only what is younger than so many seconds.
    #[arg(long)]
    since_seconds: Option<i64>,
    /// With times.
    #[arg(long)]
    timestamps: bool,
}

impl Logs {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let connection = connect(target).await?;
        let pod = match self.pod.split_once('/') {
            None => self.pod.as_str(),
            Some(("pod" | "pods" | "po", name)) => name,
            Some((kind, _)) => bail!("logs are of pods, not of {kind}"),
        };
        let pods = kube::Api::<Pod>::namespaced(connection.client, &connection.namespace);
        let params = LogParams {
            container: self.container,
            follow: self.follow,
            previous: self.previous,
            tail_lines: self.tail,
            since_seconds: self.since_seconds,
            timestamps: self.timestamps,
            ..LogParams::default()
        };
        let mut stream = pods.log_stream(pod, &params).await.map_err(words)?;
        let mut line = Vec::new();
        let mut out = std::io::stdout().lock();
        loop {
            line.clear();
            if stream.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            out.write_all(&line)?;
            out.flush()?;
        }
    }
}
