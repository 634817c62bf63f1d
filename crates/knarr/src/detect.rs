//! `knarr detect`: threat detection on this host, with Falco's rules, options and words. It needs no
//! cluster.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use detect::command::{
    self, ListOptions, RecordOptions, RunOptions, describe, list_events, list_fields, list_rules,
    watch_signals,
};
use detect::engine::{Control, RuleOptions, load_rules};
use detect::outputs::ForwardOptions;
use rules::fields::Source;

use crate::config::LogFormat;
use crate::log;

/// Watch this host by Falco's rules, and say what is wrong.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
                  knarr detect                                with the rules that are built in\n  \
                  knarr detect -r falco_rules.yaml            with rules of your own, or Falco's\n  \
                  knarr detect -r rules.d -o json_output=true\n  \
                  knarr detect -c /etc/falco/falco.yaml       a Falco configuration\n  \
                  knarr detect -e trace.scap -r rules.yaml    a capture instead of this host\n  \
                  knarr detect --forward services.yaml        alerts to Slack, Loki, Kafka, as Falcosidekick\n  \
                  knarr detect validate rules.d               check rule files\n  \
                  knarr detect record -M 30 trace.scap        write a capture"
)]
pub(crate) struct Detect {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

/// What runs without a subcommand.
#[derive(Args)]
struct Run {
    /// A rule file, or a folder of them, or `built-in`; several in the order given [default: those of
    /// the configuration, else the built-in ones].
    #[arg(short = 'r', long = "rules", value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// A configuration in Falco's form.
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration, as in `json_output=true` or `http_output.url=https://…`.
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Replay a capture of Falco, sysdig or `knarr detect record`.
    #[arg(short = 'e', long, value_name = "CAPTURE")]
    capture: Option<PathBuf>,
    /// Stop after so many seconds.
    #[arg(short = 'M', long, value_name = "SECS")]
    duration: Option<u64>,
    /// Capture all system calls, and not only those that rules need.
    #[arg(short = 'A', long)]
    all_calls: bool,
    /// Only rules with this tag; may be repeated.
    #[arg(short = 't', long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// No rules with this tag; may be repeated.
    #[arg(short = 'T', long = "no-tag", value_name = "TAG")]
    not_tags: Vec<String>,
    /// No rules whose name has this in it; may be repeated.
    #[arg(short = 'D', long = "disable", value_name = "PART")]
    disabled: Vec<String>,
    /// Write each alert at once.
    #[arg(short = 'U', long)]
    unbuffered: bool,
    /// The name of this host in alerts.
    #[arg(long, env = "FALCO_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,
    /// Send alerts on to the services of a configuration in Falcosidekick's form.
    #[arg(long, value_name = "FILE")]
    forward: Option<PathBuf>,
    /// Where alerts wait for services that are away.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/knarr-detect/queues"
    )]
    forward_dir: PathBuf,
    /// How logs are written to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Check rule files; each may use what those before it define.
    Validate {
        /// Files and folders.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print results as JSON.
        #[arg(long)]
        json: bool,
        /// Tell warnings in full.
        #[arg(short, long)]
        verbose: bool,
    },
    /// List fields, events or rules.
    List {
        /// What is listed.
        #[arg(value_enum, default_value_t = What::Rules)]
        what: What,
        /// Rule files and folders, for rules [default: the built-in ones].
        #[arg(short = 'r', long = "rules", value_name = "FILE")]
        rules: Vec<PathBuf>,
        /// Fields of this source only: syscall or k8s_audit.
        #[arg(long)]
        source: Option<String>,
        /// Names only.
        #[arg(short = 'N', long)]
        names: bool,
        /// As JSON.
        #[arg(long, conflicts_with = "names")]
        json: bool,
        /// As tables in Markdown.
        #[arg(long, conflicts_with_all = ["names", "json"])]
        markdown: bool,
    },
    /// Describe rules, macros and lists as JSON, or one rule.
    Describe {
        /// The name of a rule.
        rule: Option<String>,
        /// Rule files and folders [default: the built-in ones].
        #[arg(short = 'r', long = "rules", value_name = "FILE")]
        rules: Vec<PathBuf>,
    },
    /// Write what happens to a capture file, which `-e`, Falco and sysdig read.
    Record {
        /// The file.
        file: PathBuf,
        /// Compress it.
        #[arg(short = 'z', long)]
        compress: bool,
        /// Stop after so many seconds.
        #[arg(short = 'M', long, value_name = "SECS")]
        duration: Option<u64>,
        /// What these rules need, besides processes and descriptors.
        #[arg(short = 'r', long = "rules", value_name = "FILE")]
        rules: Vec<PathBuf>,
    },
}

