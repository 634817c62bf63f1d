//! Apache Kafka: a record an alert, by its binary protocol (Metadata v1 and v4, Produce v3, record
//! batches of format 2), which brokers from 1.0 on speak.
//!
//! A connection goes to the leader of one partition; the next one takes the next partition.
//! Upstream's `requiredacks: NONE` would lose what a broker does not take, so it means ONE here.
//! SASL is PLAIN; SCRAM and compression are missing.

mod codec;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{BatchLimits, Delivery, Failure, Pending};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Protocol, Server, Stream, broken};
use codec::{Fields, bytes, record_batch, text};

const SCHEMES: &[(&str, u16, bool)] = &[("kafka://", 9092, false)];
const PRODUCE: (i16, i16) = (0, 3);
/// Asking makes the topic, where the broker does that.
const METADATA_AND_TOPIC: (i16, i16) = (3, 1);
/// Asking makes nothing, if it says so.
const METADATA: (i16, i16) = (3, 4);
const SASL_HANDSHAKE: (i16, i16) = (17, 1);
const SASL_AUTHENTICATE: (i16, i16) = (36, 0);
/// The longest answer that is read, in bytes: the metadata of one topic is far shorter.
const LONGEST_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long the broker may wait for its replicas.
const ACKS_TIMEOUT_MILLIS: i32 = 10_000;
/// Errors of the protocol that are about the records themselves.
const RECORD_ERRORS: [i16; 3] = [10, 18, 87];

struct Kafka {
    servers: Vec<Server>,
    tls: Option<TlsOptions>,
    topic: String,
    client_id: String,
    acks: i16,
    create_topic: bool,
    credentials: Option<(String, String)>,
    /// Which partition comes next, and which one the connection is for.
    turn: AtomicUsize,
    partition: AtomicI32,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    section.ignore(&["async", "balancer"], notices);
    let mut servers = Vec::new();
    for text in section.list("hostport")? {
        let server = Server::parse(&text, SCHEMES)
            .ok_or_else(|| section.bad("hostport", &format!("{text:?} is no host and port")))?;
        servers.push(server);
    }
    let topic = section.text("topic")?;
    let tls = section.flag("tls", false)? || common.tls.identity.is_some();
    let sasl = section.text("sasl")?;
    let (user, password) = (section.text("username")?, section.text("password")?);
    let credentials = match sasl.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None => None,
        Some("PLAIN") => Some((user.unwrap_or_default(), password.unwrap_or_default())),
        Some(_) => return Err(section.bad("sasl", "only PLAIN is spoken here")),
    };
    let acks = match section
        .text("requiredacks")?
        .map(|acks| acks.to_ascii_uppercase())
        .as_deref()
    {
        None | Some("ONE") => 1,
        Some("ALL") => -1,
        Some("NONE") => {
            notices.push(format!("{}: taken for ONE", section.at("requiredacks")));
            1
        }
        Some(_) => return Err(section.bad("requiredacks", "must be ONE, ALL or NONE")),
    };
    if section
        .text("compression")?
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("none"))
    {
        notices.push(format!(
            "{}: not supported, records are not compressed",
            section.at("compression")
        ));
    }
    let client_id = section.text_or("clientid", "knarr")?;
    let create_topic = section.flag("topiccreation", false)?;
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let topic = topic.ok_or_else(|| section.bad("topic", "needed: the topic to write to"))?;
    if topic.len() > 249 || client_id.len() > 249 {
        return Err(section.bad("topic", "topic and clientid are at most 249 bytes"));
    }
    let kafka = Kafka {
        servers,
        tls: tls.then_some(common.tls),
        topic,
        client_id,
        acks,
        create_topic,
        credentials,
        turn: AtomicUsize::new(0),
        partition: AtomicI32::new(0),
    };
    // Brokers take batches of 1 MB.
    let limits = BatchLimits {
        bytes: 512 * 1024,
        ..BatchLimits::WAITING
    };
    Ok(vec![
        Destination::own("kafka", common.minimum, kafka).in_batches(limits),
    ])
}

