//! From nothing to serving with a hundred thousand objects: opening, and the first full list, which
//! is what fills the caches of an API server.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::engine::Engine;
use super::etcd::Etcd;
use super::{Options, PEER, engines, load, pair};
use crate::report::{Goal, Report};

const OBJECTS: usize = 100_000;
const PREFIX: &str = "/open/";

/// Measures both.
pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let objects = if options.quick { OBJECTS / 10 } else { OBJECTS };
    let folder = options.folder()?;
    eprintln!("filling {objects} objects");
    for engine in engines(folder.path()).await? {
        load::fill(&engine, PREFIX, objects).await?;
        engine.stop().await?;
    }
    let (mut opened, mut listed) = (vec![Vec::new(); 2], vec![Vec::new(); 2]);
    for round in 1..=options.rounds() {
        eprintln!("open: {round} of {}", options.rounds());
        for at in 0..=usize::from(Etcd::is_installed()) {
            let start = Instant::now();
            let engine = match at {
                0 => Engine::ours(&folder.path().join("ours.db")).await?,
                _ => Engine::etcd(&folder.path().join("etcd")).await?,
            };
            opened[at].push(start.elapsed().as_secs_f64() * 1000.0);
            let count = engine.list(PREFIX).await?;
            listed[at].push(start.elapsed().as_secs_f64() * 1000.0);
            ensure!(count == objects, "{count} objects instead of {objects}");
            engine.stop().await?;
        }
    }
    for (what, mut figures, goal) in [
        ("to the first answer", opened, Goal::None),
        ("to all of them in memory", listed, Goal::Under(1000.0)),
    ] {
        figures
            .iter_mut()
            .for_each(|times| times.sort_by(f64::total_cmp));
        let (ours, peer) = pair(&figures);
        report.percentile(
            &format!("open with {objects} objects of 1 KiB, page cache warm, {what}"),
            ours,
            50,
            goal,
            peer.map(|times| (PEER, times)),
        );
    }
    Ok(())
}
