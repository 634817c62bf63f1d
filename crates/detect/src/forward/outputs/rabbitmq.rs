//! RabbitMQ: a message an alert to a queue, over AMQP 0-9-1 with publisher confirms.
//!
//! Upstream publishes to whatever queue there may be and loses what none takes. Here messages are
//! mandatory and persistent: one that no queue takes comes back, and is sent again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken, quoted};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// What frames are cut to, and the longest that is read: RabbitMQ's own default, in bytes.
const FRAME_BYTES: u32 = 128 * 1024;

// Classes and methods, by their numbers in the specification.
const CONNECTION_START: (u16, u16) = (10, 10);
const CONNECTION_TUNE: (u16, u16) = (10, 30);
const CONNECTION_OPEN_OK: (u16, u16) = (10, 41);
const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);
const BASIC_RETURN: (u16, u16) = (60, 50);
const BASIC_ACK: (u16, u16) = (60, 80);
const BASIC_NACK: (u16, u16) = (60, 120);
const CONFIRM_SELECT_OK: (u16, u16) = (85, 11);

struct Rabbitmq {
    server: Server,
    tls: TlsOptions,
    queue: String,
    /// How many messages this connection has published: confirms count them.
    published: AtomicU64,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let server = section.server("url", &[("amqp://", 5672, false), ("amqps://", 5671, true)])?;
    let queue = section.text("queue")?;
    let Some(server) = server else {
        return Ok(Vec::new());
    };
    let queue = queue.ok_or_else(|| section.bad("queue", "needed: the queue to publish to"))?;
    if queue.len() > 255 {
        return Err(section.bad("queue", "is longer than 255 bytes"));
    }
    let output = Rabbitmq {
        server,
        tls: common.tls,
        queue,
        published: AtomicU64::new(0),
    };
    Ok(vec![Destination::own("rabbitmq", common.minimum, output)])
}

impl Rabbitmq {
    async fn hello(&self) -> Result<Stream, Failure> {
        let tls = self.server.tls.then_some(&self.tls);
        let mut stream = self.server.connect(tls).await?;
        stream
            .write_all(b"AMQP\0\0\x09\x01")
            .await
            .map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        expect(&mut stream, CONNECTION_START).await?;
        let user = self.server.user.as_deref().unwrap_or("guest");
        let password = self.server.password.as_deref().unwrap_or("guest");
        let mut start = method(10, 11);
        // No properties of ours, then mechanism, answer and locale.
        start.extend(0_u32.to_be_bytes());
        short_text(&mut start, "PLAIN");
        long_text(&mut start, &format!("\0{user}\0{password}"));
        short_text(&mut start, "en_US");
        write(&mut stream, &[frame(METHOD, 0, &start)]).await?;
        expect(&mut stream, CONNECTION_TUNE).await?;
        let mut tune = method(10, 31);
        // One channel; no heartbeats: connections are not kept idle.
        tune.extend(1_u16.to_be_bytes());
        tune.extend(FRAME_BYTES.to_be_bytes());
        tune.extend(0_u16.to_be_bytes());
        let mut open = method(10, 40);
        short_text(
            &mut open,
            if self.server.path.is_empty() {
                "/"
            } else {
                &self.server.path
            },
        );
        open.extend([0, 0]);
        write(
            &mut stream,
            &[frame(METHOD, 0, &tune), frame(METHOD, 0, &open)],
        )
        .await?;
        expect(&mut stream, CONNECTION_OPEN_OK).await?;
        let mut channel = method(20, 10);
        channel.push(0);
        write(&mut stream, &[frame(METHOD, 1, &channel)]).await?;
        expect(&mut stream, CHANNEL_OPEN_OK).await?;
        let mut confirm = method(85, 10);
        confirm.push(0);
        write(&mut stream, &[frame(METHOD, 1, &confirm)]).await?;
        expect(&mut stream, CONFIRM_SELECT_OK).await?;
        self.published.store(0, Ordering::Relaxed);
        Ok(stream)
    }

    fn message(&self, alert: &Alert) -> Vec<u8> {
        let json = alert.to_json();
        let mut publish = method(60, 40);
        // To the default exchange, which routes by the name of the queue; mandatory.
        publish.extend([0, 0, 0]);
        short_text(&mut publish, &self.queue);
        publish.push(1);
        let mut bytes = frame(METHOD, 1, &publish);
        let mut header = Vec::new();
        header.extend(60_u16.to_be_bytes());
        header.extend(0_u16.to_be_bytes());
        header.extend((json.len() as u64).to_be_bytes());
        // Content type, delivery mode (2: persistent), message id.
        header.extend(0b1001_0000_1000_0000_u16.to_be_bytes());
        short_text(&mut header, "text/plain");
        header.push(2);
        short_text(&mut header, &alert.uuid);
        bytes.extend(frame(HEADER, 1, &header));
        for part in json.chunks(FRAME_BYTES as usize - 8) {
            bytes.extend(frame(BODY, 1, part));
        }
        bytes
    }

