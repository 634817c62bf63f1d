//! Falco's configuration file (`falco.yaml`): the keys that there is something for here.
//!
//! Invariant: a key that is not known is warned about and no error, so that a file for Falco will do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rules::Priority;
use rules::fields::Source;
use rules::load::ExtraOutput;
use rules::program::{Action, Matching};
use serde_json::Value as Json;

use super::settings::{Settings, lay_over, set};
use super::web::WebOptions;
use crate::engine::{DropAction, DropOptions, MetricsOptions};
use crate::outputs::HttpOptions;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is no YAML.
    #[error("the configuration {path} is not valid: {problem}")]
    Yaml {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An option of the command line has no value, or a key that cannot be.
    #[error("Error parsing config option \"{0}\". Must be of the form key=val or key.subkey=val")]
    Override(String),
    /// A value cannot be used.
    #[error("{key} cannot be {value:?}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// Alerts by HTTP, as far as the file says.
pub type HttpConfig = HttpOptions;

/// What the configuration says.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Falco's options, as its file names them"
)]
pub struct Config {
    /// Rule files and folders.
    pub rules_files: Vec<PathBuf>,
    /// Which rules are enabled or disabled.
    pub rules: Vec<Action>,
    /// The lowest priority that counts.
    pub priority: Priority,
    /// Whether all rules that match are alerted, or the first.
    pub matching: Matching,
    /// Whether lines are JSON.
    pub json_output: bool,
    /// Whether JSON has the line.
    pub json_include_output: bool,
    /// Whether JSON has the rule's own text.
    pub json_include_message: bool,
    /// Whether JSON has the fields.
    pub json_include_output_fields: bool,
    /// Whether JSON has the tags.
    pub json_include_tags: bool,
    /// Whether times are ISO 8601 in UTC.
    pub time_format_iso_8601: bool,
    /// Whether lines are held back for a short time.
    pub buffered_outputs: bool,
    /// How many alerts wait for an output; 0 for the default.
    pub queue_capacity: usize,
    /// What is added to outputs.
    pub append_output: Vec<ExtraOutput>,
    /// Standard output.
    pub stdout: bool,
    /// The system log.
    pub syslog: bool,
    /// A file: its path, whether it is kept open, the size at which it is rotated in bytes (0 for
    /// never), and how many are kept.
    pub file: Option<(PathBuf, bool, u64, u32)>,
    /// A program: its command line, and whether it is kept.
    pub program: Option<(String, bool)>,
    /// A server.
    pub http: Option<HttpOptions>,
    /// Lost events.
    pub drops: DropOptions,
    /// Bytes of the ring of each processor.
    pub ring_bytes: u32,
    /// How many bytes of data an event carries.
    pub snap_bytes: u32,
    /// How many threads are known at most.
    pub threads: usize,
    /// How often gone threads are looked for.
    pub purge: Duration,
    /// A capture to replay.
    pub capture: Option<PathBuf>,
    /// Metrics that are written, and the file that they are written to.
    pub metrics: Option<(MetricsOptions, PathBuf)>,
    /// The web server.
    pub web: Option<WebOptions>,
    /// Whether only audit events are taken (`engine.kind: nodriver`).
    pub without_probes: bool,
    /// The name of this host, where it is not its own.
    pub hostname: Option<String>,
    /// What is not known or not right in it.
    pub warnings: Vec<String>,
}

/// Falco's sizes of a ring by `buf_size_preset`, from 1 on, in bytes.
const RING_PRESETS: [u32; 10] = [
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
    16 << 20,
    32 << 20,
    64 << 20,
    128 << 20,
    256 << 20,
    512 << 20,
];

