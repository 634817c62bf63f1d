//! Alerts, handed to the [`Forwarder`], which sends them on to services.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::{Message, Output, OutputError};
use crate::forward::{Alert, Config, Forwarder, Options};

/// How long services have to take what is left when the run ends. What they do not take then stays in
/// the queues for the next run.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is sent on, and how.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// A configuration in Falcosidekick's form.
    pub config: PathBuf,
    /// The folder of the queues.
    pub queues: PathBuf,
}

/// The services.
pub struct ForwardOutput {
    runtime: Runtime,
    forwarder: Option<Forwarder>,
}

impl ForwardOutput {
    /// Reads the configuration and opens the queues. `environment` gives the variables that the
    /// configuration names.
    ///
    /// # Errors
    /// When the configuration cannot be used, or a queue not be opened.
    pub fn start(
        options: &ForwardOptions,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OutputError> {
        let path = &options.config;
        let refused = |problem| OutputError::Forward {
            path: path.clone(),
            problem,
        };
        let text = read(path)?;
        let config =
            Config::parse(&text, environment).map_err(|error| refused(stdx::chain(&error)))?;
        for notice in &config.notices {
            tracing::warn!(path = %path.display(), "{notice}");
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("forward")
            .enable_all()
            .build()
            .map_err(OutputError::Start)?;
        let entered = runtime.enter();
        let forwarder = Forwarder::start(config, &Options::new(&options.queues), None)
            .map_err(|error| refused(stdx::chain(&error)))?;
        drop(entered);
        Ok(Self {
            runtime,
            forwarder: Some(forwarder),
        })
    }
}

fn read(path: &Path) -> Result<String, OutputError> {
    std::fs::read_to_string(path).map_err(|source| OutputError::File {
        path: path.to_owned(),
        source,
    })
}

impl Output for ForwardOutput {
    fn name(&self) -> &'static str {
        "forward"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        let alert = Alert::from_json(message.json.as_bytes()).map_err(OutputError::Alert)?;
        if let Some(forwarder) = &self.forwarder {
            forwarder.send(Arc::new(alert));
        }
        Ok(())
    }
}

impl Drop for ForwardOutput {
    fn drop(&mut self) {
        let Some(forwarder) = self.forwarder.take() else {
            return;
        };
        let left = self.runtime.block_on(forwarder.stop(LAST_WORDS));
        if left > 0 {
            tracing::warn!(alerts = left, "alerts wait in the queues for the next run");
        }
    }
}
