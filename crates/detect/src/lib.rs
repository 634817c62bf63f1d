//! Threat detection's senses: what happened at the kernel, told in Falco's form.
//!
//! - [`event`]: the schema of events (Falco's event table) and a borrowed view of one event;
//! - [`capture`]: capture files of events, as Falco and sysdig write them;
//! - [`probes`]: the BPF programs in `bpf/`, loaded, and their events in the order of time;
//! - [`process`]: what is known of processes, threads and file descriptors;
//! - [`fields`]: the values of fields that rules ask an event for;
//! - [`engine`]: rules over events, alerts, lost events, metrics;
//! - [`outputs`]: where alerts go;
//! - [`forward`]: alerts, sent on to the services that people watch;
//! - [`command`]: what `knarr detect` does, without its flags.
//!
//! Invariant: an event is the same bytes wherever it comes from. Probes write them, capture files
//! hold them, and one decoder reads them; nothing of it trusts a length, a number or a text.
#![allow(
    unsafe_code,
    reason = "rings that the kernel shares with us are memory; each block says why it is sound"
)]

pub mod capture;
pub mod command;
pub mod engine;
pub mod event;
pub mod fields;
pub mod forward;
pub mod outputs;
pub mod probes;
pub mod process;