/// A partition and the broker that leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leader {
    partition: i32,
    host: String,
    port: u16,
}

impl Kafka {
    async fn hello(&self) -> Result<Stream, Failure> {
        let mut failure = Failure::later("no server is configured");
        for server in &self.servers {
            match self.at_leader(server).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks a server who leads the partition whose turn it is, and connects there.
    async fn at_leader(&self, server: &Server) -> Result<Stream, Failure> {
        let mut stream = self.connect(server).await?;
        let mut body = Vec::new();
        body.extend(1_i32.to_be_bytes());
        text(&mut body, &self.topic);
        let api = if self.create_topic {
            METADATA_AND_TOPIC
        } else {
            body.push(0);
            METADATA
        };
        let answer = self.ask(&mut stream, api, &body).await?;
        let leaders = leaders(&answer, api).ok_or_else(nonsense)??;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let leader = leaders
            .get(turn % leaders.len().max(1))
            .ok_or_else(|| Failure::later("no partition of the topic has a leader"))?;
        self.partition.store(leader.partition, Ordering::Relaxed);
        if (&leader.host, leader.port) == (&server.host, server.port) {
            return Ok(stream);
        }
        let (host, port) = (leader.host.clone(), leader.port);
        self.connect(&Server {
            host,
            port,
            ..server.clone()
        })
        .await
    }

    async fn connect(&self, server: &Server) -> Result<Stream, Failure> {
        let mut stream = server.connect(self.tls.as_ref()).await?;
        if let Some((user, password)) = &self.credentials {
            let mut body = Vec::new();
            text(&mut body, "PLAIN");
            let answer = self.ask(&mut stream, SASL_HANDSHAKE, &body).await?;
            check(Fields(&answer).i16().ok_or_else(nonsense)?)?;
            let mut body = Vec::new();
            bytes(&mut body, format!("\0{user}\0{password}").as_bytes());
            let answer = self.ask(&mut stream, SASL_AUTHENTICATE, &body).await?;
            check(Fields(&answer).i16().ok_or_else(nonsense)?)?;
        }
        Ok(stream)
    }

    /// A request and its answer, without their heads.
    async fn ask(
        &self,
        stream: &mut Stream,
        (api, version): (i16, i16),
        body: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let mut request = Vec::with_capacity(body.len() + 32);
        request.extend(api.to_be_bytes());
        request.extend(version.to_be_bytes());
        // One request at a time: any number tells its answer.
        request.extend(7_i32.to_be_bytes());
        text(&mut request, &self.client_id);
        request.extend(body);
        let mut framed = Vec::with_capacity(request.len() + 4);
        bytes(&mut framed, &request);
        stream.write_all(&framed).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let length = stream.read_i32().await.map_err(broken)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| (4..=LONGEST_ANSWER_BYTES).contains(length))
            .ok_or_else(nonsense)?;
        if stream.read_i32().await.map_err(broken)? != 7 {
            return Err(nonsense());
        }
        let mut answer = vec![0; length - 4];
        stream.read_exact(&mut answer).await.map_err(broken)?;
        Ok(answer)
    }

    fn produce(&self, alerts: &[Arc<Alert>]) -> Vec<u8> {
        let mut body = Vec::new();
        // No transaction.
        body.extend((-1_i16).to_be_bytes());
        body.extend(self.acks.to_be_bytes());
        body.extend(ACKS_TIMEOUT_MILLIS.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        text(&mut body, &self.topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(self.partition.load(Ordering::Relaxed).to_be_bytes());
        bytes(&mut body, &record_batch(alerts));
        body
    }

    async fn exchange(&self, stream: &mut Stream, alerts: &[Arc<Alert>]) -> Result<(), Failure> {
        let answer = self.ask(stream, PRODUCE, &self.produce(alerts)).await?;
        // One topic, its name, one partition, its number, the error.
        let mut fields = Fields(&answer);
        let error = (|| {
            fields.i32()?;
            fields.text()?;
            fields.i32()?;
            fields.i32()?;
            fields.i16()
        })();
        match error.ok_or_else(nonsense)? {
            code if RECORD_ERRORS.contains(&code) => Err(Failure::Never {
                reason: format!("the broker refuses the records with code {code}"),
                of_content: true,
            }),
            code => check(code),
        }
    }
}

/// The partitions that have a leader, from the answer to a request for metadata.
fn leaders(answer: &[u8], api: (i16, i16)) -> Option<Result<Vec<Leader>, Failure>> {
    let mut fields = Fields(answer);
    if api == METADATA {
        // How long the broker made us wait.
        fields.i32()?;
    }
    let mut brokers = Vec::new();
    for _ in 0..fields.i32()? {
        let (id, host, port) = (fields.i32()?, fields.text()?, fields.i32()?);
        fields.text()?;
        brokers.push((id, host, u16::try_from(port).ok()?));
    }
    if api == METADATA {
        // The cluster's name.
        fields.text()?;
    }
    fields.i32()?;
    let mut leaders = Vec::new();
    for _ in 0..fields.i32()? {
        let error = fields.i16()?;
        if error != 0 {
            return Some(Err(failed(error)));
        }
        fields.text()?;
        fields.take(1)?;
        for _ in 0..fields.i32()? {
            fields.i16()?;
            let (partition, leader) = (fields.i32()?, fields.i32()?);
            for _ in 0..2 {
                let replicas = usize::try_from(fields.i32()?).ok()?;
                fields.take(replicas.checked_mul(4)?)?;
            }
            if let Some((_, host, port)) = brokers.iter().find(|(id, ..)| *id == leader) {
                leaders.push(Leader {
                    partition,
                    host: host.clone(),
                    port: *port,
                });
            }
        }
    }
    leaders.sort_by_key(|leader| leader.partition);
    Some(Ok(leaders))
}

fn check(error: i16) -> Result<(), Failure> {
    if error == 0 {
        Ok(())
    } else {
        Err(failed(error))
    }
}

/// Topics can be made, leaders chosen and rights given: what fails may work later.
fn failed(error: i16) -> Failure {
    let name = match error {
        3 => "there is no such topic",
        5 | 6 => "the partition has no leader, or another one",
        7 => "the broker's replicas took too long",
        19 | 20 => "too few replicas are in sync",
        29 => "we may not write to the topic",
        33 => "the broker does not take SASL PLAIN",
        58 => "user or password is wrong",
        _ => "the broker refuses",
    };
    Failure::later(format!("{name} (code {error})"))
}

fn nonsense() -> Failure {
    Failure::later("the server does not speak Kafka")
}

impl Protocol for Kafka {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_found_and_no_answer_is_believed() {
        let mut answer = 0_i32.to_be_bytes().to_vec();
        answer.extend(1_i32.to_be_bytes());
        answer.extend(5_i32.to_be_bytes());
        text(&mut answer, "broker");
        answer.extend(9092_i32.to_be_bytes());
        answer.extend((-1_i16).to_be_bytes());
        answer.extend((-1_i16).to_be_bytes());
        answer.extend(5_i32.to_be_bytes());
        answer.extend(1_i32.to_be_bytes());
        answer.extend(0_i16.to_be_bytes());
        text(&mut answer, "falco");
        answer.push(0);
        answer.extend(2_i32.to_be_bytes());
        for (partition, leader) in [(1_i32, 5_i32), (0, 9)] {
            answer.extend(0_i16.to_be_bytes());
            answer.extend(partition.to_be_bytes());
            answer.extend(leader.to_be_bytes());
            for _ in 0..2 {
                answer.extend(1_i32.to_be_bytes());
                answer.extend(5_i32.to_be_bytes());
            }
        }
        let leader = Leader {
            partition: 1,
            host: "broker".into(),
            port: 9092,
        };
        assert_eq!(leaders(&answer, METADATA), Some(Ok(vec![leader])));
        for length in 0..answer.len() {
            assert_eq!(
                leaders(&answer[..length], METADATA),
                None,
                "cut to {length} bytes"
            );
        }
        for at in 0..answer.len() {
            let mut garbled = answer.clone();
            garbled[at] ^= 0xff;
            let _ = leaders(&garbled, METADATA);
        }
    }
}