/// Keys of Falco's for which there is nothing to do here: their default is what is done, or what they
/// choose between does not exist.
const WITHOUT_EFFECT: &[&str] = &[
    "watch_config_files",
    "load_plugins",
    "plugins",
    "plugins_hostinfo",
    "buffer_format_base64",
    "webserver.threadiness",
    "log_stderr",
    "log_syslog",
    "log_level",
    "libs_logger",
    "output_timeout",
    "syscall_event_timeouts",
    "base_syscalls",
    "capture",
    "grpc",
    "grpc_output",
    "outputs",
    "engine.kmod",
    "engine.modern_ebpf.cpus_for_each_buffer",
    "engine.modern_ebpf.drop_failed_exit",
    "engine.modern_ebpf.disable_iterators",
    "outputs_queue.recovery",
    "metrics.interval",
    "metrics.output_rule",
    "metrics.kernel_event_counters_per_cpu_enabled",
    "metrics.libbpf_stats_enabled",
    "metrics.plugins_metrics_enabled",
    "metrics.kernel_iter_event_counters_enabled",
    "metrics.jemalloc_stats_enabled",
    "metrics.convert_memory_to_mb",
    "metrics.include_empty_values",
    "falco_libs.thread_table_auto_purging_thread_timeout_s",
    "http_output.echo",
    "http_output.ca_path",
];

