//! The checks of `baseline`: what gives power over the host.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Pod, Violation, containers, plural, quoted, unless_own_users};
use crate::hooks::text;

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SE_LINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];

/// By the minor version since which they are safe.
const SYSCTLS: &[(u32, &[&str])] = &[
    (
        0,
        &[
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
        ],
    ),
    (27, &["net.ipv4.ip_local_reserved_ports"]),
    (
        29,
        &[
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ],
    ),
    (32, &["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]),
];

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The items of a list below a value.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn is(value: &Value, pointer: &str, wanted: bool) -> bool {
    value.pointer(pointer).and_then(Value::as_bool) == Some(wanted)
}

/// Whether a profile of seccomp or AppArmor confines.
pub(super) fn confines(profile: &Value) -> bool {
    matches!(text(profile, "/type"), "RuntimeDefault" | "Localhost")
}

/// A member that is set.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).filter(|value| !value.is_null())
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| {
        let profile = member(context, "appArmorProfile").filter(|p| !confines(p));
        values.extend(profile.map(|profile| text(profile, "/type").to_owned()));
        profile.is_some()
    });
    let mut annotations: Vec<String> = Vec::new();
    for (key, value) in pod.annotations.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let fine = matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
        if key.starts_with(APP_ARMOR) && !fine {
            annotations.push(format!("{key}={value:?}"));
        }
    }
    annotations.sort();
    let mut who: Vec<String> = setters.words().into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", annotations.len()));
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = if values.len() == 1 {
        "forbidden AppArmor profile"
    } else {
        "forbidden AppArmor profiles"
    };
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        who.join(" and "),
        quoted(values)
    );
    Some(Violation::new(reason, detail))
}

/// Which containers add capabilities beyond the allowed ones, in words.
pub(super) fn added(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let mut bad = BTreeSet::new();
    let names = pod.which(|container| {
        let more: Vec<&str> = items(container, "/securityContext/capabilities/add")
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
            .collect();
        bad.extend(more.iter().copied());
        !more.is_empty()
    });
    (!names.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted(bad)
        )
    })
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    added(pod, CAPABILITIES).map(|detail| Violation::new("non-default capabilities", detail))
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|name| is(pod.spec, &format!("/{name}"), true))
        .map(|name| format!("{name}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

pub(super) fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = items(pod.spec, "/volumes")
        .filter(|volume| member(volume, "hostPath").is_some())
        .map(|volume| text(volume, "/name"))
        .collect();
    (!names.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", names.len()), quoted(&names));
        Violation::new("hostPath volumes", detail)
    })
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = pod.which(|container| {
        let used: Vec<String> = items(container, "/ports")
            .filter_map(|port| port.get("hostPort").and_then(Value::as_i64))
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        ports.extend(used.iter().cloned());
        !used.is_empty()
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", names.len()),
            plural("hostPort", ports.len()),
            ports.into_iter().collect::<Vec<_>>().join(", ")
        );
        Violation::new("hostPort", detail)
    })
}

pub(super) fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: &[&str] = &[
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let mut hosts = BTreeSet::new();
    let mut names = pod.which(|container| {
        let named: Vec<&str> = HANDLERS
            .iter()
            .filter_map(|handler| container.pointer(handler))
            .flat_map(|handler| ["/httpGet/host", "/tcpSocket/host"].map(|at| text(handler, at)))
            .filter(|host| !host.is_empty())
            .collect();
        hosts.extend(named.iter().copied());
        !named.is_empty()
    });
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", names.len()),
            plural("probe or lifecycle host", hosts.len()),
            quoted(hosts)
        );
        Violation::new("probe or lifecycle host", detail)
    })
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.which(|container| is(container, "/securityContext/privileged", true));
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.privileged=true",
            containers(&names)
        );
        Violation::new("privileged", detail)
    })
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let names = pod.which(|container| {
        let own = container.pointer("/securityContext/procMount");
        let own = own.and_then(Value::as_str).filter(|own| *own != "Default");
        types.extend(own);
        own.is_some()
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.procMount to {}",
            containers(&names),
            quoted(types)
        );
        Violation::new("procMount", detail)
    })
}

pub(super) fn proc_mount_1_35(pod: &Pod<'_>) -> Option<Violation> {
    unless_own_users(pod, proc_mount)
}

pub(super) fn se_linux_1_0(pod: &Pod<'_>) -> Option<Violation> {
    se_linux(pod, "")
}

pub(super) fn se_linux_1_31(pod: &Pod<'_>) -> Option<Violation> {
    se_linux(pod, "container_engine_t")
}

fn se_linux(pod: &Pod<'_>, also_allowed: &str) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let Some(options) = member(context, "seLinuxOptions") else {
            return false;
        };
        let own = text(options, "/type");
        let bad_type = !SE_LINUX_TYPES.contains(&own) && own != also_allowed;
        types.extend(bad_type.then_some(own));
        let has_user = !text(options, "/user").is_empty();
        let has_role = !text(options, "/role").is_empty();
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    });
    let who = setters.words()?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", types.len()), quoted(types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    Some(Violation::new("seLinuxOptions", detail))
}

/// Profiles as annotations named them before 1.19.
pub(super) fn seccomp_1_0(pod: &Pod<'_>) -> Option<Violation> {
    let mut keys = vec![SECCOMP_POD.to_owned()];
    let names = pod.containers().map(|container| text(container, "/name"));
    keys.extend(names.map(|name| format!("{SECCOMP_CONTAINER}{name}")));
    let bad: BTreeSet<String> = keys
        .into_iter()
        .filter_map(|key| {
            let value = pod.annotations?.get(&key)?.as_str()?;
            let fine = matches!(value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!fine).then(|| format!("{key}={value:?}"))
        })
        .collect();
    (!bad.is_empty()).then(|| {
        let noun = plural("annotation", bad.len());
        let bad: Vec<String> = bad.into_iter().collect();
        Violation::new(
            "seccompProfile",
            format!("forbidden {noun} {}", bad.join(", ")),
        )
    })
}

pub(super) fn seccomp_1_19(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| {
        let profile = member(context, "seccompProfile").filter(|p| !confines(p));
        values.extend(profile.map(|profile| text(profile, "/type")));
        profile.is_some()
    });
    let who = setters.words()?;
    let detail = format!(
        "{who} must not set securityContext.seccompProfile.type to {}",
        quoted(values)
    );
    Some(Violation::new("seccompProfile", detail))
}

pub(super) fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let safe = |name: &str| {
        let known = SYSCTLS.iter().filter(|(since, _)| *since <= minor);
        known
            .flat_map(|(_, names)| *names)
            .any(|safe| *safe == name)
    };
    let bad: Vec<&str> = items(pod.spec, "/securityContext/sysctls")
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| !safe(name))
        .collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| is(context, "/windowsOptions/hostProcess", true));
    let who = setters.words()?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
