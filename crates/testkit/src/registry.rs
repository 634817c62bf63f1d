//! Debian's docker-registry on loopback.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::{Run, eventually};
use crate::token::{self, TokenServer};

/// Who may enter a registry.
pub enum Access<'a> {
    /// Everybody.
    Open,
    /// One user with a password.
    Password(&'a str, &'a str),
    /// Whoever has a token of this server.
    Token(&'a TokenServer),
}

/// A running registry; ended when dropped.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry that keeps its blobs below `dir`.
    ///
    /// # Errors
    /// When Debian's docker-registry is missing or does not listen within ten seconds.
    pub async fn start(dir: &Path, port: u16, access: Access<'_>) -> Result<Self> {
        let storage = dir.join("registry");
        std::fs::create_dir_all(&storage)?;
        let mut config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            storage.display()
        );
        match access {
            Access::Open => {}
            Access::Password(name, password) => {
                let line = Run::new("htpasswd").args(["-Bbn", name, password]).ok()?;
                let path = dir.join("htpasswd");
                std::fs::write(&path, line)?;
                config.push_str(&format!(
                    "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                    path.display()
                ));
            }
            Access::Token(server) => {
                let bundle = dir.join("token.crt");
                std::fs::write(&bundle, server.certificate_pem())?;
                config.push_str(&format!(
                    "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
                    server.realm(),
                    token::SERVICE,
                    token::ISSUER,
                    bundle.display()
                ));
            }
        }
        let path = dir.join("registry.yml");
        std::fs::write(&path, config)?;
        let log = std::fs::File::create(dir.join("registry.log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry; run `cargo xtask test`, which installs it")?;
        let registry = Self { child, port };
        eventually("a registry", Duration::from_secs(10), async || {
            TcpStream::connect(("127.0.0.1", port))
                .map(drop)
                .context("no connection")
        })
        .await?;
        Ok(registry)
    }

    /// The registry's host and port, as image references have it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
