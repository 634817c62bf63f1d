//! `container` and `k8s` fields: what is known of the container that the thread is in. Outside of
//! containers upstream has one by the name of `host`.

use std::sync::Arc;

use rules::Values;
use rules::fields::{Argument, FieldId as F};

use super::{SILENT, SyscallEvent, put};
use crate::process::Container;

const HOST: &str = "host";

impl SyscallEvent<'_> {
    pub(super) fn container_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        out: &mut Values<'a>,
    ) -> bool {
        if let F::ContainerStartTs | F::ContainerDuration = field {
            let started = self.thread.map_or(0, |thread| thread.pidns_start_ns);
            if started != 0 {
                let since = self.event.timestamp_ns.saturating_sub(started);
                let is_start = field == F::ContainerStartTs;
                out.unsigned(if is_start { started } else { since });
            }
            return true;
        }
        if SILENT.iter().any(|(_, fields)| fields.contains(&field)) {
            return true;
        }
        let Some(thread) = self.thread else {
            return true;
        };
        match &thread.container {
            Some(container) => of_container(container, field, argument, out),
            None => of_host(field, out),
        }
    }
}

/// Outside of containers.
fn of_host(field: F, out: &mut Values<'_>) -> bool {
    match field {
        F::ContainerId | F::ContainerFullId | F::ContainerName | F::ContainerType => {
            out.text(HOST);
        }
        F::ContainerImage
        | F::ContainerImageRepository
        | F::ContainerImageTag
        | F::ContainerImageDigest
        | F::ContainerLabels
        | F::K8sPodLabels => out.text(""),
        F::ContainerPrivileged => out.boolean(false),
        F::ContainerLabel
        | F::K8sPodName
        | F::K8sNsName
        | F::K8sPodId
        | F::K8sPodUid
        | F::K8sPodLabel => {}
        _ => return false,
    }
    true
}

fn of_container<'a>(
    container: &'a Arc<Container>,
    field: F,
    argument: &Argument,
    out: &mut Values<'a>,
) -> bool {
    // What only a runtime knows has no value as long as none has told it.
    let told = !container.name.is_empty() || !container.image.is_empty();
    let mut known = |text: &'a str| {
        if told || !text.is_empty() {
            out.text(text);
        }
    };
    let in_pod = |text: &'a str| (!text.is_empty()).then_some(text.as_bytes());
    match field {
        F::ContainerId => out.text(&container.id),
        F::ContainerFullId => known(&container.full_id),
        F::ContainerName => known(&container.name),
        F::ContainerImage if container.image.is_empty() => known(""),
        F::ContainerImage => out.write(|store| {
            store.extend_from_slice(container.image.as_bytes());
            if !container.tag.is_empty() {
                put(store, format_args!(":{}", container.tag));
            }
        }),
        F::ContainerImageRepository => known(&container.image),
        F::ContainerImageTag => known(&container.tag),
        F::ContainerImageDigest => known(&container.digest),
        F::ContainerType => out.text(container.runtime.name()),
        F::ContainerPrivileged if told => out.boolean(container.privileged),
        F::ContainerPrivileged => {}
        F::ContainerLabel | F::K8sPodLabel => {
            if let Argument::Key(key) = argument {
                let label = container.labels.iter().find(|(name, _)| **name == **key);
                super::maybe_text(label.map(|(_, value)| value.as_bytes()), out);
            }
        }
        F::ContainerLabels | F::K8sPodLabels => out.write(|store| labels(container, store)),
        F::K8sPodName => super::maybe_text(in_pod(&container.pod), out),
        F::K8sNsName => super::maybe_text(in_pod(&container.namespace), out),
        F::K8sPodId | F::K8sPodUid => super::maybe_text(in_pod(&container.pod_uid), out),
        _ => return false,
    }
    true
}

/// Labels as upstream lines them up, those of the kubelet itself left out.
fn labels(container: &Container, store: &mut Vec<u8>) {
    let begin = store.len();
    for (name, value) in &container.labels {
        if name.starts_with("annotation.") || name.starts_with("io.kubernetes.") {
            continue;
        }
        if store.len() > begin {
            store.extend_from_slice(b", ");
        }
        store.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            put(store, format_args!(":{value}"));
        }
    }
}
