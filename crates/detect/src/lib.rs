//! Threat detection's senses: what happened at the kernel, told in Falco's form.
//!
//! - [`event`]: the schema of events (Falco's event table) and a borrowed view of one event;
//! - [`capture`]: capture files of events, as Falco and sysdig write them;
//! - [`probes`]: the BPF programs in `bpf/`, loaded, and their events in the order of time;
//! - [`forward`]: alerts, sent on to the services that people watch;
//! - [`process`]: what is known of processes, threads and file descriptors.
//!
//! Invariant: an event is the same bytes wherever it comes from. Probes write them, capture files
//! hold them, and one decoder reads them; nothing of it trusts a length, a number or a text.
#![allow(
    unsafe_code,
    reason = "rings that the kernel shares with us are memory; each block says why it is sound"
)]

pub mod capture;
pub mod event;
pub mod fields;
pub mod forward;
pub mod probes;
pub mod process;
