//! The seam between delivery and services: whoever can take alerts is a [`Publisher`].
//!
//! Invariant: a publisher says of every alert that it was given what became of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::alert::Alert;

/// A future that may be sent between threads.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes alerts to one service.
pub(crate) trait Publisher: Send {
    /// Takes a batch. It is called again with the same alerts after [`Failure::Later`].
    fn publish<'a>(
        &'a mut self,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>>;
}

/// What became of a batch that a service answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// How many alerts it will never take.
    pub(crate) refused: usize,
    /// What was wrong with some of it, for the log.
    pub(crate) reason: Option<String>,
    /// Which alerts it may take later, by their place in the batch.
    pub(crate) again: Vec<usize>,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may be later.
    Later {
        /// Why, for the log.
        reason: String,
        /// When the service wants to be asked again.
        after: Option<Duration>,
    },
    /// It never will be.
    Never {
        /// Why, for the log.
        reason: String,
        /// Whether it is about what was sent, so that parts of a batch may yet be taken.
        of_content: bool,
    },
}

impl Failure {
    /// A failure that may pass.
    pub(crate) fn later(reason: impl ToString) -> Failure {
        Failure::Later {
            reason: reason.to_string(),
            after: None,
        }
    }

    /// A failure that will not pass, whatever is sent.
    pub(crate) fn never(reason: impl ToString) -> Failure {
        Failure::Never {
            reason: reason.to_string(),
            of_content: false,
        }
    }
}

/// How many alerts a service takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    /// At most so many alerts.
    pub(crate) alerts: usize,
    /// And about so many bytes of them.
    pub(crate) bytes: usize,
    /// How long to wait for a batch to fill.
    pub(crate) linger: Duration,
}

impl BatchLimits {
    /// One alert at a time.
    pub(crate) const SINGLE: BatchLimits = BatchLimits {
        alerts: 1,
        bytes: usize::MAX,
        linger: Duration::ZERO,
    };
    /// What has come meanwhile, without waiting for more.
    pub(crate) const WAITING: BatchLimits = BatchLimits {
        alerts: 500,
        bytes: 1024 * 1024,
        linger: Duration::ZERO,
    };
}
