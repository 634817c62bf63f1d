//! Capabilities, seccomp and the other confinements of a container.
//!
//! Invariant: what the spec does not say is decided for safety: the default
//! capabilities, the runtime's default seccomp profile.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

/// The seccomp profile of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// None.
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// A file below the node's seccomp directory.
    Localhost(PathBuf),
}

/// Why a container's confinement cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecurityError {
    /// A profile that lies outside the profile directory, or none named.
    #[error("seccomp profile \"{path}\" is not a relative path below the profile directory")]
    ProfilePath {
        /// As it was written.
        path: String,
    },
    /// A sysctl that is not namespaced or not known to be safe.
    #[error("forbidden sysctl: \"{name}\" {why}")]
    Sysctl {
        /// Its name.
        name: String,
        /// Why it is forbidden.
        why: &'static str,
    },
}

/// Whether the container is privileged.
pub(crate) fn privileged(c: &Container) -> bool {
    c.security_context
        .as_ref()
        .is_some_and(|s| s.privileged == Some(true))
}

/// Whether the process must not gain privileges.
pub(crate) fn no_new_privileges(c: &Container) -> bool {
    c.security_context
        .as_ref()
        .is_some_and(|s| s.allow_privilege_escalation == Some(false))
        && !privileged(c)
}

/// The capabilities that a container adds to and drops from the default ones.
pub(crate) fn capabilities(c: &Container) -> (Vec<String>, Vec<String>) {
    let caps = c
        .security_context
        .as_ref()
        .and_then(|s| s.capabilities.clone())
        .unwrap_or_default();
    (caps.add.unwrap_or_default(), caps.drop.unwrap_or_default())
}

/// The seccomp profile of a container; `dir` holds the `Localhost` ones.
///
/// # Errors
/// When a `Localhost` profile points out of `dir`.
pub(crate) fn seccomp(pod: &Pod, c: &Container, dir: &Path) -> Result<Profile, SecurityError> {
    if privileged(c) {
        return Ok(Profile::Unconfined);
    }
    let own = c
        .security_context
        .as_ref()
        .and_then(|s| s.seccomp_profile.as_ref());
    let shared = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.as_ref())
        .and_then(|s| s.seccomp_profile.as_ref());
    let profile: Option<&SeccompProfile> = own.or(shared);
    let Some(profile) = profile else {
        return Ok(Profile::RuntimeDefault);
    };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Profile::Unconfined),
        "Localhost" => {
            let text = profile.localhost_profile.as_deref().unwrap_or_default();
            let path = Path::new(text);
            let inside = !text.is_empty()
                && path
                    .components()
                    .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !inside {
                return Err(SecurityError::ProfilePath {
                    path: text.to_owned(),
                });
            }
            Ok(Profile::Localhost(dir.join(path)))
        }
        _ => Ok(Profile::RuntimeDefault),
    }
}

/// Sysctls that any pod may set.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The sysctls of a pod, dots for slashes.
///
/// # Errors
/// When one is not in the safe set, or belongs to a namespace that the pod shares with the host.
pub(crate) fn sysctls(pod: &Pod) -> Result<Vec<(String, String)>, SecurityError> {
    let Some(spec) = &pod.spec else {
        return Ok(Vec::new());
    };
    let list = spec
        .security_context
        .as_ref()
        .and_then(|s| s.sysctls.as_deref())
        .unwrap_or_default();
    list.iter()
        .map(|s| {
            let name = s.name.replace('/', ".");
            let forbid = |why| {
                Err(SecurityError::Sysctl {
                    name: s.name.clone(),
                    why,
                })
            };
            if !SAFE_SYSCTLS.contains(&name.as_str()) {
                return forbid("not allowlisted");
            }
            if name.starts_with("net.") && spec.host_network == Some(true) {
                return forbid("not allowed with host net enabled");
            }
            if name.starts_with("kernel.") && spec.host_ipc == Some(true) {
                return forbid("not allowed with host ipc enabled");
            }
            Ok((name, s.value.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn seccomp_is_on_unless_switched_off() {
        let dir = Path::new("/p");
        let local =
            |p: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": p}});
        let table = [
            (json!({}), json!({}), Ok(Profile::RuntimeDefault)),
            (
                json!({"privileged": true}),
                json!({}),
                Ok(Profile::Unconfined),
            ),
            (
                json!({}),
                json!({"seccompProfile": {"type": "Unconfined"}}),
                Ok(Profile::Unconfined),
            ),
            (
                json!({"seccompProfile": {"type": "RuntimeDefault"}}),
                json!({"seccompProfile": {"type": "Unconfined"}}),
                Ok(Profile::RuntimeDefault),
            ),
            (
                local("a/b.json"),
                json!({}),
                Ok(Profile::Localhost("/p/a/b.json".into())),
            ),
            (
                local("../x"),
                json!({}),
                Err(SecurityError::ProfilePath {
                    path: "../x".into(),
                }),
            ),
            (
                local("/etc/x"),
                json!({}),
                Err(SecurityError::ProfilePath {
                    path: "/etc/x".into(),
                }),
            ),
        ];
        for (own, shared, want) in table {
            let pod: Pod = serde_json::from_value(json!({"spec": {"securityContext": shared,
                "containers": [{"name": "c", "securityContext": own}]}}))
            .unwrap();
            let c = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(seccomp(&pod, c, dir), want, "{own}");
        }
    }

    #[test]
    fn sysctls_are_checked() {
        let pod = |name: &str, host: bool| -> Pod {
            serde_json::from_value(json!({"spec": {"hostNetwork": host, "containers": [],
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
            .unwrap()
        };
        assert!(sysctls(&pod("net/ipv4/tcp_syncookies", false)).is_ok());
        for (name, host) in [
            ("kernel.msgmax", false),
            ("vm.swappiness", false),
            ("net.ipv4.tcp_syncookies", true),
        ] {
            assert!(sysctls(&pod(name, host)).is_err(), "{name}");
        }
    }
}
