//! Acting as somebody else: the `Impersonate-*` headers, each part of which must be allowed.

use api::status::ApiError;
use http::HeaderMap;

use crate::auth::rbac::{Attributes, Authorizer, Decision};
use crate::auth::user::{AUTHENTICATED, User};
use crate::query::percent_decode;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";

/// The user as whom the request is to be served; `None` when the caller is themselves.
pub(crate) fn requested(
    authorizer: &Authorizer,
    caller: &User,
    headers: &HeaderMap,
) -> Result<Option<User>, ApiError> {
    let text = |name: &str| -> Vec<String> {
        let all = headers.get_all(name).iter();
        all.filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let extras: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix(EXTRA)?;
            Some((
                percent_decode(key, false).to_lowercase(),
                value.to_str().ok()?.to_owned(),
            ))
        })
        .collect();
    let (names, groups, uids) = (text(USER), text(GROUP), text(UID));
    let Some(name) = names.first() else {
        if groups.is_empty() && uids.is_empty() && extras.is_empty() {
            return Ok(None);
        }
        return Err(ApiError::bad_request(
            "requested impersonation without impersonating a user",
        ));
    };
    let asker = Asker { authorizer, caller };
    let mut user = User {
        name: name.clone(),
        groups,
        ..User::default()
    };
    match name
        .strip_prefix(ACCOUNT)
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, account)) => {
            asker.may("", "serviceaccounts", "", namespace, account)?;
            if user.groups.is_empty() {
                user.groups.push("system:serviceaccounts".to_owned());
                user.groups
                    .push(format!("system:serviceaccounts:{namespace}"));
            }
        }
        None => asker.may("", "users", "", "", name)?,
    }
    for group in headers
        .get_all(GROUP)
        .iter()
        .filter_map(|value| value.to_str().ok())
    {
        asker.may("", "groups", "", "", group)?;
    }
    if let Some(uid) = uids.first() {
        asker.may("authentication.k8s.io", "uids", "", "", uid)?;
        user.uid = uid.clone();
    }
    for (key, value) in extras {
        asker.may("authentication.k8s.io", "userextras", &key, "", &value)?;
        user.extra.entry(key).or_default().push(value);
    }
    let class = if name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        AUTHENTICATED
    };
    if !user.is_in(class) {
        user.groups.push(class.to_owned());
    }
    Ok(Some(user))
}

struct Asker<'a> {
    authorizer: &'a Authorizer,
    caller: &'a User,
}

impl Asker<'_> {
    fn may(
        &self,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let attributes = Attributes {
            verb: "impersonate",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::of(self.caller)
        };
        match self.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }
}
