//! Versions of engine and plugins.

use std::fmt;

/// Three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// What was broken.
    pub major: u32,
    /// What was added.
    pub minor: u32,
    /// What was mended.
    pub patch: u32,
}

/// The engine of Falco whose rules are understood.
pub const ENGINE: Version = Version::new(0, 63, 0);

impl Version {
    /// A version of these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Three numbers with dots between them; what follows does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut numbers = [0; 3];
        for (at, number) in numbers.iter_mut().enumerate() {
            if at > 0 {
                rest = rest.strip_prefix('.')?;
            }
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            *number = rest[..end].parse().ok()?;
            rest = &rest[end..];
        }
        Some(Self::new(numbers[0], numbers[1], numbers[2]))
    }

    /// Whether this will do where the other is asked for.
    pub fn satisfies(self, required: Self) -> bool {
        self.major == required.major && self >= required
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
