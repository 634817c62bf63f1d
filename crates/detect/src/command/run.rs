//! `knarr detect`: rules over the events of this machine, or over a capture.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rules::AlertOptions;
use rules::program::{Action, Selection};

use super::config::{Config, ConfigError};
use super::web::{Web, WebError};
use crate::engine::{
    Control, Engine, Format, LiveOptions, LoadRulesError, Loaded, MetricsOptions, RuleOptions,
    RunError, RunReport, live, load_rules, prometheus, replay,
};
use crate::fields::Host;
use crate::outputs::{
    FileOutput, ForwardOptions, ForwardOutput, HttpOutput, OutputError, Outputs, ProgramOutput,
    StdoutOutput, SyslogOutput,
};
use crate::probes;
use crate::process::{Containers, Limits, Table};

/// What the command line says.
#[derive(Default)]
pub struct RunOptions {
    /// The configuration file (`-c`).
    pub config: Option<PathBuf>,
    /// Keys of the configuration (`-o`).
    pub overrides: Vec<String>,
    /// Rule files and folders instead of those of the configuration (`-r`).
    pub rules: Vec<PathBuf>,
    /// A capture to replay (`-e`).
    pub capture: Option<PathBuf>,
    /// Only rules with these tags (`-t`).
    pub tags: Vec<String>,
    /// No rules with these tags (`-T`).
    pub not_tags: Vec<String>,
    /// No rules whose names hold these (`-D`).
    pub disabled: Vec<String>,
    /// Captures every call, needed or not (`-A`).
    pub all_calls: bool,
    /// When to stop (`-M`).
    pub duration: Option<Duration>,
    /// Lines are not held back (`-U`).
    pub unbuffered: bool,
    /// The name of this host (`FALCO_HOSTNAME`).
    pub hostname: Option<String>,
    /// Services that alerts are sent on to.
    pub forward: Option<ForwardOptions>,
    /// What the variables of the environment are that configurations name.
    pub environment: Option<fn(&str) -> Option<String>>,
    /// Who knows this node's containers.
    pub containers: Option<Box<dyn Containers>>,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions")
            .field("config", &self.config)
            .field("rules", &self.rules)
            .field("capture", &self.capture)
            .finish_non_exhaustive()
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub enum CommandError {
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error("the rules cannot be loaded")]
    Rules(#[from] LoadRulesError),
    #[error("an output cannot be used")]
    Output(#[from] OutputError),
    #[error("the run failed")]
    Run(#[from] RunError),
    #[error("the web server cannot be started")]
    Web(#[from] WebError),
    #[error("cannot read or write {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("You can not specify both disabled (-D/-T) and enabled (-t) rules")]
    TagsBothWays,
}

impl RunOptions {
    /// What of the rules is loaded.
    pub(super) fn rule_options(&self, config: &Config) -> Result<RuleOptions, CommandError> {
        let some_off = !self.not_tags.is_empty() || !self.disabled.is_empty();
        if some_off && !self.tags.is_empty() {
            return Err(CommandError::TagsBothWays);
        }
        let mut selection = Selection {
            actions: config.rules.clone(),
            lowest: Some(config.priority),
        };
        for part in &self.disabled {
            selection
                .actions
                .push(Action::Substring(false, part.clone()));
        }
        let set = |tags: &[String]| tags.iter().cloned().collect::<BTreeSet<_>>();
        selection = selection.tags(false, &set(&self.not_tags));
        if !self.tags.is_empty() {
            // With tags only what has them is enabled.
            selection
                .actions
                .push(Action::Substring(false, String::new()));
            selection = selection.tags(true, &set(&self.tags));
        }
        let files = match self.rules.is_empty() {
            true => config.rules_files.clone(),
            false => self.rules.clone(),
        };
        Ok(RuleOptions {
            files,
            selection,
            matching: config.matching,
            extra_output: config.append_output.clone(),
        })
    }
}

/// The outputs that the configuration names.
fn outputs(config: &Config, options: &RunOptions) -> Result<Outputs, OutputError> {
    let buffered = config.buffered_outputs && !options.unbuffered;
    let mut outputs = Outputs::new();
    let capacity = config.queue_capacity;
    if config.stdout {
        outputs.add(Box::new(StdoutOutput::new(buffered)), capacity)?;
    }
    if config.syslog {
        outputs.add(Box::new(SyslogOutput::new("knarr-detect")), capacity)?;
    }
    if let Some((path, keep_open, rotate_bytes, keep)) = &config.file {
        let file = FileOutput::new(path, *keep_open, buffered).rotated(*rotate_bytes, *keep);
        outputs.add(Box::new(file), capacity)?;
    }
    if let Some((command, keep_alive)) = &config.program {
        outputs.add(Box::new(ProgramOutput::new(command, *keep_alive)), capacity)?;
    }
    if let Some(http) = &config.http {
        outputs.add(Box::new(HttpOutput::new(http.clone())?), capacity)?;
    }
    if let Some(services) = &options.forward {
        let environment = options.environment.unwrap_or(|_| None);
        let forward = ForwardOutput::start(services, &environment)?;
        outputs.add(Box::new(forward), capacity)?;
    }
    Ok(outputs)
}

fn format(config: &Config) -> Format {
    Format {
        json: config.json_output,
        fields: false,
        options: AlertOptions {
            time_zone: jiff::tz::TimeZone::system(),
            time_iso8601: config.time_format_iso_8601,
            hostname: String::new(),
            output: config.json_include_output,
            tags: config.json_include_tags,
            message: config.json_include_message,
            output_fields: config.json_include_output_fields,
        },
    }
}

/// Runs until it is told to stop, and returns what Falco prints at its end.
///
/// # Errors
/// When something cannot be read, used or watched.
pub fn run(mut options: RunOptions, control: &Control) -> Result<String, CommandError> {
    let config = Config::load(options.config.as_deref(), &options.overrides)?;
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let rules = load_rules(&options.rule_options(&config)?)?;
    for result in &rules.results {
        tracing::info!("rules {}", result.summary());
    }
    let capture = options.capture.clone().or_else(|| config.capture.clone());
    let mut host = match &capture {
        Some(_) => Host::of_capture(),
        None => Host::of_this_machine(),
    };
    if let Some(name) = options.hostname.as_deref().or(config.hostname.as_deref()) {
        host.rename(name);
    }
    let limits = Limits {
        threads: config.threads,
        ..Limits::default()
    };
    let table = Table::new(limits, options.containers.take());
    let outputs = outputs(&config, &options)?;
    let mut engine = Engine::new(Arc::new(rules), host, table, outputs);
    engine.format = format(&config);
    engine.format.fields = options.forward.is_some();
    engine.all_calls = options.all_calls;
    let ended = match &capture {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|source| CommandError::File {
                path: path.clone(),
                source,
            })?;
            replay(&mut engine, file, control).map_err(CommandError::from)
        }
        None => watch(&mut engine, &config, &options, control),
    };
    let report = ended?;
    let summary = engine.counters.summary(engine.rules());
    for output in engine.outputs.finish() {
        if output.dropped + output.failed > 0 {
            tracing::error!(
                output = output.name,
                dropped = output.dropped,
                failed = output.failed,
                "alerts were lost"
            );
        }
    }
    Ok(format!("{}{summary}", report.drops))
}

fn watch(
    engine: &mut Engine,
    config: &Config,
    options: &RunOptions,
    control: &Control,
) -> Result<RunReport, CommandError> {
    let live_options = LiveOptions {
        probes: probes::Options {
            ring_bytes: config.ring_bytes,
            snap_bytes: config.snap_bytes,
            ..probes::Options::default()
        },
        without_probes: config.without_probes,
        drops: config.drops.clone(),
        duration: options.duration,
        rest: None,
        purge: Some(config.purge),
    };
    let web = config.web.clone().map(Web::serve).transpose()?;
    let reload = || reload(options);
    let look = |engine: &Engine, snapshot| {
        if let Some(web) = &web {
            let text = prometheus(&snapshot, engine.rules(), MetricsOptions::default());
            web.tell_metrics(text);
        }
        if let Some((which, path)) = &config.metrics {
            let text = prometheus(&snapshot, engine.rules(), *which);
            // Whole or not at all, whoever reads it meanwhile.
            let aside = path.with_extension("new");
            let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
            if let Err(error) = written {
                tracing::warn!(path = %path.display(), %error, "cannot write the metrics");
            }
        }
    };
    let audit = web.as_ref().map(|web| &web.audit);
    live(engine, &live_options, control, audit, reload, look).map_err(CommandError::from)
}

/// The rules as they are now; nothing, and a word about it, if they cannot be used.
fn reload(options: &RunOptions) -> Option<Arc<Loaded>> {
    let loaded = Config::load(options.config.as_deref(), &options.overrides)
        .map_err(CommandError::from)
        .and_then(|config| options.rule_options(&config))
        .and_then(|rules| load_rules(&rules).map_err(CommandError::from));
    match loaded {
        Ok(rules) => {
            tracing::info!(
                rules = rules.program.rules().len(),
                "the rules were loaded again"
            );
            Some(Arc::new(rules))
        }
        Err(error) => {
            let error = stdx::chain(&error);
            tracing::error!(error, "the rules stay as they were");
            None
        }
    }
}
