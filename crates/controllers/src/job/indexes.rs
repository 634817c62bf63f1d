//! Sets of completion indexes as the API writes them: `0,2-5,7`.

use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The indexes in `text` below `limit`; what cannot be read is left out.
pub(super) fn parse(text: &str, limit: u32) -> BTreeSet<u32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            set.extend((first..=last).take_while(|i| *i < limit));
        }
    }
    set
}

/// Neighbours are joined to ranges where that is shorter.
pub(super) fn write(set: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &index in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => parts.push((index, index)),
        }
    }
    let written: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    written.join(",")
}

/// The index that a pod works on.
pub(super) fn of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}
