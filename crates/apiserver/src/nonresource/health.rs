//! `/healthz`, `/livez`, `/readyz`, and their single checks.

use std::sync::atomic::Ordering;

use http::{Response, StatusCode};

use crate::http::{Body, text};
use crate::query::Query;
use crate::state::State;

struct Check {
    name: &'static str,
    /// Whether it is about being ready only, not about being alive.
    ready_only: bool,
    good: fn(&State) -> bool,
}

const CHECKS: &[Check] = &[
    Check {
        name: "ping",
        ready_only: false,
        good: |_| true,
    },
    Check {
        name: "store",
        ready_only: false,
        good: |state| state.cache.alive(),
    },
    Check {
        name: "bootstrap",
        ready_only: true,
        good: |state| state.bootstrapped.load(Ordering::Acquire),
    },
    Check {
        name: "shutdown",
        ready_only: true,
        good: |state| !state.drain.is_cancelled(),
    },
];

/// Answers a health path; `None` for any other.
pub(super) fn serve(state: &State, path: &str, query: &Query) -> Option<Response<Body>> {
    let trimmed = path.trim_end_matches('/');
    let (root, single) = ["/healthz", "/livez", "/readyz"]
        .into_iter()
        .find_map(|root| {
            let rest = trimmed.strip_prefix(root)?;
            match rest.strip_prefix('/') {
                Some(single) => Some((root, Some(single))),
                None if rest.is_empty() => Some((root, None)),
                None => None,
            }
        })?;
    let of_root = |check: &&Check| root == "/readyz" || !check.ready_only;
    if let Some(single) = single {
        let check = CHECKS
            .iter()
            .filter(of_root)
            .find(|check| check.name == single)?;
        return Some(if (check.good)(state) {
            text(StatusCode::OK, "ok")
        } else {
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal server error: not ready",
            )
        });
    }
    let mut report = String::new();
    let mut failed = false;
    for check in CHECKS.iter().filter(of_root) {
        if query.all("exclude").any(|name| name == check.name) {
            report.push_str(&format!("[+]{} excluded: ok\n", check.name));
        } else if (check.good)(state) {
            report.push_str(&format!("[+]{} ok\n", check.name));
        } else {
            failed = true;
            report.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
        }
    }
    let name = root.trim_start_matches('/');
    Some(if failed {
        report.push_str(&format!("{name} check failed\n"));
        text(StatusCode::INTERNAL_SERVER_ERROR, report)
    } else if query.get("verbose").is_some() {
        report.push_str(&format!("{name} check passed\n"));
        text(StatusCode::OK, report)
    } else {
        text(StatusCode::OK, "ok")
    })
}
