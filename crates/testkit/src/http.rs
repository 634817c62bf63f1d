//! As much of an HTTP/1.1 server as the stubs need: one request a connection, and an answer that
//! may end before it is complete.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

/// How long somebody who has connected may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was asked.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next(), words.next());
        let mut headers = Vec::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Ok(Self {
            method: method.unwrap_or_default(),
            target: target.unwrap_or_default(),
            headers,
        })
    }

    /// The path alone.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// A decoded parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let found = query.split('&').filter_map(|pair| pair.split_once('='));
        found
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| hex::decode(two).ok());
        let (byte, used) = match (first, hex) {
            (b'%', Some(hex)) => (hex[0], 2),
            (b'+', _) => (b' ', 0),
            _ => (*first, 0),
        };
        bytes.push(byte);
        rest = &tail[used..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) media_type: String,
    /// More headers, each with its line end.
    pub(crate) headers: String,
    /// The length that is announced, in bytes.
    pub(crate) announced: usize,
    /// What is sent before the line goes dead.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(status: &'static str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self {
            status,
            media_type: "application/json".to_owned(),
            headers: String::new(),
            announced: body.len(),
            body,
        }
    }

    fn write(&self, mut stream: &TcpStream, method: &str) -> std::io::Result<()> {
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
            self.status, self.media_type, self.announced, self.headers
        );
        stream.write_all(head.as_bytes())?;
        if method != "HEAD" {
            stream.write_all(&self.body)?;
        }
        stream.flush()
    }
}

/// A running server on loopback.
pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers on a thread of its own until the process ends: a test is a process.
    pub(crate) fn start(answer: impl Fn(Request) -> Answer + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self {
            address: listener.local_addr()?,
            log: Arc::default(),
        };
        let log = server.log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(request) = Request::read(&stream) else {
                    continue;
                };
                let method = request.method.clone();
                let range = request.header("range").unwrap_or_default();
                let line = format!("{method} {} {range}", request.target);
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line.trim_end().to_owned());
                // Whoever hangs up first has his reasons.
                let _sent = answer(request).write(&stream, &method);
            }
        });
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far: method, path with query, and range.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
