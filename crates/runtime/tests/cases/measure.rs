//! What a shim costs. Prints; run with `--ignored`, better on a release build.

use std::time::{Duration, Instant};

use runtime::{Exec, Seccomp};

use crate::support::*;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub(crate) async fn start_and_memory() {
    const ROUNDS: usize = 31;
    let (mut launch, mut start, mut second, mut exec, mut total, mut stop) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let bed = Bed::new();
        let begin = Instant::now();
        let shim = bed.launch().await;
        launch.push(begin.elapsed());
        let mut spec = bed.script("c1", "sleep 600");
        spec.seccomp = Seccomp::RuntimeDefault;
        let at = Instant::now();
        shim.start(&spec).await.unwrap();
        start.push(at.elapsed());
        total.push(begin.elapsed());
        spec.id = "c2".into();
        let at = Instant::now();
        shim.start(&spec).await.unwrap();
        second.push(at.elapsed());
        let at = Instant::now();
        let argv = vec!["true".to_owned()];
        let mut session = shim
            .exec(
                "c1",
                &Exec {
                    argv,
                    ..Exec::default()
                },
            )
            .await
            .unwrap();
        session.wait().await.unwrap();
        exec.push(at.elapsed());
        if round == 0 {
            let text =
                std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.pid())).unwrap();
            for name in ["Rss", "Pss", "Pss_Anon", "Private_Dirty"] {
                println!(
                    "shim {}",
                    text.lines()
                        .find(|l| l.starts_with(&format!("{name}:")))
                        .unwrap()
                );
            }
        }
        let at = Instant::now();
        shim.shutdown().await.unwrap();
        stop.push(at.elapsed());
    }
    for (name, times) in [
        ("launch", launch),
        ("first start", start),
        ("launch + first start", total),
        ("second start", second),
        ("exec true", exec),
        ("shutdown", stop),
    ] {
        let (least, most) = (
            times.iter().min().copied().unwrap(),
            times.iter().max().copied().unwrap(),
        );
        println!(
            "{name}: median {:?}, least {least:?}, most {most:?}",
            median(times)
        );
    }
}
