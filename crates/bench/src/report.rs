//! Figures, as a table for people and as JSON for machines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::machine;

/// One line of the table.
struct Figure {
    what: String,
    unit: &'static str,
    value: f64,
    goal: Option<f64>,
    peer: Option<(String, f64)>,
    note: String,
}

/// All figures of a run; smaller is better in each.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure with the number that it should stay under.
    pub(crate) fn add(
        &mut self,
        what: &str,
        unit: &'static str,
        value: f64,
        goal: Option<f64>,
        note: &str,
    ) {
        let (what, note) = (what.to_owned(), note.to_owned());
        self.figures.push(Figure {
            what,
            unit,
            value,
            goal,
            peer: None,
            note,
        });
    }

    /// Adds the median of several timings, in milliseconds.
    pub(crate) fn times(&mut self, what: &str, times: &[Duration], goal_ms: Option<f64>) {
        let mut ms: Vec<f64> = times
            .iter()
            .map(|time| time.as_secs_f64() * 1000.0)
            .collect();
        ms.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (ms.first(), ms.last()) else {
            return;
        };
        let note = format!("median of {}, {low:.1} to {high:.1}", ms.len());
        self.add(what, "ms", ms[ms.len() / 2], goal_ms, &note);
    }

    /// Puts a peer's figure of the same run beside the last one added.
    pub(crate) fn peer(&mut self, name: &str, value: f64) {
        if let Some(figure) = self.figures.last_mut() {
            figure.peer = Some((name.to_owned(), value));
        }
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for (name, fact) in machine::facts() {
            out.push_str(&format!("{name}: {fact}\n"));
        }
        out.push_str("\n| what | measured | goal | met | peer in the same run | ratio | how |\n");
        out.push_str("| --- | ---: | ---: | --- | --- | ---: | --- |\n");
        for figure in &self.figures {
            let Figure {
                what,
                unit,
                value,
                goal,
                peer,
                note,
            } = figure;
            let goal_text = goal.map_or("–".to_owned(), |goal| format!("< {goal} {unit}"));
            let met = match goal {
                None => "–",
                Some(goal) if value < goal => "yes",
                Some(_) => "**no**",
            };
            let (peer_text, ratio) = match peer {
                Some((name, theirs)) => (
                    format!("{name}: {theirs:.1} {unit}"),
                    format!("{:.2}×", theirs / value),
                ),
                None => ("–".to_owned(), "–".to_owned()),
            };
            out.push_str(&format!(
                "| {what} | {value:.1} {unit} | {goal_text} | {met} | {peer_text} | {ratio} | {note} |\n"
            ));
        }
        out
    }

    /// The same as data.
    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": machine::facts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "figures": self.figures.iter().map(|figure| json!({
                "what": figure.what, "unit": figure.unit, "value": figure.value,
                "goal": figure.goal, "note": figure.note,
                "peer": figure.peer.as_ref().map(|(name, value)| json!({"name": name, "value": value})),
            })).collect::<Vec<_>>(),
        })
    }
}
