//! A second machine, as far as a network goes: a namespace that is linked with the test's own.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::Run;

/// The test's own address on the link.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The machine's.
const THERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// A running machine; gone when dropped.
pub struct Machine {
    /// Holds the namespace open.
    child: Child,
}

impl Machine {
    /// Makes the machine and its link.
    ///
    /// # Errors
    /// When `unshare`, `nsenter` or `ip` are missing, or there is one already.
    pub fn start() -> Result<Self> {
        let child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut machine = Self { child };
        // Its first line says that it is in its namespace.
        if let Some(mut said) = machine.child.stdout.take() {
            std::io::Read::read_exact(&mut said, &mut [0])?;
        }
        let pid = machine.child.id().to_string();
        let ip = |args: &str| Run::new("ip").args(args.split(' ')).ok().map(drop);
        ip(&format!(
            "link add there type veth peer name eth0 netns {pid}"
        ))?;
        ip(&format!("address add {HERE}/24 dev there"))?;
        ip("link set there up")?;
        let there = |args: &str| machine.run("ip").args(args.split(' ')).ok().map(drop);
        there(&format!("address add {THERE}/24 dev eth0"))?;
        there("link set lo up")?;
        there("link set eth0 up")?;
        there(&format!("route add default via {HERE}"))?;
        Ok(machine)
    }

    /// A call of a program on the machine.
    #[must_use]
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        let namespace = format!("--net=/proc/{}/ns/net", self.child.id());
        Run::new("nsenter").args([namespace]).args([program])
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        THERE
    }

    /// The test's address, as the machine knows it.
    #[must_use]
    pub fn home(&self) -> Ipv4Addr {
        HERE
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
