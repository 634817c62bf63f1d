//! Exponential backoff with jitter. Invariant: a delay never exceeds `max`, jitter included.

use std::time::Duration;

use rand::RngExt as _;

/// The delays between attempts of one retried action.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// The delay before the first retry.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// What each delay is multiplied by to give the next; values below 1 count as 1.
    pub factor: f64,
    /// The share of a delay that is random, between 0 (none) and 1 (all of it).
    pub jitter: f64,
    attempt: u32,
}

impl Backoff {
    /// A backoff that doubles, with a fifth of each delay random.
    pub fn new(initial: Duration, max: Duration) -> Backoff {
        Backoff {
            initial,
            max,
            factor: 2.0,
            jitter: 0.2,
            attempt: 0,
        }
    }

    /// Sets the factor between two delays.
    #[must_use]
    pub fn with_factor(mut self, factor: f64) -> Backoff {
        self.factor = factor;
        self
    }

    /// Sets the random share of each delay.
    #[must_use]
    pub fn with_jitter(mut self, jitter: f64) -> Backoff {
        self.jitter = jitter;
        self
    }

    /// How many delays were handed out since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// The delay to wait before the next attempt; each call counts as a failed attempt.
    #[allow(
        clippy::should_implement_trait,
        reason = "an endless sequence is not read as an iterator"
    )]
    pub fn next(&mut self) -> Duration {
        let random: f64 = rand::rng().random();
        let delay = self.delay(random);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Starts again from `initial`, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    fn delay(&self, random: f64) -> Duration {
        let max = self.max.as_secs_f64();
        let exponent = i32::try_from(self.attempt).unwrap_or(i32::MAX);
        let full = (self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent)).min(max);
        let share = self.jitter.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(full * (1.0 - share * random)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_again() {
        let mut backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).with_jitter(0.0);
        let delays: Vec<u128> = (0..6).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
        let mut jittered = backoff.with_jitter(0.5);
        for _ in 0..5000 {
            let delay = jittered.next();
            assert!(
                delay <= Duration::from_secs(1) && delay >= Duration::from_millis(50),
                "{delay:?}"
            );
        }
    }
}
