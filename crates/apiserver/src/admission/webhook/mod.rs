//! Admission webhooks: servers outside that are asked before a write.
//! Facts: `apiserver/pkg/admission/plugin/webhook` of 1.36.
//!
//! Invariants: a webhook is asked only of what its rules, selectors and conditions name; one that
//! cannot be asked refuses the write unless it says otherwise; configurations of admission itself
//! are asked of nobody.

mod call;
mod config;
mod matches;
pub(crate) mod metrics;
pub(crate) mod mutating;
mod review;
pub(crate) mod validating;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use self::config::Webhook;
use self::metrics::WebhookMetrics;
use super::policy::mutating::PolicyReinvocation;
use crate::state::State;

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: &str = "mutatingwebhookconfigurations";
const VALIDATING: &str = "validatingwebhookconfigurations";

/// The webhooks of one sort, read from the configurations when those have changed.
#[derive(Default)]
struct Read(Mutex<Option<(u64, Arc<[Webhook]>)>>);

impl Read {
    fn get(&self, state: &State, plural: &str) -> Arc<[Webhook]> {
        let kind = state.cache.kind(GROUP, plural);
        // Before the objects: what changes in between is read again.
        let generation = kind.generation();
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, webhooks)) = &*read
            && *of == generation
        {
            return webhooks.clone();
        }
        let objects = kind.list(None);
        let webhooks: Arc<[Webhook]> = objects
            .iter()
            .flat_map(|object| config::webhooks(&object.value()))
            .collect();
        *read = Some((generation, webhooks.clone()));
        webhooks
    }
}

/// The webhooks of this server.
#[derive(Default)]
pub(crate) struct Webhooks {
    mutating: Read,
    validating: Read,
    pub(crate) metrics: WebhookMetrics,
}

/// Whether there is any configuration.
pub(crate) fn any(state: &State) -> bool {
    let is_empty = |plural| state.cache.kind(GROUP, plural).is_empty();
    !is_empty(MUTATING) || !is_empty(VALIDATING)
}

/// Who is asked again, because somebody after them changed the object.
#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    round: usize,
    /// Asked, and willing to be asked again.
    asked: BTreeSet<String>,
    /// To be asked again.
    due: BTreeSet<String>,
    /// The object as the last round left it.
    left: Value,
    /// The same, of policies.
    pub(super) policies: PolicyReinvocation,
}

impl Reinvocation {
    /// Begins the second round.
    pub(crate) fn next_round(&mut self) {
        self.round = 1;
    }

    /// Whether this is the first round.
    pub(super) fn is_first(&self) -> bool {
        self.round == 0
    }

    pub(super) fn changed(&mut self) {
        self.due.append(&mut self.asked);
    }
}
