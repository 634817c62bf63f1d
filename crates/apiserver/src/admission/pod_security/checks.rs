//! The table of checks: of which level each is, since which version, and which other one it stands
//! for. Facts: `k8s.io/pod-security-admission/policy` of 1.36.
//!
//! Invariant: a check is a pure function of a pod's annotations and spec.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::policy::{Level, LevelVersion, Version};
use super::{baseline, restricted};

/// What checks look at.
pub(super) struct Pod<'a> {
    pub(super) annotations: Option<&'a Map<String, Value>>,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// The pod of an object or template; `None` without a spec.
    pub(super) fn of(object: &'a Value) -> Option<Self> {
        Some(Self {
            annotations: api::meta::annotations(object),
            spec: object.get("spec").filter(|spec| spec.is_object())?,
        })
    }

    /// Init containers, containers and ephemeral ones, in this order.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .filter_map(move |list| spec.get(list)?.as_array())
            .flatten()
    }

    /// The names of the containers of which something holds.
    pub(super) fn which(&self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| bad(container))
            .map(|container| crate::hooks::text(container, "/name"))
            .collect()
    }

    /// Whether the security context of the pod, and of which containers, is bad.
    pub(super) fn setters(&self, mut bad: impl FnMut(&'a Value) -> bool) -> Setters<'a> {
        let mut of = |holder: &'a Value| holder.get("securityContext").is_some_and(&mut bad);
        Setters {
            pod: of(self.spec),
            containers: self.which(of),
        }
    }

    pub(super) fn is_windows(&self) -> bool {
        crate::hooks::text(self.spec, "/os/name") == "windows"
    }

    /// Whether root in the pod is nobody on the host.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec.get("hostUsers").and_then(Value::as_bool) == Some(false)
    }
}

/// The holders of security contexts that are bad.
pub(super) struct Setters<'a> {
    pub(super) pod: bool,
    pub(super) containers: Vec<&'a str>,
}

impl Setters<'_> {
    /// `pod and container "a"`; `None` when there are none.
    pub(super) fn words(&self) -> Option<String> {
        match (self.pod, self.containers.as_slice()) {
            (false, []) => None,
            (true, []) => Some("pod".to_owned()),
            (false, names) => Some(containers(names)),
            (true, names) => Some(format!("pod and {}", containers(names))),
        }
    }
}

/// What a check finds.
pub(super) struct Violation {
    reason: &'static str,
    detail: String,
}

impl Violation {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { reason, detail }
    }
}

