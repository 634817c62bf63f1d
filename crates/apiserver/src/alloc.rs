//! The pools that Services draw from: addresses and node ports, as bitmaps rebuilt at start.
//!
//! Invariant: nothing is handed out twice while it is held.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use rand::RngExt as _;

/// The most addresses that a pool manages.
const ADDRESSES_LIMIT: u32 = 1 << 16;

/// Why a chosen address or port cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Outside of the pool.
    OutOfRange,
    /// Held by somebody.
    Taken,
    /// Nothing is left.
    Exhausted,
}

/// Slots `0..size`.
struct Bitmap {
    size: u32,
    words: Mutex<Vec<u64>>,
}

impl Bitmap {
    fn new(size: u32) -> Self {
        Self {
            size,
            words: Mutex::new(vec![0; size.div_ceil(64) as usize]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, slot: u32) -> Result<(), Refused> {
        if slot >= self.size {
            return Err(Refused::OutOfRange);
        }
        if set(&mut self.lock(), slot) {
            Ok(())
        } else {
            Err(Refused::Taken)
        }
    }

    fn free(&self, slot: u32) {
        if let Some(word) = self.lock().get_mut((slot / 64) as usize) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// A free slot: first of those from `reserved` on, from a random one upwards; then below.
    fn take_any(&self, reserved: u32) -> Result<u32, Refused> {
        let reserved = reserved.min(self.size);
        let dynamic = self.size - reserved;
        let start = if dynamic == 0 {
            0
        } else {
            rand::rng().random_range(0..dynamic)
        };
        let mut words = self.lock();
        let upper = (0..dynamic).map(|i| reserved + (start + i) % dynamic);
        upper
            .chain(0..reserved)
            .find(|slot| set(&mut words, *slot))
            .ok_or(Refused::Exhausted)
    }
}

/// Sets a bit; false when it was set.
fn set(words: &mut [u64], slot: u32) -> bool {
    let Some(word) = words.get_mut((slot / 64) as usize) else {
        return false;
    };
    let bit = 1u64 << (slot % 64);
    let free = *word & bit == 0;
    *word |= bit;
    free
}

/// The addresses of Services.
pub(crate) struct Addresses {
    network: IpNet,
    bitmap: Bitmap,
}

impl Addresses {
    /// A pool of a network's addresses, without the network's own and the broadcast address.
    pub(crate) fn new(network: IpNet) -> Self {
        let bits = u32::from(network.max_prefix_len() - network.prefix_len());
        let all = if bits >= 16 {
            ADDRESSES_LIMIT
        } else {
            1 << bits
        };
        Self {
            network: network.trunc(),
            bitmap: Bitmap::new(all.saturating_sub(2)),
        }
    }

    pub(crate) fn network(&self) -> IpNet {
        self.network
    }

    /// How many there are.
    pub(crate) fn size(&self) -> u32 {
        self.bitmap.size
    }

    /// The first address: the one of `default/kubernetes`.
    pub(crate) fn first(&self) -> IpAddr {
        self.address(0)
    }

    fn address(&self, slot: u32) -> IpAddr {
        match self.network.network() {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(slot + 1)).into(),
            IpAddr::V6(base) => {
                Ipv6Addr::from(u128::from(base).wrapping_add(u128::from(slot) + 1)).into()
            }
        }
    }

    fn slot(&self, address: IpAddr) -> Option<u32> {
        let offset = match (self.network.network(), address) {
            (IpAddr::V4(base), IpAddr::V4(a)) => {
                u128::from(u32::from(a).checked_sub(u32::from(base))?)
            }
            (IpAddr::V6(base), IpAddr::V6(a)) => u128::from(a).checked_sub(u128::from(base))?,
            _ => return None,
        };
        u32::try_from(offset.checked_sub(1)?)
            .ok()
            .filter(|slot| *slot < self.bitmap.size)
    }

    /// Takes a chosen address.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), Refused> {
        self.slot(address)
            .ok_or(Refused::OutOfRange)
            .and_then(|slot| self.bitmap.take(slot))
    }

    /// Takes any address; the lower ones are left for those who choose (upstream's rule).
    pub(crate) fn take_any(&self) -> Result<IpAddr, Refused> {
        let reserved = (self.bitmap.size / 16)
            .clamp(16, 256)
            .min(self.bitmap.size / 2);
        self.bitmap
            .take_any(reserved)
            .map(|slot| self.address(slot))
    }

    /// Gives an address back.
    pub(crate) fn free(&self, address: IpAddr) {
        if let Some(slot) = self.slot(address) {
            self.bitmap.free(slot);
        }
    }
}

/// The node ports of Services.
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    bitmap: Bitmap,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        let size = u32::from(range.end().saturating_sub(*range.start())) + 1;
        Self {
            range,
            bitmap: Bitmap::new(size),
        }
    }

    pub(crate) fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    fn slot(&self, port: u16) -> Option<u32> {
        self.range
            .contains(&port)
            .then(|| u32::from(port - self.range.start()))
    }

    pub(crate) fn take(&self, port: u16) -> Result<(), Refused> {
        self.slot(port)
            .ok_or(Refused::OutOfRange)
            .and_then(|slot| self.bitmap.take(slot))
    }

    pub(crate) fn take_any(&self) -> Result<u16, Refused> {
        let reserved = (self.bitmap.size / 32)
            .clamp(16, 128)
            .min(self.bitmap.size / 2);
        let slot = self.bitmap.take_any(reserved)?;
        let port = u32::from(*self.range.start()) + slot;
        u16::try_from(port).map_err(|_| Refused::Exhausted)
    }

    pub(crate) fn free(&self, port: u16) {
        if let Some(slot) = self.slot(port) {
            self.bitmap.free(slot);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_handed_out_twice() {
        let pool = Addresses::new("10.0.0.0/27".parse().unwrap());
        assert_eq!(pool.first(), "10.0.0.1".parse::<IpAddr>().unwrap());
        pool.take(pool.first()).unwrap();
        assert_eq!(pool.take(pool.first()), Err(Refused::Taken));
        assert_eq!(
            pool.take("10.0.0.31".parse().unwrap()),
            Err(Refused::OutOfRange)
        );
        assert_eq!(
            pool.take("10.0.0.0".parse().unwrap()),
            Err(Refused::OutOfRange)
        );
        let mut seen = HashSet::from([pool.first()]);
        while let Ok(address) = pool.take_any() {
            assert!(seen.insert(address), "{address}");
        }
        assert_eq!(seen.len(), 30);
        pool.free("10.0.0.9".parse().unwrap());
        assert_eq!(pool.take_any(), Ok("10.0.0.9".parse().unwrap()));
    }
}