/// What can be listed.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    Rules,
    Fields,
    Events,
}

impl Detect {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            None => self.run.run(),
            Some(command) => command.run(),
        }
    }
}

impl Run {
    fn run(self) -> Result<ExitCode> {
        // Before there is any thread.
        let signals = watch_signals().context("cannot watch for signals")?;
        log::set_up(self.log, "info");
        pki::install_crypto_provider();
        let control = Arc::new(Control::default());
        signals.tell(control.clone())?;
        let options = RunOptions {
            config: self.config,
            overrides: self.options,
            rules: self.rules,
            capture: self.capture,
            tags: self.tags,
            not_tags: self.not_tags,
            disabled: self.disabled,
            all_calls: self.all_calls,
            duration: self.duration.map(Duration::from_secs),
            unbuffered: self.unbuffered,
            hostname: self.hostname,
            forward: self.forward.map(|config| ForwardOptions {
                config,
                queues: self.forward_dir,
            }),
            environment: Some(|name| std::env::var(name).ok()),
            containers: None,
        };
        // Falco's last words; standard output is for alerts.
        eprint!("{}", command::run(options, &control)?);
        Ok(ExitCode::SUCCESS)
    }
}

impl Command {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Validate {
                files,
                json,
                verbose,
            } => {
                let validation = command::validate(&files, json, verbose);
                println!("{}", validation.text);
                if !validation.valid {
                    return Ok(ExitCode::FAILURE);
                }
            }
            Self::List {
                what,
                rules,
                source,
                names,
                json,
                markdown,
            } => match what {
                What::Fields => {
                    let source = source.as_deref().map(source_named).transpose()?;
                    let text = list_fields(ListOptions {
                        source,
                        names_only: names,
                        json,
                        markdown,
                    });
                    println!("{}", text.trim_end());
                }
                What::Events => print!("{}", list_events()),
                What::Rules => {
                    let set = loaded(rules)?.set;
                    let text = match json {
                        true => describe(&set, None),
                        false => list_rules(&set, None),
                    };
                    println!("{}", text.unwrap_or_default().trim_end());
                }
            },
            Self::Describe { rule, rules } => {
                let set = loaded(rules)?.set;
                let Some(text) = describe(&set, rule.as_deref()) else {
                    bail!("there is no rule {:?}", rule.unwrap_or_default());
                };
                println!("{text}");
            }
            Self::Record {
                file,
                compress,
                duration,
                rules,
            } => record(file, compress, duration, rules)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn record(path: PathBuf, compress: bool, duration: Option<u64>, rules: Vec<PathBuf>) -> Result<()> {
    let signals = watch_signals().context("cannot watch for signals")?;
    log::set_up(LogFormat::Text, "info");
    let control = Arc::new(Control::default());
    signals.tell(control.clone())?;
    let rules = match rules.is_empty() {
        true => None,
        false => Some(Arc::new(loaded(rules)?)),
    };
    let options = RecordOptions {
        path,
        compress,
        duration: duration.map(Duration::from_secs),
        rules,
        ..RecordOptions::default()
    };
    let recorded = command::record(&options, &control)?;
    eprintln!("{} events, {} lost", recorded.events, recorded.lost);
    Ok(())
}

fn loaded(files: Vec<PathBuf>) -> Result<detect::engine::Loaded> {
    Ok(load_rules(&RuleOptions {
        files,
        ..RuleOptions::default()
    })?)
}

fn source_named(name: &str) -> Result<Source> {
    Source::ALL
        .into_iter()
        .find(|source| source.name() == name)
        .with_context(|| format!("there is no source {name:?}: syscall or k8s_audit"))
}
