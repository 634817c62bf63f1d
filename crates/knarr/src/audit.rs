//! The flags of the audit log, under the names that kube-apiserver gives them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use apiserver::Remote;
use apiserver::audit::log::{Format, LogOptions, LogSink, Mode};
use apiserver::audit::{self, Policy, WebhookOptions};
use clap::Args;
use serde::Deserialize;

use crate::duration;

const POLICY_LIMIT_BYTES: u64 = 1 << 20;
const MEGABYTE: u64 = 1 << 20;
const DEFAULT_EVENT_BYTES: usize = 100 << 10;

/// What is written down, and where; in a configuration file `audit: {policyFile: …, logPath: …}`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct AuditFlags {
    /// What the audit log takes of which request: a Policy of audit.k8s.io/v1.
    #[arg(
        long = "audit-policy-file",
        env = "KNARR_AUDIT_POLICY_FILE",
        value_name = "FILE"
    )]
    policy_file: Option<PathBuf>,
    /// The audit log's file; - for standard output.
    #[arg(
        long = "audit-log-path",
        env = "KNARR_AUDIT_LOG_PATH",
        value_name = "FILE"
    )]
    log_path: Option<PathBuf>,
    /// json or legacy [default: json].
    #[arg(long = "audit-log-format", value_name = "FORMAT")]
    log_format: Option<String>,
    /// batch, blocking or blocking-strict: what a request waits for [default: blocking].
    #[arg(long = "audit-log-mode", value_name = "MODE")]
    log_mode: Option<String>,
    /// How many days old files of the audit log are kept; 0 for ever [default: 366].
    #[arg(long = "audit-log-maxage", value_name = "DAYS")]
    log_maxage: Option<u32>,
    /// How many old files of the audit log are kept; 0 for all [default: 100].
    #[arg(long = "audit-log-maxbackup", value_name = "COUNT")]
    log_maxbackup: Option<usize>,
    /// The size at which the audit log's file is put aside [default: 100].
    #[arg(long = "audit-log-maxsize", value_name = "MEGABYTES")]
    log_maxsize: Option<u64>,
    /// Leave the objects out of events that are too large.
    #[arg(long = "audit-log-truncate-enabled")]
    log_truncate_enabled: bool,
    /// How large such an event is [default: 102400].
    #[arg(long = "audit-log-truncate-max-event-size", value_name = "BYTES")]
    log_truncate_max_event_size: Option<usize>,
    /// Send audit events to a webhook, whose address and credentials a kubeconfig has.
    #[arg(long = "audit-webhook-config-file", value_name = "FILE")]
    webhook_config_file: Option<PathBuf>,
    /// How many events wait for the webhook before they are dropped [default: 10000].
    #[arg(long = "audit-webhook-batch-buffer-size", value_name = "COUNT")]
    webhook_batch_buffer_size: Option<usize>,
    /// How many events the webhook gets at once [default: 400].
    #[arg(long = "audit-webhook-batch-max-size", value_name = "COUNT")]
    webhook_batch_max_size: Option<usize>,
    /// How long events are gathered for the webhook [default: 30s].
    #[arg(long = "audit-webhook-batch-max-wait", value_name = "DURATION")]
    webhook_batch_max_wait: Option<String>,
    /// How long to wait after the webhook's first failure [default: 10s].
    #[arg(long = "audit-webhook-initial-backoff", value_name = "DURATION")]
    webhook_initial_backoff: Option<String>,
    /// Leave the objects out of events for the webhook that are too large.
    #[arg(long = "audit-webhook-truncate-enabled")]
    webhook_truncate_enabled: bool,
}

impl AuditFlags {
    /// These flags, over those of a file.
    pub(crate) fn or(self, file: AuditFlags) -> AuditFlags {
        AuditFlags {
            policy_file: self.policy_file.or(file.policy_file),
            log_path: self.log_path.or(file.log_path),
            log_format: self.log_format.or(file.log_format),
            log_mode: self.log_mode.or(file.log_mode),
            log_maxage: self.log_maxage.or(file.log_maxage),
            log_maxbackup: self.log_maxbackup.or(file.log_maxbackup),
            log_maxsize: self.log_maxsize.or(file.log_maxsize),
            log_truncate_enabled: self.log_truncate_enabled || file.log_truncate_enabled,
            log_truncate_max_event_size: self
                .log_truncate_max_event_size
                .or(file.log_truncate_max_event_size),
            webhook_config_file: self.webhook_config_file.or(file.webhook_config_file),
            webhook_batch_buffer_size: self
                .webhook_batch_buffer_size
                .or(file.webhook_batch_buffer_size),
            webhook_batch_max_size: self.webhook_batch_max_size.or(file.webhook_batch_max_size),
            webhook_batch_max_wait: self.webhook_batch_max_wait.or(file.webhook_batch_max_wait),
            webhook_initial_backoff: self
                .webhook_initial_backoff
                .or(file.webhook_initial_backoff),
            webhook_truncate_enabled: self.webhook_truncate_enabled
                || file.webhook_truncate_enabled,
        }
    }

