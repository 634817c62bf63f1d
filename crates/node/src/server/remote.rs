//! The streams of a remote command, whatever they travel in.
//!
//! Invariant: the status is sent after the last byte of output, and the connection
//! is closed after the status.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::spdy;

/// One stream to the client.
#[derive(Debug)]
pub(super) enum Sink {
    /// A channel of a WebSocket connection.
    WebSocket {
        channel: u8,
        out: mpsc::Sender<(u8, Bytes)>,
    },
    /// A stream of a SPDY connection.
    Spdy(spdy::Sender),
}

impl Sink {
    /// Sends bytes; false if the client is gone.
    pub(super) async fn send(&self, data: Bytes) -> bool {
        match self {
            Self::WebSocket { channel, out } => out.send((*channel, data)).await.is_ok(),
            Self::Spdy(sender) => sender.send(data).await,
        }
    }

    /// Nothing more is sent.
    pub(super) async fn finish(self) {
        if let Self::Spdy(sender) = self {
            sender.finish().await;
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// The client's side of a command.
pub(super) struct Remote {
    /// Ends with the client's input.
    pub(super) stdin: Option<mpsc::Receiver<Bytes>>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    pub(super) error: Option<Sink>,
    /// JSON documents `{"Width":80,"Height":24}`.
    pub(super) resize: Option<mpsc::Receiver<Bytes>>,
    /// The status is a JSON object (protocol version 4 and later), not plain text.
    pub(super) json_status: bool,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Exit(i32),
    Failed(String),
}

impl Outcome {
    fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit code {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(problem) => json!({
                "metadata": {},
                "status": "Failure",
                "message": problem,
                "reason": "InternalError",
                "details": {"causes": [{"message": problem}]},
                "code": 500,
            }),
        }
    }

    fn plain(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit(code) => {
                format!(
                    "error executing command in container: command terminated with exit code {code}"
                )
            }
            Self::Failed(problem) => problem.clone(),
        }
    }
}

impl Remote {
    /// Sends the status and lets the connection end.
    pub(super) async fn end(self, outcome: &Outcome) {
        let Some(error) = self.error else { return };
        let text = if self.json_status {
            outcome.status().to_string()
        } else {
            outcome.plain()
        };
        if !text.is_empty() {
            error.send(text.into()).await;
        }
        error.finish().await;
    }
}