    async fn exchange(
        &self,
        stream: &mut Stream,
        alerts: &[Arc<Alert>],
    ) -> Result<Delivery, Failure> {
        for alert in alerts {
            stream
                .write_all(&self.message(alert))
                .await
                .map_err(broken)?;
        }
        stream.flush().await.map_err(broken)?;
        let count = alerts.len() as u64;
        let before = self.published.fetch_add(count, Ordering::Relaxed);
        // What each message was answered with: nothing yet, taken, or not taken.
        let mut answers: Vec<Option<bool>> = vec![None; alerts.len()];
        while answers.contains(&None) {
            let (kind, id, body) = read_method(stream).await?;
            if kind != METHOD {
                // The content of a message that came back.
                continue;
            }
            match id {
                BASIC_ACK | BASIC_NACK => {
                    let (Some(tag), Some(flags)) = (number(&body, 4), body.get(12)) else {
                        return Err(Failure::later("the broker does not speak AMQP"));
                    };
                    let last = usize::try_from(tag.saturating_sub(before)).unwrap_or(usize::MAX);
                    let first = if flags & 1 == 1 { 1 } else { last };
                    for (place, answer) in (1..).zip(&mut answers) {
                        if (first..=last).contains(&place) {
                            answer.get_or_insert(id == BASIC_ACK);
                        }
                    }
                }
                BASIC_RETURN => {
                    return Err(Failure::later(format!(
                        "there is no queue {:?} that takes a message",
                        quoted(&self.queue)
                    )));
                }
                _ => return Err(unexpected(id, &body)),
            }
        }
        let again: Vec<usize> = (0..)
            .zip(&answers)
            .filter(|(_, taken)| **taken == Some(false))
            .map(|(place, _)| place)
            .collect();
        let reason = (!again.is_empty()).then(|| "the broker could not take it".to_owned());
        Ok(Delivery {
            refused: 0,
            reason,
            again,
        })
    }
}

fn method(class: u16, method: u16) -> Vec<u8> {
    [class.to_be_bytes(), method.to_be_bytes()].concat()
}

fn short_text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(255)];
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text.as_bytes());
}

fn long_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(
        u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    bytes.extend(payload);
    bytes.push(FRAME_END);
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

async fn write(stream: &mut Stream, frames: &[Vec<u8>]) -> Result<(), Failure> {
    stream.write_all(&frames.concat()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// A frame: its kind, the method if it is one, and its payload. Heartbeats are passed over.
async fn read_method(stream: &mut Stream) -> Result<(u8, (u16, u16), Vec<u8>), Failure> {
    loop {
        let kind = stream.read_u8().await.map_err(broken)?;
        stream.read_u16().await.map_err(broken)?;
        let length = stream.read_u32().await.map_err(broken)?;
        if length > FRAME_BYTES || kind == b'A' {
            return Err(Failure::later("the broker does not speak AMQP 0-9-1"));
        }
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.map_err(broken)?;
        if stream.read_u8().await.map_err(broken)? != FRAME_END {
            return Err(Failure::later("the broker does not speak AMQP 0-9-1"));
        }
        match (kind, &payload[..]) {
            (METHOD, [a, b, c, d, ..]) => {
                let id = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                return Ok((kind, id, payload));
            }
            (HEADER | BODY, _) => return Ok((kind, (0, 0), payload)),
            _ => {}
        }
    }
}

async fn expect(stream: &mut Stream, wanted: (u16, u16)) -> Result<(), Failure> {
    let (_, id, body) = read_method(stream).await?;
    if id == wanted {
        Ok(())
    } else {
        Err(unexpected(id, &body))
    }
}

/// What the broker says when it closes; it may be set right, so nothing is lost over it.
fn unexpected(id: (u16, u16), body: &[u8]) -> Failure {
    if id == CONNECTION_CLOSE || id == CHANNEL_CLOSE {
        let length = body.get(6).copied().map_or(0, usize::from);
        let text = body.get(7..7 + length).unwrap_or_default();
        return Failure::later(format!(
            "the broker closes: {}",
            quoted(&String::from_utf8_lossy(text))
        ));
    }
    Failure::later("the broker says what nobody asked for")
}

impl Protocol for Rabbitmq {
    fn open(&self) -> Pending<'_, Result<Stream, Failure>> {
        Box::pin(self.hello())
    }

    fn send<'a>(
        &'a self,
        stream: &'a mut Stream,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(self.exchange(stream, alerts))
    }
}

/// The other side's part, for tests against a broker.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a durable queue if there is none, and gives the number of its messages.
    pub(crate) async fn declare(url: &str, queue: &str) -> u32 {
        let mut stream = open(url).await;
        let mut declare = method(50, 10);
        declare.extend([0, 0]);
        short_text(&mut declare, queue);
        declare.push(2);
        declare.extend(0_u32.to_be_bytes());
        write(&mut stream, &[frame(METHOD, 1, &declare)])
            .await
            .expect("written");
        let (_, id, body) = read_method(&mut stream).await.expect("read");
        assert_eq!(id, (50, 11), "{}", String::from_utf8_lossy(&body));
        let at = 5 + queue.len();
        u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"))
    }

    /// Takes the oldest message of a queue.
    pub(crate) async fn get(url: &str, queue: &str) -> Vec<u8> {
        let mut stream = open(url).await;
        let mut get = method(60, 70);
        get.extend([0, 0]);
        short_text(&mut get, queue);
        get.push(1);
        write(&mut stream, &[frame(METHOD, 1, &get)])
            .await
            .expect("written");
        for _ in 0..2 {
            read_method(&mut stream).await.expect("read");
        }
        read_method(&mut stream).await.expect("read").2
    }

    async fn open(url: &str) -> Stream {
        let server = Server::parse(url, &[("amqp://", 5672, false)]).expect("an address");
        let tls = TlsOptions {
            check: true,
            authorities: Vec::new(),
            identity: None,
        };
        let published = AtomicU64::new(0);
        let client = Rabbitmq {
            server,
            tls,
            queue: String::new(),
            published,
        };
        client.hello().await.expect("connected")
    }
}
