//! MQTT 3.1.1: a message an alert.
//!
//! With `qos: 0` nothing is acknowledged; a PINGREQ after the messages then tells that the broker
//! read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{BatchLimits, Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken};

const SCHEMES: &[(&str, u16, bool)] = &[
    ("tcp://", 1883, false),
    ("mqtt://", 1883, false),
    ("ssl://", 8883, true),
    ("tls://", 8883, true),
    ("mqtts://", 8883, true),
];
const CONNACK: u8 = 2;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;
const PINGRESP: u8 = 13;
/// The longest packet that is read; the ones that are awaited have four bytes.
const LONGEST_PACKET_BYTES: usize = 64 * 1024;

struct Mqtt {
    broker: Server,
    tls: TlsOptions,
    topic: String,
    qos: u8,
    retained: bool,
    user: Option<String>,
    password: Option<String>,
    client_id: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let broker = section.server("broker", SCHEMES)?;
    let topic = section.text_or("topic", "falco/events")?;
    if topic.contains(['+', '#', '\0']) || topic.len() > usize::from(u16::MAX) {
        return Err(section.bad("topic", "is no topic to publish to"));
    }
    let qos = match section.number("qos", 0)? {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => return Err(section.bad("qos", "must be 0, 1 or 2")),
    };
    let retained = section.flag("retained", false)?;
    let (user, password) = (section.text("user")?, section.text("password")?);
    Ok(broker
        .map(|broker| {
            let id = uuid::Uuid::new_v4().simple().to_string();
            let mqtt = Mqtt {
                user: user.or(broker.user.clone()),
                password: password.or(broker.password.clone()),
                broker,
                tls: common.tls,
                topic,
                qos,
                retained,
                client_id: format!("falcosidekick-{}", &id[..6]),
            };
            // Brokers queue a hundred or so unacknowledged messages of a client.
            Destination::own("mqtt", common.minimum, mqtt).in_batches(BatchLimits {
                alerts: 20,
                ..BatchLimits::WAITING
            })
        })
        .into_iter()
        .collect())
}

impl Mqtt {
    fn connect(&self) -> Vec<u8> {
        let mut body = text("MQTT");
        let credentials = self
            .user
            .as_ref()
            .map(|user| (user, self.password.as_ref()));
        let mut flags = 0b0000_0010;
        if let Some((_, password)) = credentials {
            flags |= 0b1000_0000;
            if password.is_some() {
                flags |= 0b0100_0000;
            }
        }
        // Level 4 is version 3.1.1; no keep-alive: connections are not kept idle.
        body.extend([4, flags, 0, 0]);
        body.extend(text(&self.client_id));
        if let Some((user, password)) = credentials {
            body.extend(text(user));
            body.extend(password.map(|password| text(password)).unwrap_or_default());
        }
        packet(0x10, &body)
    }

    fn publish(&self, id: u16, alert: &Alert) -> Vec<u8> {
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(id.to_be_bytes());
        }
        body.extend(alert.to_json());
        packet(0x30 | (self.qos << 1) | u8::from(self.retained), &body)
    }

    async fn hello(&self) -> Result<Stream, Failure> {
        let tls = (self.broker.tls).then_some(&self.tls);
        let mut stream = self.broker.connect(tls).await?;
        stream.write_all(&self.connect()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        match read_packet(&mut stream).await? {
            (CONNACK, body) if body.get(1) == Some(&0) => Ok(stream),
            (CONNACK, body) => {
                let code = body.get(1).copied().unwrap_or_default();
                Err(Failure::later(format!(
                    "the broker refuses the connection with code {code}"
                )))
            }
            _ => Err(Failure::later("the broker does not speak MQTT")),
        }
    }

    async fn exchange(&self, stream: &mut Stream, alerts: &[Arc<Alert>]) -> Result<(), Failure> {
        let mut pending = BTreeSet::new();
        for (id, alert) in (1..=u16::MAX).zip(alerts) {
            stream
                .write_all(&self.publish(id, alert))
                .await
                .map_err(broken)?;
            if self.qos > 0 {
                pending.insert(id);
            }
        }
        if self.qos == 0 {
            stream.write_all(&packet(0xc0, &[])).await.map_err(broken)?;
        }
        stream.flush().await.map_err(broken)?;
        loop {
            let (kind, body) = read_packet(stream).await?;
            let id = match body[..] {
                [high, low, ..] => u16::from_be_bytes([high, low]),
                _ => 0,
            };
            match kind {
                PINGRESP => return Ok(()),
                PUBACK | PUBCOMP => {
                    pending.remove(&id);
                }
                PUBREC => {
                    let release = packet(0x62, &id.to_be_bytes());
                    stream.write_all(&release).await.map_err(broken)?;
                    stream.flush().await.map_err(broken)?;
                }
                _ => return Err(Failure::later("the broker says what nobody asked for")),
            }
            if self.qos > 0 && pending.is_empty() {
                return Ok(());
            }
        }
    }
}

/// A text with its length in front. What is too long for that is cut.
fn text(text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A packet: its head, the length of the rest in groups of seven bits, the rest.
fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = body.len();
    loop {
        let group = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        bytes.push(if length > 0 { group | 0x80 } else { group });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

async fn read_packet(stream: &mut Stream) -> Result<(u8, Vec<u8>), Failure> {
    let kind = stream.read_u8().await.map_err(broken)? >> 4;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let group = stream.read_u8().await.map_err(broken)?;
        length |= usize::from(group & 0x7f) << shift;
        if group & 0x80 == 0 {
            break;
        }
    }
    if length > LONGEST_PACKET_BYTES {
        return Err(Failure::later("the broker does not speak MQTT"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(broken)?;
    Ok((kind, body))
}

impl Protocol for Mqtt {
    fn open(&self) -> Pending<'_, Result<Stream, Failure>> {
        Box::pin(self.hello())
    }

    fn send<'a>(
        &'a self,
        stream: &'a mut Stream,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            self.exchange(stream, alerts).await?;
            Ok(Delivery::default())
        })
    }
}
