//! Security contexts of containers and pods.

use super::at::{At, Errors};

const MAX_ID: i64 = 2_147_483_647;

/// `securityContext` of a container.
pub(super) fn container(at: &At<'_, '_>, out: &mut Errors) {
    if !at.is_set() {
        return;
    }
    out.range(&at.field("runAsUser"), 0, MAX_ID);
    out.range(&at.field("runAsGroup"), 0, MAX_ID);
    out.any_of(&at.field("procMount"), &["Default", "Unmasked"]);
    profiles(at, out);
    if at.field("allowPrivilegeEscalation").value == false {
        if at.field("privileged").flag() {
            out.invalid(
                at,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let added = at.field("capabilities.add");
        if added.items().any(|c| c.text() == "CAP_SYS_ADMIN") {
            out.invalid(at, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}

fn profiles(at: &At<'_, '_>, out: &mut Errors) {
    for (field, name) in [
        ("seccompProfile", "seccomp"),
        ("appArmorProfile", "AppArmor"),
    ] {
        let profile = at.field(field);
        if !profile.is_set() {
            continue;
        }
        let (kind, local) = (profile.field("type"), profile.field("localhostProfile"));
        if kind.is_empty() {
            out.required(&kind, &format!("type is required when {field} is set"));
            continue;
        }
        out.any_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
        if kind.text() == "Localhost" {
            if local.is_empty() {
                out.required(
                    &local,
                    &format!("must be set when {name} type is Localhost"),
                );
            } else {
                relative_path(&local, out);
            }
        } else if local.is_set() {
            out.invalid(
                &local,
                format!("can only be set when {name} type is Localhost"),
            );
        }
    }
}

/// A path below something, which never leads out of it.
pub(super) fn relative_path(at: &At<'_, '_>, out: &mut Errors) {
    if at.text().starts_with('/') {
        out.invalid(at, "must be a relative path");
    }
    no_backsteps(at, out);
}

/// A path without `..`.
pub(super) fn no_backsteps(at: &At<'_, '_>, out: &mut Errors) {
    if at.text().split('/').any(|part| part == "..") {
        out.invalid(at, "must not contain '..'");
    }
}

/// `securityContext` of a pod.
pub(super) fn pod(spec: &At<'_, '_>, out: &mut Errors) {
    let at = spec.field("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        out.range(&at.field(field), 0, MAX_ID);
    }
    let groups = at.field("supplementalGroups");
    for group in groups.items() {
        out.range(&group, 0, MAX_ID);
    }
    out.any_of(
        &at.field("fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
    );
    out.any_of(&at.field("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    profiles(&at, out);
    let shared = spec.field("shareProcessNamespace");
    if shared.flag() && spec.field("hostPID").flag() {
        out.invalid(
            &shared,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    if spec.field("hostUsers").value == false {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            let field = spec.field(field);
            if field.flag() {
                out.forbidden(&field, "when `pod.Spec.HostUsers` is false");
            }
        }
    }
    sysctls(&at.field("sysctls"), out);
}

fn sysctls(at: &At<'_, '_>, out: &mut Errors) {
    const FORM: &str = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?([\\./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
    let mut seen = std::collections::HashSet::new();
    for sysctl in at.items() {
        let name = sysctl.field("name");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = |part: &str| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|b| plain(*b))
                && bytes.last().is_some_and(|b| plain(*b))
                && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
        };
        if name.is_empty() {
            out.required(&name, "");
        } else if name.text().len() > 253 || !name.text().split(['.', '/']).all(good) {
            out.invalid(
                &name,
                format!("must have at most 253 characters and match regex ^{FORM}$"),
            );
        } else if !seen.insert(name.text()) {
            out.duplicate(&name);
        }
    }
}
