//! What is left to do when a container has ended: its message, its root file system,
//! the traces of older attempts.
//!
//! Invariant: a bounded piece of what the container wrote is read.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{Shim, State};

use crate::{container, logs::format, shared::SharedRef, state::Exit};

/// The most of a termination message that is kept.
const MAX_MESSAGE: usize = 4096;
/// The most that is taken from the end of the log instead.
const MAX_LOG_BYTES: usize = 2048;
/// The most lines that are taken from it.
const MAX_LOG_LINES: usize = 80;

/// A time of the shim.
pub(crate) fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default()
}

/// Gathers how a run ended and frees what it no longer needs.
pub(crate) async fn reap(
    shared: SharedRef,
    pod: Pod,
    container: Container,
    shim: Option<Shim>,
    id: String,
    attempt: u32,
    state: State,
) -> Exit {
    let State::Exited {
        code,
        oom_killed,
        started_at_ns,
        finished_at_ns,
        ..
    } = state
    else {
        return unknown(id);
    };
    let reason = match (oom_killed, code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    if oom_killed {
        let (name, text) = (Some(container.name.as_str()), oom_text(&container));
        shared.event(&pod, name, EventType::Warning, "OOMKilling", text);
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let file = container::termination_file(&shared.pod_dir(&uid), &container.name, &id);
    let logs = container::log_dir(&shared.config.log_dir, &pod, &container.name);
    let from_logs = code != 0
        && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if let (Some(shim), Some(before)) = (shim, attempt.checked_sub(1)) {
        // The last run before this one is remembered by the API.
        let _ = shim
            .remove(&container::id(&uid, &container.name, before))
            .await;
    }
    let (images, snapshot) = (shared.config.images.clone(), id.clone());
    let message = tokio::task::spawn_blocking(move || {
        if let Err(error) = images.release(&snapshot) {
            tracing::warn!(
                id = snapshot,
                error = stdx::chain(&error),
                "root file system not released"
            );
        }
        if let Some(old) = attempt.checked_sub(2) {
            remove_attempt(&logs, old);
        }
        let message = head(&file, MAX_MESSAGE);
        let _ = std::fs::remove_file(&file);
        if message.is_empty() && from_logs {
            return tail(&logs.join(format!("{attempt}.log")));
        }
        message
    })
    .await
    .unwrap_or_default();
    Exit {
        code,
        reason: reason.to_owned(),
        message: Some(message).filter(|m| !m.is_empty()),
        started_at: Some(time(started_at_ns)),
        finished_at: time(finished_at_ns),
        id,
    }
}

/// What happened, in the words that upstream's node-problem-detector takes from the kernel's log,
/// and the limit that people look up next.
fn oom_text(container: &Container) -> String {
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let limit = match limits.and_then(|l| l.get("memory")) {
        Some(limit) => format!("its memory limit is {}", limit.0),
        None => "it has no memory limit of its own".to_owned(),
    };
    format!(
        "Memory cgroup out of memory: Killed process in container {}; {limit}",
        container.name
    )
}

/// How a run ended of which nothing is known.
pub(crate) fn unknown(id: String) -> Exit {
    Exit {
        code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: Some("The container could not be located when the pod was terminated".into()),
        started_at: None,
        finished_at: Timestamp::now(),
        id,
    }
}

fn remove_attempt(dir: &Path, attempt: u32) {
    let prefix = format!("{attempt}.log");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|n| n == prefix || n.starts_with(&format!("{prefix}.")))
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn head(path: &PathBuf, limit: usize) -> String {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(path) else {
        return String::new();
    };
    let _ = file.take(limit as u64).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a log, without their prefixes.
fn tail(path: &Path) -> String {
    // Prefixes take space too, so read more than is wanted.
    const WINDOW: u64 = 64 * 1024;
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let len = file.metadata().map_or(0, |m| m.len());
    let start = len.saturating_sub(WINDOW);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    if start > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(MAX_LOG_LINES);
    let mut out = Vec::new();
    for line in &lines[skip..] {
        if let Some(parsed) = format::parse(line) {
            out.extend_from_slice(parsed.text);
            if parsed.complete {
                out.push(b'\n');
            }
        }
    }
    let skip = out.len().saturating_sub(MAX_LOG_BYTES);
    String::from_utf8_lossy(&out[skip..]).into_owned()
}
