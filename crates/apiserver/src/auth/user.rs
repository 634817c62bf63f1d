//! The identity of a caller.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cel::{Decl, ListKind, Shape};
use serde_json::{Map, Value, json};

/// The group of all who have shown credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";

/// Who makes a request. As a request extension it is trusted (in-process callers).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name, such as `system:node:a` or `jane`.
    pub name: String,
    /// A unique id, may be empty.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The caller without credentials.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self {
            name: "system:anonymous".into(),
            groups,
            ..Self::default()
        }
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// `authentication.k8s.io` UserInfo; what is empty is left out.
    pub fn to_value(&self) -> Value {
        let mut info = Map::new();
        let mut put = |key: &str, value: Value, is_empty: bool| {
            if !is_empty {
                info.insert(key.to_owned(), value);
            }
        };
        put("username", json!(self.name), self.name.is_empty());
        put("uid", json!(self.uid), self.uid.is_empty());
        put("groups", json!(self.groups), self.groups.is_empty());
        put("extra", json!(self.extra), self.extra.is_empty());
        Value::Object(info)
    }
}

/// What expressions see of a user.
pub(crate) fn decl() -> &'static Arc<Decl> {
    static DECL: OnceLock<Arc<Decl>> = OnceLock::new();
    DECL.get_or_init(|| {
        let decl = |shape| Arc::new(Decl::new(shape));
        let text = decl(Shape::String);
        let texts = decl(Shape::List(text.clone(), ListKind::Atomic));
        let fields = [
            ("username", text.clone()),
            ("uid", text),
            ("groups", texts.clone()),
            ("extra", decl(Shape::Map(texts))),
        ];
        Arc::new(Decl::object("kubernetes.UserInfo", fields))
    })
}

/// The user name of a service account.
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
