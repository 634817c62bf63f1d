//! What rules may ask of an event: the values of fields, as Falco's libraries give them
//! (`userspace/libsinsp/sinsp_filtercheck_*.cpp`) and its container plugin.
//!
//! A [`SyscallEvent`] is an event seen together with the [`Table`] to which it has been applied and
//! the [`Host`] on which it happened; it borrows everything. [`AuditEvent`] is one of the audit log of
//! a Kubernetes API server.
//!
//! Invariant: asking for a field allocates nothing that the values do not keep for the next event, and
//! no event makes it panic.

mod accounts;
pub mod audit;
mod container;
mod evt;
mod fd;
mod fd_list;
mod fs_path;
mod generic;
mod host;
mod lineage;
mod names;
mod param;
mod plan;
mod process;
mod socket;
#[cfg(test)]
mod tests;

use rules::events::EventType as RuleType;
use rules::fields::{Argument, Class, FieldId};
use rules::{Event as RuleEvent, Values};

pub use audit::{AuditError, AuditEvent};
pub use host::Host;

use crate::event::{Event, EventType};
use crate::process::{Fd, Table, Thread};
use plan::{FdPlace, Plan};

/// Fields that no event has a value for, and why.
pub static SILENT: &[(&str, &[FieldId])] = &[
    (
        "names of addresses come from a resolver that is asked for the names in rules; there is none yet",
        &[
            FieldId::FdCipName,
            FieldId::FdSipName,
            FieldId::FdLipName,
            FieldId::FdRipName,
        ],
    ),
    (
        "upstream takes them from events that statistics of processes made; nothing makes those any more",
        &[
            FieldId::ThreadCpu,
            FieldId::ThreadCpuUser,
            FieldId::ThreadCpuSystem,
        ],
    ),
    (
        "upstream's container plugin gives no values for what it declares deprecated",
        &[
            FieldId::ContainerHealthcheck,
            FieldId::ContainerLivenessProbe,
            FieldId::ContainerReadinessProbe,
            FieldId::ProcIsContainerHealthcheck,
            FieldId::ProcIsContainerLivenessProbe,
            FieldId::ProcIsContainerReadinessProbe,
            FieldId::K8sRcName,
            FieldId::K8sRcId,
            FieldId::K8sRcLabel,
            FieldId::K8sRcLabels,
            FieldId::K8sSvcName,
            FieldId::K8sSvcId,
            FieldId::K8sSvcLabel,
            FieldId::K8sSvcLabels,
            FieldId::K8sNsId,
            FieldId::K8sNsLabel,
            FieldId::K8sNsLabels,
            FieldId::K8sRsName,
            FieldId::K8sRsId,
            FieldId::K8sRsLabel,
            FieldId::K8sRsLabels,
            FieldId::K8sDeploymentName,
            FieldId::K8sDeploymentId,
            FieldId::K8sDeploymentLabel,
            FieldId::K8sDeploymentLabels,
        ],
    ),
    (
        "the process table knows containers by their id, image, pod and labels; the rest is the node's to tell",
        &[
            FieldId::ContainerImageId,
            FieldId::ContainerMounts,
            FieldId::ContainerMount,
            FieldId::ContainerMountSource,
            FieldId::ContainerMountDest,
            FieldId::ContainerMountMode,
            FieldId::ContainerMountRdwr,
            FieldId::ContainerMountPropagation,
            FieldId::ContainerIp,
            FieldId::ContainerCniJson,
            FieldId::ContainerHostPid,
            FieldId::ContainerHostNetwork,
            FieldId::ContainerHostIpc,
            FieldId::K8sPodSandboxId,
            FieldId::K8sPodFullSandboxId,
            FieldId::K8sPodIp,
            FieldId::K8sPodCniJson,
        ],
    ),
];

/// Where in the stream an event stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Its number, counted from 1.
    pub number: u64,
    /// The processor on which it happened, where that is known.
    pub cpu: Option<u16>,
    /// When the event before happened, in nanoseconds since 1970; 0 for the first.
    pub previous_ns: u64,
    /// When the first event happened, in nanoseconds since 1970.
    pub first_ns: u64,
}

/// An event of the kernel with all that rules may ask about it.
#[derive(Clone, Copy, Debug)]
pub struct SyscallEvent<'e> {
    event: Event<'e>,
    kind: RuleType,
    plan: &'static Plan,
    table: &'e Table,
    host: &'e Host,
    thread: Option<&'e Thread>,
    /// The descriptor that it is about; -1 for none.
    fd: i64,
    open: Option<&'e Fd>,
    place: Place,
}

impl<'e> SyscallEvent<'e> {
    /// The event, after `table` was changed by it. Nothing for an event that rules are not asked
    /// about: the beginning of a call, or a type that they do not know.
    #[must_use]
    pub fn new(event: Event<'e>, table: &'e Table, host: &'e Host, place: Place) -> Option<Self> {
        let plan = plan::of(event.kind)?;
        let kind = plan.rule_type(&event)?;
        let thread = table.thread(event.tid);
        let (fd, open) = match (thread, plan.fd) {
            (Some(_), FdPlace::Param(place)) => {
                let fd = event.int(usize::from(place)).unwrap_or(-1);
                (fd, table.fd(event.tid, fd))
            }
            (Some(_), FdPlace::Result) => match event.int(0) {
                Some(fd) if fd >= 0 => (fd, table.fd(event.tid, fd)),
                _ => (-1, None),
            },
            _ => (-1, None),
        };
        Some(Self {
            event,
            kind,
            plan,
            table,
            host,
            thread,
            fd,
            open,
            place,
        })
    }

    /// The event itself.
    #[must_use]
    pub fn event(&self) -> &Event<'e> {
        &self.event
    }

    /// The leader of the process that did it.
    fn process(&self) -> Option<&'e Thread> {
        self.table.process(self.event.tid)
    }

    /// What the call returned, where this is the end of a call whose schema is known.
    fn result(&self) -> Option<i64> {
        let call = self.plan.syscall && self.event.kind.is_exit();
        (call && self.event.kind != EventType::GENERIC_X)
            .then(|| self.event.int(0))
            .flatten()
    }

    /// The number in a parameter, by name.
    fn number(&self, name: &str) -> Option<i64> {
        self.event.named(name)?.int()
    }

    /// Pushes the values of a field, and says whether there is code for it.
    fn answer<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) -> bool {
        match field.info().class {
            Class::Generic => self.generic_field(field, out),
            Class::Event => self.evt_field(field, argument, out),
            Class::Process => self.process_field(field, argument, out),
            Class::User | Class::Group => self.account_field(field, out),
            Class::Fd => self.fd_field(field, argument, out),
            Class::FsPath => self.fs_path_field(field, out),
            Class::FdList => self.fd_list_field(field, out),
            Class::Container => self.container_field(field, argument, out),
            Class::Util => {
                out.unsigned(self.place.number);
                true
            }
            Class::Audit | Class::Json => false,
        }
    }
}

impl RuleEvent for SyscallEvent<'_> {
    fn kind(&self) -> RuleType {
        self.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        self.answer(field, argument, out);
    }

    fn time_ns(&self) -> u64 {
        self.event.timestamp_ns
    }
}

/// Pushes text that may not be there.
fn maybe_text<'a>(text: Option<&'a [u8]>, out: &mut Values<'a>) {
    if let Some(text) = text {
        out.text(text);
    }
}

/// Appends what is written.
fn put(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Writing to a vector does not fail.
    let _infallible = out.write_fmt(what);
}
