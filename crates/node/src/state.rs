//! What a worker knows about its pod: the input of the plan and of the status.
//!
//! Invariant: everything here was reported by the kernel, the shim, a probe or a
//! pull; the spec is never copied into it.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::{SignedDuration, Timestamp};

/// First delay of a crash loop, in seconds.
pub(crate) const CRASH_INITIAL_SECS: i64 = 10;
/// Longest delay of a crash loop, in seconds.
pub(crate) const CRASH_MAX_SECS: i64 = 300;

/// A preparation that is done once a pod: its sandbox, its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not begun.
    #[default]
    Todo,
    /// Running as a job of the worker.
    Busy,
    /// Done.
    Done,
    /// Failed; tried again at the given time.
    Failed {
        /// When to try again.
        retry_at: Timestamp,
        /// What a user is told.
        message: String,
    },
}

/// The image of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ImageStep {
    /// Not looked at.
    #[default]
    Todo,
    /// Being pulled.
    Busy,
    /// Present.
    Ready {
        /// Config digest, what `imageID` shows.
        id: String,
    },
    /// Not to be had.
    Failed {
        /// `ErrImagePull`, `ImagePullBackOff`, `InvalidImageName`, `ErrImageNeverPull` …
        reason: String,
        /// The whole chain of causes.
        message: String,
        /// When `ErrImagePull` turns to `ImagePullBackOff`.
        flip_at: Timestamp,
        /// When to try again.
        retry_at: Timestamp,
    },
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code, 128 + signal for a killed one.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When it was started, if it was.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its id, without the scheme.
    pub id: String,
}

/// The run of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Run {
    /// No attempt yet.
    #[default]
    Never,
    /// An attempt that could not even be prepared.
    Waiting {
        /// `CreateContainerConfigError`, `CreateContainerError`.
        reason: String,
        /// Why.
        message: String,
        /// When to try again.
        retry_at: Timestamp,
    },
    /// Being started, its postStart hook included.
    Starting,
    /// Running.
    Running {
        /// When.
        started_at: Timestamp,
    },
    /// Over.
    Exited(Exit),
}

/// The doubling delay between restarts of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashBackoff {
    delay_secs: i64,
    updated: Timestamp,
}

impl CrashBackoff {
    /// The delay that `restarts` earlier restarts have led to; used at adoption.
    pub(crate) fn after_restarts(restarts: u32, updated: Timestamp) -> Self {
        let mut backoff = Self {
            delay_secs: 0,
            updated,
        };
        for _ in 0..restarts.min(8) {
            backoff = backoff.next(updated);
        }
        backoff
    }

    /// When a container that ended at `finished_at` may be started again;
    /// `None` means at once.
    pub(crate) fn until(&self, finished_at: Timestamp) -> Option<Timestamp> {
        if self.delay_secs == 0 || self.expired(finished_at) {
            return None;
        }
        Some(finished_at + SignedDuration::from_secs(self.delay_secs))
    }

    /// The state after one more restart at `now`.
    #[must_use]
    pub(crate) fn next(self, now: Timestamp) -> Self {
        let delay_secs = if self.delay_secs == 0 || self.expired(now) {
            CRASH_INITIAL_SECS
        } else {
            (self.delay_secs * 2).min(CRASH_MAX_SECS)
        };
        Self {
            delay_secs,
            updated: now,
        }
    }

    /// The present delay in seconds.
    pub(crate) fn delay_secs(&self) -> i64 {
        self.delay_secs
    }

    fn expired(&self, at: Timestamp) -> bool {
        at.duration_since(self.updated) > SignedDuration::from_secs(2 * CRASH_MAX_SECS)
    }
}

/// Everything about one container, whatever its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerRecord {
    /// Its image.
    pub image: ImageStep,
    /// The image id of the last start, kept when the image is looked at anew.
    pub image_id: String,
    /// The present or last run.
    pub run: Run,
    /// Id of the present or last run, without the scheme; empty before the first.
    pub id: String,
    /// It was started in the present sandbox.
    pub begun: bool,
    /// Delay between failed pulls.
    pub pull_backoff: CrashBackoff,
    /// Number of the next attempt, starting at 0.
    pub next_attempt: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// How the run before ended.
    pub last: Option<Exit>,
    /// Delay between restarts.
    pub backoff: CrashBackoff,
    /// A kill is under way.
    pub stopping: bool,
    /// The startup probe, if any, has succeeded.
    pub started: bool,
    /// The readiness probe, if any, succeeds.
    pub ready: bool,
    /// A liveness or startup probe wants the container gone; the words of the event.
    pub unhealthy: Option<String>,
    /// uid, gid and groups of the last start, for `status.user`.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

impl ContainerRecord {
    /// Whether a process may be there.
    pub(crate) fn alive(&self) -> bool {
        matches!(self.run, Run::Starting | Run::Running { .. })
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.run {
            Run::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// Why a pod is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Grace period in seconds, at least 0.
    pub grace_secs: i64,
    /// `reason` of the pod's status for stops that are not deletions, e.g. `DeadlineExceeded`.
    pub reason: Option<String>,
    /// `message` of the pod's status.
    pub message: Option<String>,
}

/// Everything about one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodState {
    /// Namespaces and network.
    pub sandbox: Step,
    /// Volumes.
    pub volumes: Step,
    /// By container name.
    pub containers: BTreeMap<String, ContainerRecord>,
    /// Set when the pod must end.
    pub stop: Option<Stop>,
    /// The sandbox, volumes and mounts are gone for good.
    pub torn_down: bool,
    /// The tear-down is running.
    pub tearing_down: bool,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// When the node took the pod on.
    pub start_time: Option<Timestamp>,
    /// Refused by the node's admission: reason and message.
    pub rejected: Option<(String, String)>,
}
