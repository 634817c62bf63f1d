//! A write as expressions see it.

use cel::{Decision, EvalError, Question, Value as Cel, Variables};
use serde_json::{Map, Value};

use super::env::{namespace_decl, request_decl};
use crate::admission::attributes::{Attributes, GroupVersionKind, GroupVersionResource};
use crate::auth::rbac;
use crate::auth::selectors::Selectors;
use crate::auth::user::{AUTHENTICATED, User, service_account_name};
use crate::pipeline::Call;

/// In which version a write is shown.
#[derive(Clone, Copy)]
pub(crate) struct Version<'a> {
    /// What `request.resource` is.
    pub(crate) resource: &'a GroupVersionResource,
    /// The version of the objects.
    pub(crate) object: &'a GroupVersionResource,
    /// What `request.kind` is.
    pub(crate) kind: &'a GroupVersionKind,
}

/// The values of variables, as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(super) object: Value,
    pub(super) old_object: Value,
    pub(super) request: Value,
    pub(super) namespace: Value,
    /// `params`; null where there are none.
    pub(super) params: Value,
    pub(super) question: Question,
}

impl Facts {
    /// Those of a write.
    pub(crate) fn of(attributes: &Attributes<'_>, version: Version<'_>, namespace: Value) -> Self {
        let question = Question {
            group: attributes.resource.group.clone(),
            resource: attributes.resource.resource.clone(),
            subresource: attributes.subresource().to_owned(),
            namespace: attributes.namespace.clone(),
            name: attributes.name.clone(),
            ..Question::default()
        };
        Self {
            object: attributes.shown(&attributes.object, version.object),
            old_object: attributes.shown(&attributes.old_object, version.object),
            request: request(attributes, version),
            namespace,
            params: Value::Null,
            question,
        }
    }

    /// The variables of an environment that has all of these.
    pub(super) fn variables<'a>(
        &'a self,
        asker: &'a Asker<'a>,
    ) -> Result<Variables<'a>, EvalError> {
        let mut variables = Variables::new();
        variables.set("object", Cel::json(&self.object)?);
        variables.set("oldObject", Cel::json(&self.old_object)?);
        variables.set("params", Cel::json(&self.params)?);
        variables.set("request", Cel::wrap(&self.request, request_decl())?);
        variables.set(
            "namespaceObject",
            Cel::wrap(&self.namespace, namespace_decl())?,
        );
        variables.set_authorizer("authorizer", asker);
        variables.set_resource_check("authorizer.requestResource", self.question.clone());
        Ok(variables)
    }
}

fn request(attributes: &Attributes<'_>, version: Version<'_>) -> Value {
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = matches!(&value, Value::String(text) if text.is_empty()) || value.is_null();
        if !empty {
            request.insert(name.to_owned(), value);
        }
    };
    put("kind", version.kind.to_value());
    put("resource", version.resource.to_value());
    put("subResource", attributes.subresource().into());
    put("requestKind", attributes.kind.to_value());
    put("requestResource", attributes.resource.to_value());
    put("requestSubResource", attributes.subresource().into());
    put("name", attributes.name.as_str().into());
    put("namespace", attributes.namespace.as_str().into());
    put("operation", attributes.operation.name().into());
    put("userInfo", attributes.call.user.to_value());
    put("dryRun", attributes.dry_run.into());
    put("options", attributes.options.clone());
    Value::Object(request)
}

/// Answers what expressions ask the authorizer about the caller.
pub(super) struct Asker<'c>(pub(super) &'c Call);

impl cel::Authorizer for Asker<'_> {
    fn decide(&self, question: &Question) -> Decision {
        let account;
        let user = match &question.service_account {
            None => &*self.0.user,
            Some((namespace, name)) => {
                account = User {
                    name: service_account_name(namespace, name),
                    groups: vec![
                        "system:serviceaccounts".to_owned(),
                        format!("system:serviceaccounts:{namespace}"),
                        AUTHENTICATED.to_owned(),
                    ],
                    ..User::default()
                };
                &account
            }
        };
        let selectors = Selectors::parse(&question.field_selector, &question.label_selector);
        let attributes = rbac::Attributes {
            user,
            verb: &question.verb,
            group: &question.group,
            version: "*",
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            path: question.path.as_deref().unwrap_or_default(),
            selectors: &selectors,
        };
        let (allowed, reason) = match self.0.state.authorizer.authorize(&attributes) {
            rbac::Decision::Allow(reason) => (true, reason),
            rbac::Decision::NoOpinion(reason) => (false, reason),
        };
        Decision {
            allowed,
            reason,
            error: String::new(),
        }
    }
}
