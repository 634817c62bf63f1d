//! Webhooks that may only refuse: all that match are asked at the same time.

use std::time::Instant;

use api::status::ApiError;

use super::VALIDATING;
use super::call::{self, Sort};
use super::matches;
use crate::admission::attributes::Attributes;

/// Asks them. The first refusal in the order of the webhooks is the answer.
pub(crate) async fn run(attributes: &Attributes<'_>) -> Result<(), ApiError> {
    let state = &attributes.call.state;
    let webhooks = state.webhooks.validating.get(state, VALIDATING);
    let mut invocations = Vec::new();
    for webhook in webhooks.iter() {
        invocations.extend(matches::invocation(webhook, attributes).await?);
    }
    let asking = invocations
        .iter()
        .enumerate()
        .map(|(index, invocation)| async move {
            let began = Instant::now();
            let asked = call::ask(invocation, attributes, Sort::Validating).await;
            let settled = call::settle(invocation, attributes, Sort::Validating, began, asked)?;
            if settled.is_none() {
                let key = format!(
                    "failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}"
                );
                let annotations = &attributes.call.annotations;
                annotations.add(key, &invocation.webhook.name);
            }
            Ok(())
        });
    futures::future::join_all(asking)
        .await
        .into_iter()
        .collect()
}
