//! Redis: alerts as entries of a list, or of a hash by their uuid.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken, quoted, read_line};

struct Redis {
    server: Server,
    tls: Option<TlsOptions>,
    user: Option<String>,
    password: Option<String>,
    database: u64,
    hashmap: bool,
    key: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let mut common = Common::read(section, globals, notices)?;
    section.ignore(&["version"], notices);
    let server = section.server(
        "address",
        &[("redis://", 6379, false), ("rediss://", 6379, true)],
    )?;
    let tls = section.flag("tls", false)? || common.tls.identity.is_some();
    // Files of its own go before those of all outputs.
    let (certificate, key) = (section.text("certfile")?, section.text("keyfile")?);
    let authority = section.text("cacertfile")?.map(PathBuf::from);
    if let Some((own_certificate, own_key)) = &mut common.tls.identity {
        *own_certificate = certificate.map_or_else(|| own_certificate.clone(), PathBuf::from);
        *own_key = key.map_or_else(|| own_key.clone(), PathBuf::from);
        if let Some(authority) = authority {
            common.tls.authorities.pop();
            common.tls.authorities.push(authority);
        }
    }
    let user = section.text("username")?;
    let password = section.text("password")?;
    let database = section.number("database", 0)?;
    let hashmap = section.choice("storagetype", &["list", "hashmap"])? == "hashmap";
    let key = section.text_or("key", "falco")?;
    Ok(server
        .map(|server| {
            let redis = Redis {
                tls: (tls || server.tls).then_some(common.tls),
                user: user.or(server.user.clone()),
                password: password.or(server.password.clone()),
                server,
                database,
                hashmap,
                key,
            };
            Destination::own("redis", common.minimum, redis)
        })
        .into_iter()
        .collect())
}

impl Redis {
    fn entry(&self, alert: &Alert) -> Vec<u8> {
        let json = alert.to_json();
        if self.hashmap {
            command(&[b"HSET", self.key.as_bytes(), alert.uuid.as_bytes(), &json])
        } else {
            command(&[b"RPUSH", self.key.as_bytes(), &json])
        }
    }

    async fn hello(&self) -> Result<Stream, Failure> {
        let mut stream = self.server.connect(self.tls.as_ref()).await?;
        let mut greeting = Vec::new();
        let mut answers = 1;
        if let Some(password) = &self.password {
            let password = password.as_bytes();
            greeting.extend(match &self.user {
                Some(user) => command(&[b"AUTH", user.as_bytes(), password]),
                None => command(&[b"AUTH", password]),
            });
            answers += 1;
        }
        greeting.extend(command(&[b"SELECT", self.database.to_string().as_bytes()]));
        stream.write_all(&greeting).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        for _ in 0..answers {
            if let Some(error) = answer(&mut stream).await? {
                // A password may be set right without us.
                return Err(Failure::later(error));
            }
        }
        Ok(stream)
    }
}

/// A command in Redis' serialization protocol.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// An answer of one line: nothing, or what the server says against it.
async fn answer(stream: &mut Stream) -> Result<Option<String>, Failure> {
    let line = read_line(stream).await?;
    match line.as_bytes().first() {
        Some(b'+' | b':') => Ok(None),
        Some(b'-') => Ok(Some(quoted(&line[1..]))),
        _ => Err(Failure::later("the server does not speak Redis")),
    }
}

impl Protocol for Redis {
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
                stream.write_all(&self.entry(alert)).await.map_err(broken)?;
            }
            stream.flush().await.map_err(broken)?;
            let mut delivery = Delivery::default();
            for place in 0..alerts.len() {
                let Some(error) = answer(stream).await? else {
                    continue;
                };
                let word = error.split(' ').next().unwrap_or_default();
                // A key of another type stays one; memory, replicas and passwords come back.
                if word == "WRONGTYPE" {
                    delivery.refused += 1;
                } else {
                    delivery.again.push(place);
                }
                delivery.reason = Some(error);
            }
            Ok(delivery)
        })
    }
}