fn read(path: &Path) -> Result<Json, ConfigError> {
    let text = crate::engine::read_file(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    serde_saphyr::from_str(&text).map_err(|error| ConfigError::Yaml {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// Reads the files that the main one names, each laid over what came before.
fn include(root: &mut Json) -> Result<(), ConfigError> {
    let Some(Json::Array(named)) = root.get("config_files").cloned() else {
        return Ok(());
    };
    for item in named {
        let path = match &item {
            Json::String(path) => path.as_str(),
            other => other.get("path").and_then(Json::as_str).unwrap_or_default(),
        };
        let strategy = item
            .get("strategy")
            .and_then(Json::as_str)
            .unwrap_or("append");
        let path = PathBuf::from(path);
        // As upstream: what does not exist is passed over.
        let Ok(files) = crate::engine::find_files(std::slice::from_ref(&path)) else {
            continue;
        };
        for file in files {
            let mut other = read(&file)?;
            if let Some(object) = other.as_object_mut() {
                object.remove("config_files");
            }
            match (strategy, &mut *root, other) {
                ("override", Json::Object(root), Json::Object(other)) => root.extend(other),
                ("add-only", Json::Object(root), Json::Object(other)) => {
                    for (key, value) in other {
                        root.entry(key).or_insert(value);
                    }
                }
                (_, root, other) => lay_over(root, other),
            }
        }
    }
    Ok(())
}

impl Config {
    /// The configuration of a file, or of none, with options of the command line (`key=value`) on top.
    ///
    /// # Errors
    /// When the file cannot be read, or a value cannot be used.
    pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut root = match path {
            Some(path) => read(path)?,
            None => Json::Object(serde_json::Map::new()),
        };
        if root.is_null() {
            root = Json::Object(serde_json::Map::new());
        }
        include(&mut root)?;
        for text in overrides {
            let bad = || ConfigError::Override(text.clone());
            let (key, value) = text.split_once('=').ok_or_else(bad)?;
            let value =
                serde_saphyr::from_str(value).unwrap_or_else(|_| Json::String(value.into()));
            if !set(&mut root, key.trim(), value) {
                return Err(bad());
            }
        }
        Self::of(&Settings::new(root), path.is_some())
    }

    fn of(settings: &Settings, is_file: bool) -> Result<Self, ConfigError> {
        let paths = |key| -> Option<Vec<PathBuf>> {
            Some(
                settings
                    .texts(key)?
                    .into_iter()
                    .map(PathBuf::from)
                    .collect(),
            )
        };
        settings.get("config_files");
        for key in WITHOUT_EFFECT {
            settings.get(key);
        }
        // A file means what it means to Falco; without one there are the rules that are built in.
        let default_files = || match is_file {
            true => vec![
                PathBuf::from("/etc/falco/falco_rules.yaml"),
                PathBuf::from("/etc/falco/falco_rules.local.yaml"),
                PathBuf::from("/etc/falco/rules.d"),
            ],
            false => Vec::new(),
        };
        let mut config = Self {
            rules_files: paths("rules_files")
                .or_else(|| paths("rules_file"))
                .unwrap_or_else(default_files),
            rules: Vec::new(),
            priority: priority(settings)?,
            matching: matching(settings)?,
            json_output: settings.bool("json_output", false),
            json_include_output: settings.bool("json_include_output_property", true),
            json_include_message: settings.bool("json_include_message_property", false),
            json_include_output_fields: settings.bool("json_include_output_fields_property", true),
            json_include_tags: settings.bool("json_include_tags_property", true),
            time_format_iso_8601: settings.bool("time_format_iso_8601", false),
            buffered_outputs: settings.bool("buffered_outputs", false),
            queue_capacity: usize::try_from(settings.count("outputs_queue.capacity", 0))
                .unwrap_or(usize::MAX),
            append_output: Vec::new(),
            stdout: settings.bool("stdout_output.enabled", true),
            syslog: settings.bool("syslog_output.enabled", false),
            file: file(settings),
            program: program(settings),
            http: http(settings),
            drops: drops(settings)?,
            ring_bytes: ring(settings)?,
            snap_bytes: u32::try_from(settings.count("falco_libs.snaplen", 80)).unwrap_or(80),
            threads: usize::try_from(settings.count("falco_libs.thread_table_size", 262_144))
                .unwrap_or(262_144),
            purge: Duration::from_secs(
                settings.count("falco_libs.thread_table_auto_purging_interval_s", 300),
            ),
            capture: None,
            metrics: metrics(settings),
            web: web(settings)?,
            without_probes: false,
            hostname: None,
            warnings: Vec::new(),
        };
        config.engine(settings)?;
        config.rules = actions(settings)?;
        config.append_output = extra_output(settings);
        config.warnings = settings.complaints();
        Ok(config)
    }

    fn engine(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        let capture = settings.text("engine.replay.capture_file", "");
        match settings.text("engine.kind", "modern_ebpf").as_str() {
            "modern_ebpf" | "kmod" | "ebpf" => {}
            "replay" => self.capture = Some(PathBuf::from(capture)),
            "nodriver" => self.without_probes = true,
            other => {
                return Err(ConfigError::Value {
                    key: "engine.kind",
                    value: other.to_owned(),
                    expected: "one of modern_ebpf, kmod, replay, nodriver",
                });
            }
        }
        Ok(())
    }
}

fn priority(settings: &Settings) -> Result<Priority, ConfigError> {
    let name = settings.text("priority", "debug");
    Priority::find(&name).ok_or(ConfigError::Value {
        key: "priority",
        value: name,
        expected: "one of emergency, alert, critical, error, warning, notice, info, debug",
    })
}

fn matching(settings: &Settings) -> Result<Matching, ConfigError> {
    match settings.text("rule_matching", "first").as_str() {
        "first" => Ok(Matching::First),
        "all" => Ok(Matching::All),
        other => Err(ConfigError::Value {
            key: "rule_matching",
            value: other.to_owned(),
            expected: "first or all",
        }),
    }
}

/// `rules`: what is enabled and disabled, in order.
fn actions(settings: &Settings) -> Result<Vec<Action>, ConfigError> {
    let mut actions = Vec::new();
    let items = settings.get("rules").and_then(Json::as_array);
    for item in items.into_iter().flatten() {
        for (verb, enable) in [("enable", true), ("disable", false)] {
            let Some(what) = item.get(verb) else { continue };
            if let Some(name) = what.get("rule").and_then(Json::as_str) {
                actions.push(Action::Name(enable, name.to_owned()));
            } else if let Some(tag) = what.get("tag").and_then(Json::as_str) {
                actions.push(Action::Tag(enable, tag.to_owned()));
            } else {
                return Err(ConfigError::Value {
                    key: "rules",
                    value: what.to_string(),
                    expected: "enable or disable, with a rule or a tag",
                });
            }
        }
    }
    Ok(actions)
}

fn extra_output(settings: &Settings) -> Vec<ExtraOutput> {
    let Some(Json::Array(items)) = settings.get("append_output") else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for item in items {
        if item.get("suggested_output").and_then(Json::as_bool) == Some(true) {
            out.push(ExtraOutput::suggested(Source::Syscall));
        }
        let matches = item.get("match").unwrap_or(&Json::Null);
        let text = |name: &str| matches.get(name).and_then(Json::as_str).map(str::to_owned);
        let mut extra = ExtraOutput {
            source: text("source"),
            rule: text("rule"),
            tags: matches
                .get("tags")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .map(str::to_owned)
                .collect::<BTreeSet<_>>(),
            ..ExtraOutput::default()
        };
        match item.get("extra_output") {
            Some(Json::String(format)) => extra.formats.push(format.clone()),
            Some(Json::Array(formats)) => {
                let formats = formats.iter().filter_map(Json::as_str);
                extra.formats.extend(formats.map(str::to_owned));
            }
            _ => {}
        }
        let fields = item.get("extra_fields").and_then(Json::as_array);
        for field in fields.into_iter().flatten() {
            match field {
                Json::String(name) => extra.raw_fields.push(name.clone()),
                Json::Object(named) => {
                    let named = named.iter().filter_map(|(name, format)| {
                        Some((name.clone(), format.as_str()?.to_owned()))
                    });
                    extra.formatted_fields.extend(named);
                }
                _ => {}
            }
        }
        if !(extra.formats.is_empty()
            && extra.raw_fields.is_empty()
            && extra.formatted_fields.is_empty())
        {
            out.push(extra);
        }
    }
    out
}

fn file(settings: &Settings) -> Option<(PathBuf, bool, u64, u32)> {
    let path = settings.text("file_output.filename", "");
    let keep_alive = settings.bool("file_output.keep_alive", false);
    // Beyond Falco: it leaves rotation to others.
    let rotate_bytes = settings.count("file_output.rotate_bytes", 0);
    let keep = u32::try_from(settings.count("file_output.rotate_keep", 3)).unwrap_or(3);
    let enabled = settings.bool("file_output.enabled", false) && !path.is_empty();
    enabled.then(|| (PathBuf::from(path), keep_alive, rotate_bytes, keep))
}

fn program(settings: &Settings) -> Option<(String, bool)> {
    let command = settings.text("program_output.program", "");
    let keep_alive = settings.bool("program_output.keep_alive", false);
    let enabled = settings.bool("program_output.enabled", false) && !command.is_empty();
    enabled.then_some((command, keep_alive))
}

fn http(settings: &Settings) -> Option<HttpOptions> {
    let path = |key: &str| {
        let path = settings.text(key, "");
        (!path.is_empty()).then(|| PathBuf::from(path))
    };
    let client = (
        path("http_output.client_cert"),
        path("http_output.client_key"),
    );
    let mtls = settings.bool("http_output.mtls", false);
    let (ca_cert, ca_bundle) = (path("http_output.ca_cert"), path("http_output.ca_bundle"));
    let headers = settings
        .get("http_output.headers")
        .and_then(Json::as_object);
    let defaults = HttpOptions::default();
    let options = HttpOptions {
        url: settings.text("http_output.url", ""),
        user_agent: settings.text("http_output.user_agent", &defaults.user_agent),
        headers: headers
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        json: settings.bool("json_output", false),
        insecure: settings.bool("http_output.insecure", false),
        ca: ca_cert.or(ca_bundle),
        client: match client {
            (Some(certificate), Some(key)) if mtls => Some((certificate, key)),
            _ => None,
        },
        compress: settings.bool("http_output.compress_uploads", false),
        keep_alive: settings.bool("http_output.keep_alive", false),
        retries: u32::try_from(settings.count("http_output.max_consecutive_timeouts", 5))
            .unwrap_or(5),
        timeout: defaults.timeout,
    };
    let enabled = settings.bool("http_output.enabled", false) && !options.url.is_empty();
    enabled.then_some(options)
}

fn drops(settings: &Settings) -> Result<DropOptions, ConfigError> {
    let defaults = DropOptions::default();
    let actions = match settings.texts("syscall_event_drops.actions") {
        None => defaults.actions,
        Some(names) => names
            .into_iter()
            .map(|name| {
                DropAction::find(&name).ok_or(ConfigError::Value {
                    key: "syscall_event_drops.actions",
                    value: name,
                    expected: "ignore, log, alert or exit",
                })
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(DropOptions {
        threshold: settings.number("syscall_event_drops.threshold", defaults.threshold),
        actions,
        rate_per_sec: settings.number("syscall_event_drops.rate", defaults.rate_per_sec),
        burst: settings.number("syscall_event_drops.max_burst", defaults.burst),
        simulate: settings.bool("syscall_event_drops.simulate_drops", false),
    })
}

/// Falco's default is its fourth preset; 4 MiB have lost nothing in our measurements.
fn ring(settings: &Settings) -> Result<u32, ConfigError> {
    let key = "engine.modern_ebpf.buf_size_preset";
    if settings.get(key).is_none() {
        return Ok(4 << 20);
    }
    let preset = settings.count(key, 4);
    usize::try_from(preset)
        .ok()
        .and_then(|preset| preset.checked_sub(1))
        .and_then(|place| RING_PRESETS.get(place).copied())
        .ok_or(ConfigError::Value {
            key: "engine.modern_ebpf.buf_size_preset",
            value: preset.to_string(),
            expected: "a number from 1 to 10",
        })
}

fn metrics(settings: &Settings) -> Option<(MetricsOptions, PathBuf)> {
    let options = MetricsOptions {
        rules: settings.bool("metrics.rules_counters_enabled", true),
        state: settings.bool("metrics.state_counters_enabled", true),
        kernel: settings.bool("metrics.kernel_event_counters_enabled", true),
        resources: settings.bool("metrics.resource_utilization_enabled", true),
    };
    let path = settings.text("metrics.output_file", "");
    let enabled = settings.bool("metrics.enabled", false) && !path.is_empty();
    enabled.then(|| (options, PathBuf::from(path)))
}

/// The web server: Falco's, with a webhook for audit events beside. As Falco's, it listens unless it is
/// switched off, but only where a configuration speaks of it.
fn web(settings: &Settings) -> Result<Option<WebOptions>, ConfigError> {
    let told = settings.get("webserver").is_some();
    let address = settings.text("webserver.listen_address", "0.0.0.0");
    let port = u16::try_from(settings.count("webserver.listen_port", 8765)).unwrap_or(8765);
    let ip = address.parse::<std::net::IpAddr>();
    let ssl = settings.bool("webserver.ssl_enabled", false);
    let certificate = settings.text("webserver.ssl_certificate", "/etc/falco/falco.pem");
    let health_path = settings.text("webserver.k8s_healthz_endpoint", "/healthz");
    let metrics = settings.bool("webserver.prometheus_metrics_enabled", false);
    // Beyond Falco, whose plugin has a server of its own for this.
    let audit_path = settings.text("webserver.k8s_audit_endpoint", "/k8s-audit");
    if !(settings.bool("webserver.enabled", true) && told) {
        return Ok(None);
    }
    let ip = ip.map_err(|_| ConfigError::Value {
        key: "webserver.listen_address",
        value: address,
        expected: "an address",
    })?;
    Ok(Some(WebOptions {
        address: std::net::SocketAddr::new(ip, port),
        health_path,
        metrics,
        audit_path,
        certificate: ssl.then(|| PathBuf::from(certificate)),
    }))
}
