//! What can go wrong between the node and a shim.
//!
//! Invariant: a text that a user will read (why a container did not start) is the shim's own,
//! unwrapped.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Failure of an operation on a sandbox or container.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim's program could not be started.
    #[error("cannot start the shim in {}", dir.display())]
    Launch {
        /// The sandbox's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim started, and could not set the sandbox up.
    #[error("cannot set up the sandbox: {reason}")]
    Sandbox {
        /// The shim's words.
        reason: String,
    },
    /// There is no living shim behind this folder: its containers are lost.
    #[error("the shim in {} is gone", dir.display())]
    Gone {
        /// The sandbox's folder.
        dir: PathBuf,
    },
    /// The connection to the shim failed.
    #[error("connection to the shim failed")]
    Connection(#[source] io::Error),
    /// The shim refused a request.
    #[error("{message}")]
    Refused {
        /// What sort of refusal.
        kind: Refusal,
        /// The shim's words.
        message: String,
    },
    /// Leftovers of a sandbox could not be removed.
    #[error("cannot clean up {}", dir.display())]
    Cleanup {
        /// The sandbox's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a shim refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No such container.
    NotFound,
    /// A container with this id exists.
    Exists,
    /// Not possible in the container's present state.
    State,
    /// The request itself is wrong.
    Invalid,
    /// The program could not be run: not there, not executable, bad working directory.
    Program,
    /// The kernel or host failed us.
    Host,
}