/// All that was found, never nothing.
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    /// `reason, reason`.
    pub(super) fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.0.iter().map(|found| found.reason).collect();
        reasons.join(", ")
    }

    /// `reason (detail), reason (detail)`.
    pub(super) fn details(&self) -> String {
        let words = self.0.iter().map(|found| match found.detail.as_str() {
            "" => found.reason.to_owned(),
            detail => format!("{} ({detail})", found.reason),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// A check.
type Check = fn(&Pod<'_>) -> Option<Violation>;

struct Rule {
    id: &'static str,
    level: Level,
    /// By the minor version since which each holds, in order.
    versions: &'static [(u32, Check)],
    /// The baseline check that it stands for.
    instead_of: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u32, Check)]) -> Rule {
    Rule {
        id,
        level: Level::Baseline,
        versions,
        instead_of: "",
    }
}

const fn restricted(
    id: &'static str,
    versions: &'static [(u32, Check)],
    instead_of: &'static str,
) -> Rule {
    Rule {
        id,
        level: Level::Restricted,
        versions,
        instead_of,
    }
}

/// In the order in which violations are told: by level, then by id.
const RULES: &[Rule] = &[
    baseline("appArmorProfile", &[(0, baseline::app_armor)]),
    baseline("capabilities_baseline", &[(0, baseline::capabilities)]),
    baseline("hostNamespaces", &[(0, baseline::host_namespaces)]),
    baseline("hostPathVolumes", &[(0, baseline::host_path_volumes)]),
    baseline("hostPorts", &[(0, baseline::host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, baseline::host_probes)]),
    baseline("privileged", &[(0, baseline::privileged)]),
    baseline(
        "procMount",
        &[(0, baseline::proc_mount), (35, baseline::proc_mount_1_35)],
    ),
    baseline(
        "seLinuxOptions",
        &[(0, baseline::se_linux_1_0), (31, baseline::se_linux_1_31)],
    ),
    baseline(
        "seccompProfile_baseline",
        &[(0, baseline::seccomp_1_0), (19, baseline::seccomp_1_19)],
    ),
    baseline(
        "sysctls",
        &[
            (0, |pod| baseline::sysctls(pod, 0)),
            (27, |pod| baseline::sysctls(pod, 27)),
            (29, |pod| baseline::sysctls(pod, 29)),
            (32, |pod| baseline::sysctls(pod, 32)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, baseline::windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[
            (8, restricted::privilege_escalation),
            (25, |pod| {
                unless_windows(pod, restricted::privilege_escalation)
            }),
        ],
        "",
    ),
    restricted(
        "capabilities_restricted",
        &[
            (22, restricted::capabilities),
            (25, |pod| unless_windows(pod, restricted::capabilities)),
        ],
        "capabilities_baseline",
    ),
    restricted(
        "procMount_restricted",
        &[(35, baseline::proc_mount)],
        "procMount",
    ),
    restricted(
        "restrictedVolumes",
        &[(0, restricted::volumes)],
        "hostPathVolumes",
    ),
    restricted(
        "runAsNonRoot",
        &[
            (0, restricted::run_as_non_root),
            (35, |pod| unless_own_users(pod, restricted::run_as_non_root)),
        ],
        "",
    ),
    restricted(
        "runAsUser",
        &[
            (23, restricted::run_as_user),
            (35, |pod| unless_own_users(pod, restricted::run_as_user)),
        ],
        "",
    ),
    restricted(
        "seccompProfile_restricted",
        &[
            (19, restricted::seccomp),
            (25, |pod| unless_windows(pod, restricted::seccomp)),
        ],
        "seccompProfile_baseline",
    ),
];

fn unless_windows(pod: &Pod<'_>, check: Check) -> Option<Violation> {
    if pod.is_windows() { None } else { check(pod) }
}

/// A pod with users of its own may do some things that others may not.
pub(super) fn unless_own_users(pod: &Pod<'_>, check: Check) -> Option<Violation> {
    if pod.has_own_users() {
        None
    } else {
        check(pod)
    }
}

impl Rule {
    /// The check as it is in a version.
    fn at(&self, version: Version) -> Option<Check> {
        let mut all = self.versions.iter();
        all.rfind(|(since, _)| Version::Minor(*since) <= version)
            .map(|(_, check)| *check)
    }
}

/// What a pod does that a level does not allow, if anything.
pub(super) fn evaluate(at: LevelVersion, pod: &Pod<'_>) -> Option<Violations> {
    let active = || RULES.iter().filter(|rule| rule.level <= at.level);
    let replaced =
        |id: &str| active().any(|other| other.instead_of == id && other.at(at.version).is_some());
    let found: Vec<Violation> = active()
        .filter(|rule| !replaced(rule.id))
        .filter_map(|rule| rule.at(at.version)?(pod))
        .collect();
    (!found.is_empty()).then_some(Violations(found))
}

/// `"a", "b"`.
pub(super) fn quoted(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| format!("\"{i}\"")).collect();
    items.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

/// A noun or verb for one or more things (`uses` is one thing's).
pub(super) fn plural(noun: &str, count: usize) -> String {
    match (noun, count) {
        ("uses", 1) => "uses".to_owned(),
        ("uses", _) => "use".to_owned(),
        (noun, 1) => noun.to_owned(),
        (noun, _) => format!("{noun}s"),
    }
}
