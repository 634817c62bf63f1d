//! Figures, as a table for people and as JSON for machines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::machine;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Nothing in particular.
    None,
    /// Less than so much.
    Under(f64),
    /// At least so many times the peer's.
    Times(f64),
    /// No more than the peer's.
    NoWorse,
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Goal::None => "–".to_owned(),
            Goal::Under(most) => format!("< {most:.0} {unit}"),
            Goal::Times(least) => format!("≥ {least}× the peer's"),
            Goal::NoWorse => "≤ the peer's".to_owned(),
        }
    }

    /// Whether it is met; unknown without a goal, or without the peer that it needs.
    fn is_met(self, value: f64, peer: Option<f64>) -> Option<bool> {
        match self {
            Goal::None => None,
            Goal::Under(most) => Some(value < most),
            Goal::Times(least) => peer.map(|peer| value >= peer * least),
            Goal::NoWorse => peer.map(|peer| value <= peer),
        }
    }
}

/// One line of the table.
struct Figure {
    what: String,
    unit: &'static str,
    value: f64,
    goal: Goal,
    /// Whether more is better.
    is_rate: bool,
    peer: Option<(String, f64)>,
    note: String,
}

/// All figures of a run; of rates more is better, of everything else less.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    charts: Vec<(String, String)>,
}

impl Report {
    /// Adds a figure of which less is better.
    pub(crate) fn add(
        &mut self,
        what: &str,
        unit: &'static str,
        value: f64,
        goal: Goal,
        note: &str,
    ) {
        let (what, note) = (what.to_owned(), note.to_owned());
        self.figures.push(Figure {
            what,
            unit,
            value,
            goal,
            is_rate: false,
            peer: None,
            note,
        });
    }

    /// Adds the median of several timings, in milliseconds.
    pub(crate) fn times(&mut self, what: &str, times: &[Duration], goal_ms: Goal) {
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

    /// Adds the median of several rates.
    pub(crate) fn rates(
        &mut self,
        what: &str,
        unit: &'static str,
        rates: &[f64],
        goal: Goal,
        peer: Option<(&str, &[f64])>,
    ) {
        let mut sorted = rates.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else {
            return;
        };
        let note = format!("median of {}, {low:.0} to {high:.0}", sorted.len());
        self.add(what, unit, sorted[sorted.len() / 2], goal, &note);
        if let Some(figure) = self.figures.last_mut() {
            figure.is_rate = true;
        }
        if let Some((name, rates)) = peer {
            let mut sorted = rates.to_vec();
            sorted.sort_by(f64::total_cmp);
            if let Some(median) = sorted.get(sorted.len() / 2) {
                self.peer(name, *median);
            }
        }
    }

    /// Adds a percentile of sorted times in milliseconds.
    pub(crate) fn percentile(
        &mut self,
        what: &str,
        sorted_ms: &[f64],
        percent: usize,
        goal: Goal,
        peer: Option<(&str, &[f64])>,
    ) {
        self.percentile_in("ms", what, sorted_ms, percent, goal, peer);
    }

    /// Adds a percentile of sorted times in a unit.
    pub(crate) fn percentile_in(
        &mut self,
        unit: &'static str,
        what: &str,
        sorted: &[f64],
        percent: usize,
        goal: Goal,
        peer: Option<(&str, &[f64])>,
    ) {
        let at = |sorted: &[f64]| {
            let last = sorted.len().checked_sub(1)?;
            Some(sorted[(sorted.len() * percent / 100).min(last)])
        };
        let Some(value) = at(sorted) else { return };
        self.add(what, unit, value, goal, &format!("of {}", sorted.len()));
        if let Some((name, theirs)) = peer
            && let Some(theirs) = at(theirs)
        {
            self.peer(name, theirs);
        }
    }

    /// Adds a curve, to be drawn below the table.
    pub(crate) fn chart(&mut self, what: &str, lines: String) {
        self.charts.push((what.to_owned(), lines));
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
                is_rate,
                peer,
                note,
            } = figure;
            let goal_text = goal.text(unit);
            let met = match goal.is_met(*value, peer.as_ref().map(|(_, value)| *value)) {
                None => "–",
                Some(true) => "yes",
                Some(false) => "**no**",
            };
            let (peer_text, ratio) = match peer {
                Some((name, theirs)) => {
                    let ratio = if *is_rate {
                        value / theirs
                    } else {
                        theirs / value
                    };
                    (
                        format!("{name}: {theirs:.1} {unit}"),
                        format!("{ratio:.2}×"),
                    )
                }
                None => ("–".to_owned(), "–".to_owned()),
            };
            out.push_str(&format!(
                "| {what} | {value:.1} {unit} | {goal_text} | {met} | {peer_text} | {ratio} | {note} |\n"
            ));
        }
        for (what, lines) in &self.charts {
            out.push_str(&format!(
                "\n{what}, from the beginning to the end:\n\n```text\n{lines}```\n"
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
                "goal": figure.goal.text(figure.unit), "note": figure.note,
                "peer": figure.peer.as_ref().map(|(name, value)| json!({"name": name, "value": value})),
            })).collect::<Vec<_>>(),
        })
    }
}
