//! NATS: a message an alert, over its client protocol, which is lines of text.
//!
//! The server answers a PING only after what was published before it: that is the acknowledgement.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, BufReader};

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::to_json;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken, quoted, read_line};

struct Nats {
    server: Server,
    tls: TlsOptions,
    subject: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let server = section.server(
        "hostport",
        &[("nats://", 4222, false), ("tls://", 4222, true)],
    )?;
    let subject = section.text_or("subjecttemplate", "falco.<priority>.<rule>")?;
    if subject.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*') {
        return Err(section.bad("subjecttemplate", "is no subject to publish to"));
    }
    Ok(server
        .map(|server| {
            Destination::own(
                "nats",
                common.minimum,
                Nats {
                    server,
                    tls: common.tls,
                    subject,
                },
            )
        })
        .into_iter()
        .collect())
}

/// What the server says of itself, as far as it matters.
#[derive(Deserialize)]
struct ServerInfo {
    #[serde(default)]
    tls_required: bool,
}

#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'static str,
    lang: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

impl Nats {
    /// Upstream's: the rule in lower case, everything that is no letter or digit an underscore.
    fn subject(&self, alert: &Alert) -> String {
        let rule: String = alert
            .rule
            .to_lowercase()
            .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("_");
        // An empty part would make the subject none.
        let rule = if rule.is_empty() { "_" } else { &rule };
        self.subject
            .replace("<priority>", &alert.priority.name().to_ascii_lowercase())
            .replace("<rule>", rule)
    }

    fn message(&self, alert: &Alert) -> Vec<u8> {
        let json = alert.to_json();
        let mut message = format!("PUB {} {}\r\n", self.subject(alert), json.len()).into_bytes();
        message.extend(json);
        message.extend(b"\r\n");
        message
    }

    async fn hello(&self) -> Result<Stream, Failure> {
        let mut stream = self.server.connect(None).await?;
        let line = read_line(&mut stream).await?;
        let info: ServerInfo = line
            .strip_prefix("INFO ")
            .and_then(|json| serde_json::from_str(json).ok())
            .ok_or_else(|| Failure::later("the server does not speak NATS"))?;
        let tls = info.tls_required || self.server.tls || self.tls.identity.is_some();
        if tls {
            stream = self.server.encrypt(stream, &self.tls).await?;
        }
        // A name without a password is a token.
        let (user, pass) = (self.server.user.as_deref(), self.server.password.as_deref());
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: tls,
            name: "knarr",
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            user: pass.and(user),
            pass,
            auth_token: if pass.is_none() { user } else { None },
        };
        let mut greeting = b"CONNECT ".to_vec();
        greeting.extend(to_json(&connect));
        greeting.extend(b"\r\nPING\r\n");
        stream.write_all(&greeting).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        pong(&mut stream).await?;
        Ok(stream)
    }
}

/// Waits for the answer to a PING.
async fn pong(stream: &mut BufReader<Box<dyn crate::forward::wire::Io>>) -> Result<(), Failure> {
    loop {
        let line = read_line(stream).await?;
        match line.split(' ').next().unwrap_or_default() {
            "PONG" => return Ok(()),
            "PING" => {
                stream.write_all(b"PONG\r\n").await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
            }
            "INFO" | "+OK" => {}
            "-ERR" => {
                let told = line.to_ascii_lowercase();
                let reason = quoted(&line);
                return Err(if told.contains("payload") {
                    Failure::Never {
                        reason,
                        of_content: true,
                    }
                } else if told.contains("permissions") || told.contains("subject") {
                    Failure::never(reason)
                } else {
                    Failure::later(reason)
                });
            }
            _ => return Err(Failure::later("the server does not speak NATS")),
        }
    }
}

impl Protocol for Nats {
    fn open(&self) -> Pending<'_, Result<Stream, Failure>> {
        Box::pin(self.hello())
    }

    fn send<'a>(
        &'a self,
        stream: &'a mut Stream,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            for alert in alerts {
                stream
                    .write_all(&self.message(alert))
                    .await
                    .map_err(broken)?;
            }
            stream.write_all(b"PING\r\n").await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            pong(stream).await?;
            Ok(Delivery::default())
        })
    }
}
