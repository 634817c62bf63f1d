//! How many pods each set gets: rolling update, recreation, and scaling in proportion.

use super::sets::{Set, is_rolling, max_surge, max_unavailable, replicas};
use k8s_openapi::api::apps::v1::Deployment;
use std::cmp::Reverse;

/// The sets of a Deployment while a plan changes them.
pub(super) struct Scaling<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) sets: Vec<Set>,
    /// Which of them runs the current template.
    pub(super) new: Option<usize>,
    /// What is told as events.
    pub(super) told: Vec<String>,
}

impl Scaling<'_> {
    pub(super) fn total(&self) -> i32 {
        self.sets
            .iter()
            .map(Set::replicas)
            .fold(0, i32::saturating_add)
    }

    fn available(&self) -> i32 {
        self.sets
            .iter()
            .map(Set::available)
            .fold(0, i32::saturating_add)
    }

    /// The sets of former templates, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        let mut old: Vec<usize> = (0..self.sets.len())
            .filter(|i| Some(*i) != self.new)
            .collect();
        old.sort_by(|a, b| self.sets[*a].age().cmp(&self.sets[*b].age()));
        old
    }

    fn active(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|i| self.sets[*i].replicas() > 0)
            .collect()
    }

    /// Scales one set; answers whether that changed its size.
    fn scale_to(&mut self, index: usize, size: i32) -> bool {
        let set = &mut self.sets[index];
        let before = set.replicas();
        set.set_replicas(size);
        set.annotate_size(self.deployment);
        if before != size {
            let direction = if before < size { "up" } else { "down" };
            let name = set.name();
            self.told.push(format!(
                "Scaled {direction} replica set {name} from {before} to {size}"
            ));
        }
        before != size
    }

    /// The size of the new set that the strategy allows now.
    pub(super) fn new_size(&self) -> i32 {
        let wanted = replicas(self.deployment);
        if !is_rolling(self.deployment) {
            return wanted;
        }
        let has = self.new.map_or(0, |i| self.sets[i].replicas());
        let room = wanted
            .saturating_add(max_surge(self.deployment))
            .saturating_sub(self.total());
        if room <= 0 {
            has
        } else {
            has.saturating_add(room.min(wanted - has))
        }
    }

    /// One step of a rolling update: up with the new, and if that is done, down with the old.
    pub(super) fn roll(&mut self) {
        let wanted = replicas(self.deployment);
        if let Some(new) = self.new {
            let has = self.sets[new].replicas();
            let size = if has > wanted {
                wanted
            } else {
                self.new_size()
            };
            if size != has {
                self.scale_to(new, size);
                return;
            }
        }
        self.roll_down();
    }

    fn roll_down(&mut self) {
        let old = self.old();
        let must_have = replicas(self.deployment) - max_unavailable(self.deployment);
        let missing = self
            .new
            .map_or(0, |i| self.sets[i].replicas() - self.sets[i].available());
        let limit = self.total() - must_have - missing;
        if limit <= 0 || old.iter().all(|i| self.sets[*i].replicas() == 0) {
            return;
        }
        // What does not work anyway goes first: it costs nothing.
        let mut removed = 0;
        for &i in &old {
            let (has, available) = (self.sets[i].replicas(), self.sets[i].available());
            let broken = (limit - removed).min(has - available);
            if has > 0 && broken > 0 {
                self.scale_to(i, has - broken);
                removed += broken;
            }
        }
        let mut spare = self.available() - must_have;
        for &i in &old {
            let has = self.sets[i].replicas();
            let fewer = spare.min(has);
            if fewer > 0 {
                self.scale_to(i, has - fewer);
                spare -= fewer;
            }
        }
    }

    /// Empties every old set; answers whether any was not empty.
    pub(super) fn empty_old(&mut self) -> bool {
        let mut changed = false;
        for i in self.old() {
            if self.sets[i].replicas() > 0 {
                changed |= self.scale_to(i, 0);
            }
        }
        changed
    }

    /// Gives the new set its full size.
    pub(super) fn fill_new(&mut self) {
        if let Some(new) = self.new
            && self.sets[new].replicas() != replicas(self.deployment)
        {
            self.scale_to(new, replicas(self.deployment));
        }
    }

    /// Whether the Deployment's size was changed since its sets were scaled.
    pub(super) fn was_resized(&self) -> bool {
        let wanted = replicas(self.deployment);
        self.active()
            .iter()
            .any(|i| self.sets[*i].desired().is_some_and(|d| d != wanted))
    }

    /// Brings the sets to the Deployment's size without moving between templates.
    pub(super) fn resize(&mut self) {
        let wanted = replicas(self.deployment);
        let active = self.active();
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.old().last().copied()),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(only) = only {
            if self.sets[only].replicas() != wanted || self.sets[only].desired() != Some(wanted) {
                self.scale_to(only, wanted);
            }
            return;
        }
        if self.new.is_some_and(|i| self.is_saturated(i)) {
            self.empty_old();
            return;
        }
        if is_rolling(self.deployment) {
            self.resize_in_proportion(active);
        }
    }

    fn is_saturated(&self, index: usize) -> bool {
        let (set, wanted) = (&self.sets[index], replicas(self.deployment));
        set.replicas() == wanted && set.desired() == Some(wanted) && set.available() == wanted
    }

    fn resize_in_proportion(&mut self, mut active: Vec<usize>) {
        let wanted = replicas(self.deployment);
        let allowed = if wanted > 0 {
            wanted.saturating_add(max_surge(self.deployment))
        } else {
            0
        };
        let difference = allowed - self.total();
        // The largest first; among equals, those that should rather grow or rather shrink.
        active.sort_by(|a, b| {
            let (a, b) = (&self.sets[*a], &self.sets[*b]);
            let by_age = a.age().cmp(&b.age());
            let by_age = if difference > 0 {
                by_age.reverse()
            } else {
                by_age
            };
            Reverse(a.replicas())
                .cmp(&Reverse(b.replicas()))
                .then(by_age)
        });
        let mut sizes = Vec::with_capacity(active.len());
        let mut given = 0;
        for &i in &active {
            let share = self.share(i, difference, given);
            given += share;
            sizes.push(self.sets[i].replicas() + share);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + difference - given).max(0);
        }
        for (i, size) in active.into_iter().zip(sizes) {
            self.scale_to(i, size);
        }
    }

    /// The part of `difference` that goes to a set, of what is not `given` yet.
    fn share(&self, index: usize, difference: i32, given: i32) -> i32 {
        let (size, left) = (self.sets[index].replicas(), difference - given);
        if size == 0 || difference == 0 || left == 0 {
            return 0;
        }
        let fraction = self.fraction(index);
        if difference > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        }
    }

    /// How much a set would grow if it kept its share of the whole.
    fn fraction(&self, index: usize) -> i32 {
        let (set, wanted) = (&self.sets[index], replicas(self.deployment));
        let size = set.replicas();
        if wanted == 0 {
            return -size;
        }
        let status = self
            .deployment
            .status
            .as_ref()
            .and_then(|s| s.replicas)
            .unwrap_or(0);
        let before = set.max().filter(|m| *m > 0).unwrap_or(status);
        if before <= 0 {
            return 0;
        }
        let after = i64::from(wanted.saturating_add(max_surge(self.deployment)));
        let twice = 2 * i64::from(size) * after;
        let rounded = (twice + i64::from(before)) / (2 * i64::from(before));
        i32::try_from(rounded)
            .unwrap_or(i32::MAX)
            .saturating_sub(size)
    }
}
