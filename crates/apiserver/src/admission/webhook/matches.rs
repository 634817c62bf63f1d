//! Whether a webhook is asked of a write, and in which version.

use api::status::ApiError;
use serde_json::Value;

use super::config::Webhook;
use crate::admission::attributes::{Attributes, GroupVersionKind, GroupVersionResource};
use crate::admission::policy::{Facts, Version};

/// A webhook that is to be asked, and of what.
pub(super) struct Invocation<'w> {
    pub(super) webhook: &'w Webhook,
    pub(super) kind: GroupVersionKind,
    pub(super) resource: GroupVersionResource,
}

/// Decides; `None` when the webhook has nothing to do with the write.
pub(super) async fn invocation<'w>(
    webhook: &'w Webhook,
    attributes: &Attributes<'_>,
) -> Result<Option<Invocation<'w>>, ApiError> {
    let Some((resource, kind)) = webhook.constraints.matches(attributes)? else {
        return Ok(None);
    };
    attributes.prepare(&resource).await?;
    let invocation = Invocation {
        webhook,
        kind,
        resource,
    };
    Ok(conditions_match(&invocation, attributes)?.then_some(invocation))
}

/// Whether the webhook's conditions hold.
fn conditions_match(
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
) -> Result<bool, ApiError> {
    let webhook = invocation.webhook;
    if webhook.conditions.is_empty() {
        return Ok(true);
    }
    let version = Version {
        resource: &attributes.resource,
        object: &invocation.resource,
        kind: &invocation.kind,
    };
    let facts = Facts::of(attributes, version, Value::Null);
    let matched = webhook
        .conditions
        .hold(&facts, attributes.call, webhook.fail_open);
    matched.map_err(|why| {
        let resource = &attributes.resource;
        ApiError::forbidden(&resource.group, &resource.resource, &attributes.name, why)
    })
}
