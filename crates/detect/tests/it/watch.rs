//! Watching what a test does.

use std::time::{Duration, Instant};

use detect::event::{Event, EventType, Selection};
use detect::probes::{LoadError, Options, Probes};

/// An event that was seen, as bytes of its own.
pub(crate) struct Seen(Vec<u8>);

impl Seen {
    pub(crate) fn event(&self) -> Event<'_> {
        Event::parse(&self.0).expect("it was parsed before")
    }
}

/// The probes, or nothing and a word about it where this machine has none.
pub(crate) fn probes(wanted: &Selection) -> Option<Probes> {
    match Probes::load(wanted, &Options::default()) {
        Ok(probes) => Some(probes),
        Err(error @ (LoadError::Denied(_) | LoadError::NoBtf(_))) => {
            println!("SKIPPED: {error}");
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("the probes do not load: {error}: {error:?}"),
    }
}

/// Every event from now until `act` is done, in the order in which they were handed out.
pub(crate) fn record(probes: &mut Probes, act: impl FnOnce()) -> Vec<Seen> {
    probes.drain(|_| {});
    act();
    let mut seen = Vec::new();
    let until = Instant::now() + Duration::from_millis(50);
    probes
        .run(until, Duration::from_millis(1), |event| {
            seen.push(Seen(event.bytes().to_vec()));
        })
        .expect("waiting for events");
    seen
}

/// The events of a type.
pub(crate) fn of(seen: &[Seen], kind: EventType) -> impl Iterator<Item = Event<'_>> {
    seen.iter()
        .map(Seen::event)
        .filter(move |event| event.kind == kind)
}

/// A selection of the events and calls of these names.
pub(crate) fn named(names: &[&str]) -> Selection {
    let mut selection = Selection::default();
    for name in names {
        assert!(selection.insert_named(name), "{name}");
    }
    selection
}
