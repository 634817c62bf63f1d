//! Requests from many connections, each with one under way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;

use super::connection::Connection;
use super::target::Target;
use super::{CONNECTIONS, LISTED};

/// How many bytes of data a configmap has.
const DATA_BYTES: usize = 1024;

/// What is asked, in the order in which a round does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Get,
    Update,
    List,
    Delete,
}

impl Operation {
    pub(super) const ALL: [Self; 5] = [
        Self::Create,
        Self::Get,
        Self::Update,
        Self::List,
        Self::Delete,
    ];

    pub(super) fn words(self) -> String {
        match self {
            Self::Create => "creates of configmaps of 1 KiB".to_owned(),
            Self::Get => "gets".to_owned(),
            Self::Update => "updates".to_owned(),
            Self::List => format!("lists of {LISTED}"),
            Self::Delete => "deletes".to_owned(),
        }
    }
}

/// What came out.
pub(super) struct Timed {
    pub(super) per_second: f64,
    /// Of each request.
    pub(super) millis: Vec<f64>,
}

/// A configmap whose data does not repeat and cannot be compressed well.
pub(super) fn config_map(name: &str, seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = String::with_capacity(DATA_BYTES);
    for _ in 0..DATA_BYTES {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let letter = LETTERS[(state % 64) as usize];
        data.push(char::from(letter));
    }
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":"{data}"}}}}"#
    )
    .into()
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

/// Makes objects in a namespace.
pub(super) async fn fill(target: &Target, namespace: &str, count: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
    try_join_all((0..CONNECTIONS).map(|_| async {
        let mut connection = Connection::open(target).await?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok::<_, anyhow::Error>(());
            }
            let body = config_map(&format!("filled-{number:06}"), number as u64);
            connection.post(&collection, body).await?;
        }
    }))
    .await?;
    Ok(())
}

/// Asks for a while. `made` are the objects there are: creates add to them, deletes take from them.
pub(super) async fn run(
    target: &Target,
    namespace: &str,
    operation: Operation,
    made: &mut Vec<String>,
    time: Duration,
) -> Result<Timed> {
    let next = AtomicUsize::new(0);
    let objects = made.as_slice();
    let start = Instant::now();
    let runs = (0..CONNECTIONS).map(|number| {
        let client = Client {
            target,
            namespace,
            operation,
            objects,
            number,
            next: &next,
        };
        client.run(time)
    });
    let outcomes = try_join_all(runs).await?;
    let took = outcomes
        .iter()
        .map(|outcome| outcome.end - start)
        .max()
        .unwrap_or(time);
    let mut millis = Vec::new();
    let mut names = Vec::new();
    for outcome in outcomes {
        millis.extend(outcome.millis);
        names.extend(outcome.made);
    }
    ensure!(!millis.is_empty(), "no request in {time:?}");
    if operation == Operation::Create {
        *made = names;
    }
    Ok(Timed {
        per_second: millis.len() as f64 / took.as_secs_f64(),
        millis,
    })
}

/// One connection's part of a run.
struct Client<'a> {
    target: &'a Target,
    namespace: &'a str,
    operation: Operation,
    objects: &'a [String],
    number: usize,
    next: &'a AtomicUsize,
}

struct Outcome {
    millis: Vec<f64>,
    made: Vec<String>,
    end: Instant,
}

impl Client<'_> {
    async fn run(self, time: Duration) -> Result<Outcome> {
        let mut connection = Connection::open(self.target).await?;
        let (mut millis, mut made) = (Vec::new(), Vec::new());
        let until = Instant::now() + time;
        while Instant::now() < until {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let name = match self.operation {
                Operation::Create => format!("one-{}-{turn:07}", self.number),
                // Each object is deleted once.
                Operation::Delete => match self.objects.get(turn) {
                    Some(name) => name.clone(),
                    None => break,
                },
                _ => self.objects[turn * 7919 % self.objects.len()].clone(),
            };
            let body = match self.operation {
                Operation::Create | Operation::Update => {
                    config_map(&name, (turn as u64) << 8 | self.number as u64)
                }
                _ => Bytes::new(),
            };
            let begin = Instant::now();
            self.one(&mut connection, &name, body).await?;
            millis.push(begin.elapsed().as_secs_f64() * 1000.0);
            if self.operation == Operation::Create {
                made.push(name);
            }
        }
        Ok(Outcome {
            millis,
            made,
            end: Instant::now(),
        })
    }

    async fn one(&self, connection: &mut Connection, name: &str, body: Bytes) -> Result<()> {
        let namespace = self.namespace;
        match self.operation {
            Operation::Create => {
                let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
                connection.post(&collection, body).await?;
            }
            Operation::Get => {
                connection.get(&path(namespace, name)).await?;
            }
            Operation::Update => {
                connection.put(&path(namespace, name), body).await?;
            }
            Operation::Delete => {
                connection.delete(&path(namespace, name)).await?;
            }
            Operation::List => {
                let size = connection
                    .get("/api/v1/namespaces/bench-list/configmaps")
                    .await?;
                ensure!(size > LISTED * DATA_BYTES, "a list of {size} bytes");
            }
        }
        Ok(())
    }
}
