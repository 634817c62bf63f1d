//! Signals of a run: SIGINT and SIGTERM end it, SIGHUP has rules and configuration read again,
//! SIGUSR1 has files opened again.
//!
//! Invariant: call it before any other thread is made, so that no thread but ours takes the signals.

use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};

use crate::engine::Control;

/// The signals that are watched.
#[derive(Debug)]
pub struct Signals(SigSet);

/// Keeps the signals of a run from this thread and those that it makes, and from ending the process.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_signals() -> std::io::Result<Signals> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(Signals(set))
}

impl Signals {
    /// Tells the run of signals from now on. A second signal to end ends at once.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn tell(self, control: Arc<Control>) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while let Ok(signal) = self.0.wait() {
                    match signal {
                        Signal::SIGHUP => control.reload(),
                        Signal::SIGUSR1 => control.reopen(),
                        _ => {
                            control.stop();
                            // What comes next is the default: the end.
                            let _unblocked = self.0.thread_unblock();
                        }
                    }
                }
            })
            .map(drop)
    }
}
