//! Where objects live in the store: `/registry/<group or core>/<plural>/[<namespace>/]<name>`.
//!
//! Invariant: all served versions of a resource share one place and one stored version.

/// The prefix of everything that this server keeps.
pub(crate) const ROOT: &str = "/registry/";

/// The prefixes of what is encrypted in the store: what would give its reader power over others.
pub const SEALED_PREFIXES: &[&str] = &["/registry/core/secrets/"];

/// The prefix of all objects of a group and plural, ending in `/`.
pub(crate) fn prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/")
}

/// The part of a key below its resource's prefix: `namespace/name`, or `name`.
pub(crate) fn local(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// A key's group (core is empty), plural and local part.
pub(crate) fn split(key: &str) -> Option<(&str, &str, &str)> {
    let rest = key.strip_prefix(ROOT)?;
    let (group, rest) = rest.split_once('/')?;
    let (plural, local) = rest.split_once('/')?;
    Some((if group == "core" { "" } else { group }, plural, local))
}
