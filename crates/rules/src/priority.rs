//! How grave a rule's alert is.

use serde::Serialize;

/// Priorities, gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Priority {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Informational,
    Debug,
}

impl Priority {
    /// All, gravest first.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// The whole name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "Emergency",
            Self::Alert => "Alert",
            Self::Critical => "Critical",
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Notice => "Notice",
            Self::Informational => "Informational",
            Self::Debug => "Debug",
        }
    }

    /// The name in alerts.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Informational => "Info",
            _ => self.name(),
        }
    }

    /// The priority of that name, in capitals or not; `info` will do for the longest.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| {
            name.eq_ignore_ascii_case(priority.name())
                || name.eq_ignore_ascii_case(priority.short_name())
        })
    }
}
