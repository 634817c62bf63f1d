//! Admission plugins.

mod kinds;
mod pod_security;
mod policies;
mod policy_status;
mod quota;
mod webhooks;

use crate::harness::Answer;

/// What a client is warned of.
fn warnings(answer: &Answer) -> Vec<String> {
    let all = answer.headers.get_all("warning").iter();
    all.map(|value| {
        let text = value.to_str().unwrap();
        let quoted = text.strip_prefix("299 - \"").unwrap();
        quoted.strip_suffix('"').unwrap().replace("\\\"", "\"")
    })
    .collect()
}
