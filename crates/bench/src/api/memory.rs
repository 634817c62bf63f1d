//! Resident memory with many objects.

use std::time::Duration;

use anyhow::Result;

use super::target::Target;
use super::{Options, PEER, fanout, load};
use crate::report::{Goal, Report};

/// How many configmaps of 1 KiB.
const OBJECTS: usize = 50_000;
/// How long caches and collectors have to settle.
const SETTLE: Duration = Duration::from_secs(15);

/// Measures each before and after.
pub(super) async fn measure(
    options: &Options,
    targets: &[Target],
    report: &mut Report,
) -> Result<()> {
    let count = if options.quick { OBJECTS / 10 } else { OBJECTS };
    let mut figures = Vec::new();
    for target in targets.iter().filter(|target| !target.pids.is_empty()) {
        let before = fanout::resident(target)?;
        eprintln!("{count} configmaps");
        target.namespace("bench-memory").await?;
        load::fill(target, "bench-memory", count).await?;
        tokio::time::sleep(SETTLE).await;
        figures.push((before, fanout::resident(target)?));
    }
    let Some((before, after)) = figures.first().copied() else {
        return Ok(());
    };
    let peer = figures.get(1).copied();
    let goal = peer.map_or(Goal::None, |(_, after)| Goal::Under(after / 5.0));
    let note = format!("{before:.0} MiB before, after the parts above");
    let what = format!("resident memory after {count} configmaps of 1 KiB");
    report.add(&what, "MiB", after, goal, &note);
    if let Some((_, after)) = peer {
        report.peer(PEER, after);
    }
    Ok(())
}
