//! Roles and bindings: nobody gives what they do not have.

use api::meta;
use api::status::ApiError;
use serde_json::Value;

use super::Hook;
use crate::auth::escalation::BindRefusal;
use crate::pipeline::Call;

pub(super) struct Roles;
pub(super) struct Bindings;

impl Hook for Roles {
    fn admit(&self, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
        if same("rules") && same("aggregationRule") {
            return Ok(());
        }
        let authorizer = &call.state.authorizer;
        authorizer
            .may_write_role(&call.user, &call.namespace, new)
            .map_err(|why| {
                ApiError::forbidden(
                    &call.resource.group,
                    &call.resource.plural,
                    meta::name(new),
                    why,
                )
            })
    }

    fn create_on_update(&self) -> bool {
        true
    }
}

impl Hook for Bindings {
    fn admit(&self, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
        if same("roleRef") && same("subjects") {
            return Ok(());
        }
        let (group, plural) = (&*call.resource.group, &*call.resource.plural);
        match call
            .state
            .authorizer
            .may_bind(&call.user, &call.namespace, new)
        {
            Ok(()) => Ok(()),
            Err(BindRefusal::Escalation(why)) => {
                Err(ApiError::forbidden(group, plural, meta::name(new), why))
            }
            Err(BindRefusal::NoRole { kind, name }) => {
                let plural = if kind == "ClusterRole" {
                    "clusterroles"
                } else {
                    "roles"
                };
                Err(ApiError::not_found_named(group, plural, &name))
            }
        }
    }

    fn create_on_update(&self) -> bool {
        true
    }
}
