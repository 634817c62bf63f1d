//! System call filters: the default profile and OCI JSON profiles, compiled to BPF and loaded.
//!
//! Invariant: a profile holds as a whole or the container does not start; nothing is skipped but
//! names of system calls that this architecture does not have.

mod compile;
mod default;
mod oci;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use seccompiler::{BpfProgram, SeccompAction, SeccompCondition};

use crate::caps::CapSet;
use crate::spec::Seccomp;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("cannot read seccomp profile {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("seccomp profile {} is not valid JSON", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("seccomp profile: {0:?} is not supported")]
    Unsupported(String),
    #[error("seccomp profile cannot be compiled")]
    Compile(#[from] seccompiler::BackendError),
    #[error("seccomp profile is too long: {0} instructions")]
    TooLong(usize),
    #[error("this architecture has no table of system calls")]
    Architecture,
}

/// What holds for one group of system calls.
#[derive(Debug, Clone)]
struct Rule {
    numbers: Vec<i64>,
    action: SeccompAction,
    /// Any of these alternatives; each is a list of conditions that must all hold. Empty: always.
    alternatives: Vec<Vec<SeccompCondition>>,
}

/// A profile whose names and conditions are resolved for this host and container.
#[derive(Debug, Clone)]
struct Profile {
    default: SeccompAction,
    rules: Vec<Rule>,
    /// Flags of seccomp(2).
    flags: u64,
}

/// Programs to load, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    programs: Vec<BpfProgram>,
    flags: u64,
}

impl Filters {
    /// Reads and compiles what `wanted` asks for, for a container with these capabilities.
    pub(crate) fn prepare(wanted: &Seccomp, caps: CapSet) -> Result<Filters, SeccompError> {
        let profile = match wanted {
            Seccomp::Unconfined => return Ok(Filters::default()),
            Seccomp::RuntimeDefault => default::profile(caps)?,
            Seccomp::Localhost(path) => oci::read(path, caps)?,
        };
        if !cfg!(target_arch = "x86_64") {
            return Err(SeccompError::Architecture);
        }
        compile::compile(profile)
    }

    /// Whether there is nothing to load.
    pub(crate) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Loads the filters into the calling process for good. Needs `CAP_SYS_ADMIN` or no-new-privileges.
    pub(crate) fn load(&self) -> io::Result<()> {
        for program in &self.programs {
            let length = u16::try_from(program.len()).map_err(io::Error::other)?;
            let fprog = libc::sock_fprog {
                len: length,
                filter: program.as_ptr().cast_mut().cast(),
            };
            // SAFETY: `sock_filter` of seccompiler is the kernel's struct (repr(C)); the kernel
            // copies the program and writes nothing.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    self.flags,
                    &raw const fprog,
                )
            };
            nix::errno::Errno::result(done)?;
        }
        Ok(())
    }
}
