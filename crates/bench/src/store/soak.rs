//! A million updates over ten thousand keys: what the store occupies must stay flat after warm-up.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures::stream::StreamExt as _;
use store::{Expect, Retention, Revision, Store, Write};

use super::{Options, load};
use crate::footprint;
use crate::report::{Goal, Report};

const KEYS: usize = 10_000;
const UPDATES: usize = 1_000_000;
const SAMPLES: usize = 40;
const CLIENTS: usize = 64;
/// Shorter than by default, so that history comes to its bound within the run.
const KEPT: Retention = Retention {
    revisions: 1000,
    age: Duration::from_secs(5),
};
/// How much a later sample may be above the largest of the first half.
const FLAT: f64 = 1.10;
const CHART_ROWS: usize = 8;

/// The size of something over the run.
struct Curve {
    what: &'static str,
    mib: Vec<f64>,
}

/// Runs it and draws the curves.
pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let updates = if options.quick { UPDATES / 10 } else { UPDATES };
    let folder = options.folder()?;
    let path = folder.path().join("soak.db");
    let settings = store::Options {
        retention: Some(KEPT),
        ..store::Options::default()
    };
    let store = Store::open(&path, settings).await?;
    let mut revisions = vec![0; KEYS];
    let mut curves = [
        "the database's file",
        "the write-ahead log",
        "resident memory of this process",
    ]
    .map(|what| Curve {
        what,
        mib: Vec::new(),
    });
    let mut number = 0;
    for sample in 1..=SAMPLES {
        let mut left = updates / SAMPLES;
        while left > 0 {
            // A key comes again only when its last write has been answered.
            let part = left.min(KEYS);
            update(&store, &mut revisions, &mut number, part).await?;
            left -= part;
        }
        let sizes = [
            size_mib(&path),
            size_mib(&folder.path().join("soak.db-wal")),
            footprint::memory_mib(std::process::id())?.0,
        ];
        for (curve, mib) in curves.iter_mut().zip(sizes) {
            curve.mib.push(mib);
        }
        eprintln!("soak: {sample} of {SAMPLES}, {sizes:.1?} MiB");
    }
    store.close().await;
    for curve in curves {
        let (first, second) = curve.mib.split_at(SAMPLES / 2);
        let largest = |mib: &[f64]| mib.iter().copied().fold(0.0, f64::max);
        report.add(
            &format!("soak of {updates} updates over {KEYS} keys: {}", curve.what),
            "MiB",
            largest(second),
            Goal::Under(largest(first) * FLAT),
            "the most in the second half; the goal is the most in the first half and a tenth",
        );
        report.chart(curve.what, chart(&curve.mib));
    }
    Ok(())
}

/// Writes so many keys, each once, always some at the same time.
async fn update(
    store: &Store,
    revisions: &mut [u64],
    number: &mut usize,
    count: usize,
) -> Result<()> {
    let writes = (*number..*number + count).map(|number| {
        let key = number % KEYS;
        let expect = match revisions[key] {
            0 => Expect::Absent,
            at => Expect::At(Revision(at)),
        };
        let write = Write::put(
            format!("/soak/{key:08}"),
            expect,
            load::value(number as u64),
        );
        async move { Ok::<_, store::StoreError>((key, store.write(write).await?)) }
    });
    let mut answers = futures::stream::iter(writes).buffer_unordered(CLIENTS);
    let mut new = Vec::with_capacity(count);
    while let Some(answer) = answers.next().await {
        new.push(answer?);
    }
    drop(answers);
    for (key, revision) in new {
        revisions[key] = revision.0;
    }
    *number += count;
    Ok(())
}

fn size_mib(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |file| file.len() as f64 / f64::from(1 << 20))
}

/// A small chart of text: time to the right, size upwards from 0.
fn chart(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let mut out = String::new();
    for row in (1..=CHART_ROWS).rev() {
        let line = most * (row as f64 - 0.5) / CHART_ROWS as f64;
        let label = if row == CHART_ROWS {
            format!("{most:>8.1} MiB")
        } else {
            " ".repeat(12)
        };
        let bars: String = values
            .iter()
            .map(|value| if *value >= line { '█' } else { ' ' })
            .collect();
        out.push_str(&format!("{label} │{}\n", bars.trim_end()));
    }
    out.push_str(&format!(
        "{:>12} └{}\n",
        "0.0 MiB",
        "─".repeat(values.len())
    ));
    out
}
