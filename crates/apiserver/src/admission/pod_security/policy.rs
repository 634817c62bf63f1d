//! Levels, versions, and the policy that a namespace's labels make.

use std::fmt;
use std::str::FromStr;

use api::validate::FieldError;
use serde_json::{Map, Value};

/// How much pods may do; the order is that of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Anything.
    #[default]
    Privileged,
    /// Nothing that is known to give power over the host.
    Baseline,
    /// What is best practice.
    Restricted,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Of which Kubernetes version the checks are; the order is that of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// `v1.` and this.
    Minor(u32),
    /// The newest ones.
    #[default]
    Latest,
}

/// Why a level or version cannot be read; the words are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No level of this name.
    #[error("must be one of privileged, baseline, restricted")]
    Level,
    /// No version of this form.
    #[error("must be \"latest\" or \"v1.x\"")]
    Version,
}

impl FromStr for Level {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        [Self::Privileged, Self::Baseline, Self::Restricted]
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or(PolicyError::Level)
    }
}

impl FromStr for Version {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").ok_or(PolicyError::Version)?;
        let plain =
            minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        let minor = minor.parse().ok().filter(|_| plain);
        minor.map(Self::Minor).ok_or(PolicyError::Version)
    }
}

/// A level as it is in a version; `baseline:v1.30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl LevelVersion {
    /// Whether both are the same to every pod.
    fn equivalent(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

impl FromStr for LevelVersion {
    type Err = PolicyError;

    /// Reads `level` or `level:version`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
        Ok(Self {
            level: level.parse()?,
            version: version.parse()?,
        })
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What is refused, what is audited, and what is warned of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pods beyond it are refused.
    pub enforce: LevelVersion,
    /// Pods beyond it are noted.
    pub audit: LevelVersion,
    /// Who makes pods beyond it is warned.
    pub warn: LevelVersion,
}

impl Default for Policy {
    /// Nothing is refused; what is beyond `baseline` is warned of.
    fn default() -> Self {
        Self {
            enforce: LevelVersion::default(),
            audit: LevelVersion::default(),
            warn: LevelVersion {
                level: Level::Baseline,
                version: Version::Latest,
            },
        }
    }
}

const LABEL: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// The policy of a namespace, and what cannot be read in its labels. Unreadable levels enforce
    /// `restricted`, and audit and warn of nothing.
    pub(super) fn of(
        labels: Option<&Map<String, Value>>,
        defaults: &Self,
    ) -> (Self, Vec<FieldError>) {
        let mut policy = defaults.clone();
        let Some(labels) = labels else {
            return (policy, Vec::new());
        };
        let mut errors = Vec::new();
        let enforced = read(
            labels,
            "enforce",
            &mut policy.enforce,
            &mut errors,
            Level::Restricted,
        );
        read(
            labels,
            "audit",
            &mut policy.audit,
            &mut errors,
            Level::Privileged,
        );
        read(
            labels,
            "warn",
            &mut policy.warn,
            &mut errors,
            Level::Privileged,
        );
        // Who enforces more than is warned of by default is warned as well.
        let has = |name: &str| labels.contains_key(&format!("{LABEL}{name}"));
        if !has("warn") && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !has("warn-version") {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether no pod is refused, noted or warned of.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }

    /// Whether both are the same to every pod.
    pub(super) fn equivalent(&self, other: &Self) -> bool {
        self.enforce.equivalent(other.enforce)
            && self.audit.equivalent(other.audit)
            && self.warn.equivalent(other.warn)
    }

    /// The modes that labels set to more than `privileged`, as `enforce=baseline:latest, …`.
    pub(super) fn explicit(&self, labels: &Map<String, Value>) -> String {
        let modes = [
            ("enforce", self.enforce),
            ("audit", self.audit),
            ("warn", self.warn),
        ];
        let set = |name: &str| {
            labels.contains_key(&format!("{LABEL}{name}"))
                || labels.contains_key(&format!("{LABEL}{name}-version"))
        };
        let words: Vec<String> = modes
            .iter()
            .filter(|(name, mode)| mode.level != Level::Privileged && set(name))
            .map(|(name, mode)| format!("{name}={mode}"))
            .collect();
        words.join(", ")
    }
}

/// Reads the two labels of a mode; whether its level was set. `unreadable` stands for a level that
/// cannot be read.
fn read(
    labels: &Map<String, Value>,
    name: &str,
    mode: &mut LevelVersion,
    errors: &mut Vec<FieldError>,
    unreadable: Level,
) -> bool {
    let mut refuse = |label: String, text: &str, error: PolicyError| {
        let path = format!("metadata.labels[{label}]");
        errors.push(FieldError::invalid(path, text, error.to_string()));
    };
    let value = |label: &str| labels.get(label).and_then(Value::as_str);
    let mut set = false;
    let label = format!("{LABEL}{name}");
    if let Some(text) = value(&label) {
        match text.parse() {
            Ok(level) => (mode.level, set) = (level, true),
            Err(error) => {
                mode.level = unreadable;
                refuse(label, text, error);
            }
        }
    }
    let label = format!("{LABEL}{name}-version");
    if let Some(text) = value(&label) {
        mode.version = text.parse().unwrap_or_else(|error| {
            refuse(label, text, error);
            Version::Latest
        });
    }
    set
}