    /// The audit log as these flags want it. Reads the policy.
    pub(crate) fn audit(&self) -> Result<Audit> {
        let policy = match &self.policy_file {
            Some(path) => Some(Arc::new(policy(path)?)),
            None if self.log_path.is_some() || self.webhook_config_file.is_some() => {
                bail!(
                    "--audit-log-path, --audit-webhook-config-file: without --audit-policy-file \
                     nothing would be written"
                )
            }
            None => None,
        };
        let log = self
            .log_path
            .as_deref()
            .map(|path| self.log(path))
            .transpose()?;
        let webhook = self.webhook_config_file.as_deref();
        let webhook = webhook.map(|path| self.webhook(path)).transpose()?;
        Ok(Audit {
            policy,
            log,
            webhook,
        })
    }

    fn webhook(&self, path: &Path) -> Result<(Remote, WebhookOptions)> {
        let remote = Remote::read(path)
            .with_context(|| format!("--audit-webhook-config-file {}", path.display()))?;
        let options = WebhookOptions::default();
        let period = |flag: &str, given: &Option<String>, default: Duration| match given {
            None => Ok(default),
            Some(text) => duration::parse(text).map_err(|fault| anyhow!("{flag}: {fault}")),
        };
        let (wait, backoff) = (
            "--audit-webhook-batch-max-wait",
            "--audit-webhook-initial-backoff",
        );
        let options = WebhookOptions {
            buffer_events: self
                .webhook_batch_buffer_size
                .unwrap_or(options.buffer_events),
            batch_events: self.webhook_batch_max_size.unwrap_or(options.batch_events),
            batch_wait: period(wait, &self.webhook_batch_max_wait, options.batch_wait)?,
            initial_backoff: period(
                backoff,
                &self.webhook_initial_backoff,
                options.initial_backoff,
            )?,
            max_event_bytes: self.webhook_truncate_enabled.then_some(DEFAULT_EVENT_BYTES),
            ..options
        };
        Ok((remote, options))
    }

    fn log(&self, path: &Path) -> Result<LogOptions> {
        Ok(LogOptions {
            path: (path != Path::new("-")).then(|| path.to_owned()),
            format: match self.log_format.as_deref() {
                None | Some("json") => Format::Json,
                Some("legacy") => Format::Legacy,
                Some(other) => {
                    bail!("--audit-log-format {other:?}: the known formats are legacy and json")
                }
            },
            mode: match self.log_mode.as_deref() {
                None | Some("blocking") => Mode::Blocking,
                Some("batch") => Mode::Batch,
                Some("blocking-strict") => Mode::BlockingStrict,
                Some(other) => bail!(
                    "--audit-log-mode {other:?}: allowed modes are batch, blocking and \
                         blocking-strict"
                ),
            },
            max_size_bytes: match self.log_maxsize.unwrap_or(100) {
                0 => u64::MAX,
                megabytes => megabytes.saturating_mul(MEGABYTE),
            },
            max_age_days: self.log_maxage.unwrap_or(366),
            max_backups: self.log_maxbackup.unwrap_or(100),
            max_event_bytes: self.log_truncate_enabled.then(|| {
                self.log_truncate_max_event_size
                    .unwrap_or(DEFAULT_EVENT_BYTES)
            }),
        })
    }
}

/// What `knarr up` writes down, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    policy: Option<Arc<Policy>>,
    log: Option<LogOptions>,
    webhook: Option<(Remote, WebhookOptions)>,
}

impl Audit {
    /// Opens the log.
    pub(crate) fn open(&self) -> Result<audit::Options> {
        let mut options = audit::Options {
            policy: self.policy.clone(),
            webhook: self.webhook.clone(),
            ..audit::Options::default()
        };
        if let Some(log) = &self.log {
            let sink = LogSink::open(log.clone()).with_context(|| match &log.path {
                Some(path) => format!("the audit log {}", path.display()),
                None => "the audit log".to_owned(),
            })?;
            options.sinks.push(sink);
        }
        Ok(options)
    }
}

fn policy(path: &Path) -> Result<Policy> {
    let what = || format!("the audit policy {}", path.display());
    let size = std::fs::metadata(path).with_context(what)?.len();
    if size > POLICY_LIMIT_BYTES {
        bail!(
            "{} has {size} bytes; the most is {POLICY_LIMIT_BYTES}",
            what()
        );
    }
    let text = std::fs::read_to_string(path).with_context(what)?;
    Policy::parse(&text).with_context(what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::AuditFlags;

    #[test]
    fn what_cannot_work_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
        std::fs::write(file.path(), policy).unwrap();
        let flags = |change: fn(&mut AuditFlags)| {
            let mut flags = AuditFlags {
                policy_file: Some(file.path().to_owned()),
                log_path: Some("-".into()),
                ..AuditFlags::default()
            };
            change(&mut flags);
            flags.audit().map_err(|error| format!("{error:#}"))
        };
        let audit = flags(|_| {}).unwrap();
        assert!(audit.policy.is_some() && audit.log.unwrap().path.is_none());
        let error = flags(|f| f.policy_file = None).unwrap_err();
        assert!(error.contains("--audit-policy-file"), "{error}");
        let error = flags(|f| f.log_format = Some("xml".into())).unwrap_err();
        assert!(error.contains("--audit-log-format \"xml\""), "{error}");
        let error = flags(|f| f.log_mode = Some("slow".into())).unwrap_err();
        assert!(error.contains("--audit-log-mode \"slow\""), "{error}");
        let error = flags(|f| f.policy_file = Some("/nowhere".into())).unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
