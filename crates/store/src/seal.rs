//! Encryption of values at rest: which keys, and with what.
//!
//! A sealed value is `KNS1`, the id of the key (4 bytes, big endian), a nonce of 24 bytes, and the
//! XChaCha20-Poly1305 ciphertext with its tag; the store's key is the associated data, so that a value
//! cannot be moved to another key. The nonce is a keyed hash (HMAC-SHA-256 under a key of its own) of
//! the store's key and the value: it cannot repeat by accident, and the same value of the same key
//! seals to the same bytes, so that writing it again still changes nothing. What that tells one who
//! reads the disk is how long a value is and that a key went back to an earlier one, and no more. One
//! who can write to the disk can put an earlier sealed value of the same key back, or a plain one:
//! sealing keeps values from being read, it does not prove that they are the newest.
//!
//! The cipher, the nonces and the id of a key have keys of their own, derived from its secret with
//! HMAC-SHA-256. That the id follows from the secret means that a secret under a wrong id is noticed
//! before anything is opened with it.
//!
//! Secrets and what is derived from them are wiped from memory when they are no longer needed. The key of
//! the nonces is not, while the process lives: ring offers no way to.
//!
//! Values without the mark are read as they are: they were written before sealing was switched on, and
//! are sealed at the next write, or by [`crate::Store::reseal`].

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::{Zeroize as _, Zeroizing};

use crate::StoreError;

/// What a sealed value begins with. JSON never does.
const MARK: &[u8] = b"KNS1";
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
/// The bytes before the ciphertext.
const HEAD_BYTES: usize = MARK.len() + ID_BYTES + NONCE_BYTES;

/// The length of a secret.
const SECRET_BYTES: usize = 32;

/// A key for sealing, 256 bits from a good source. Wiped when it is dropped.
#[derive(Clone)]
pub struct SealKey {
    /// Its name, which follows from the secret.
    pub id: u32,
    /// The secret.
    pub secret: [u8; SECRET_BYTES],
}

impl SealKey {
    /// The key of a secret.
    #[must_use]
    pub fn new(secret: [u8; SECRET_BYTES]) -> SealKey {
        let derived = derive(&secret, b"knarr seal id v1");
        let (id, _) = derived.split_first_chunk().unwrap_or((&[0; ID_BYTES], &[]));
        SealKey {
            id: u32::from_be_bytes(*id),
            secret,
        }
    }

    /// A new key out of the system's randomness.
    ///
    /// # Errors
    /// [`StoreError::Randomness`] when the system has none to give.
    pub fn generate() -> Result<SealKey, StoreError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom::new()
            .fill(&mut *secret)
            .map_err(|_unspecified| StoreError::Randomness)?;
        Ok(SealKey::new(*secret))
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// 32 bytes for one purpose out of a secret.
fn derive(secret: &[u8], purpose: &[u8]) -> Zeroizing<[u8; SECRET_BYTES]> {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut derived = Zeroizing::new([0; SECRET_BYTES]);
    derived.copy_from_slice(hmac::sign(&root, purpose).as_ref());
    derived
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The keys that values can be opened with; the first one seals.
#[derive(Debug)]
struct Keyring {
    keys: Vec<Ready>,
}

/// A key made ready.
struct Ready {
    id: u32,
    cipher: XChaCha20Poly1305,
    nonce: hmac::Key,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Ready {
    fn new(key: &SealKey) -> Ready {
        let cipher = derive(&key.secret, b"knarr seal cipher v1");
        let nonce = derive(&key.secret, b"knarr seal nonce v1");
        Ready {
            id: key.id,
            cipher: XChaCha20Poly1305::new(&Key::from(*cipher)),
            nonce: hmac::Key::new(hmac::HMAC_SHA256, &*nonce),
        }
    }
}

/// Seals the values of some keys, and opens them.
#[derive(Debug)]
pub struct Seal {
    prefixes: Vec<String>,
    keyring: RwLock<Arc<Keyring>>,
    /// Held shared by each write from the moment at which its values are sealed until it is answered.
    writing: tokio::sync::RwLock<()>,
}

impl Seal {
    /// Seals what is under one of these prefixes with the first key, and opens with any. Without keys
    /// nothing is sealed, and what is sealed cannot be opened.
    #[must_use]
    pub fn new(prefixes: Vec<String>, keys: &[SealKey]) -> Seal {
        Seal {
            prefixes,
            keyring: RwLock::new(Arc::new(ready(keys))),
            writing: tokio::sync::RwLock::default(),
        }
    }

    /// Puts other keys in place, for everything from now on.
    pub fn replace(&self, keys: &[SealKey]) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ready(keys));
    }

    /// Says that a write is under way, as long as the answer is kept.
    pub(crate) async fn writing(&self) -> impl Drop + '_ {
        self.writing.read().await
    }

    /// Returns when every write is through whose values were sealed before this was called: from then
    /// on nothing comes that an earlier keyring has sealed.
    pub(crate) async fn settled(&self) {
        drop(self.writing.write().await);
    }

    /// The prefixes of the keys whose values are sealed.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// Whether a value under this key is to be sealed.
    fn applies(&self, key: &str) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.keyring
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The value as it is to be stored.
    pub(crate) fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, StoreError> {
        let keyring = self.keyring();
        let Some(ready) = keyring.keys.first().filter(|_| self.applies(key)) else {
            return Ok(value);
        };
        let mut context = hmac::Context::with_key(&ready.nonce);
        context.update(&(key.len() as u64).to_be_bytes());
        context.update(key.as_bytes());
        context.update(&value);
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&context.sign().as_ref()[..NONCE_BYTES]);
        let payload = Payload {
            msg: &value,
            aad: key.as_bytes(),
        };
        let sealed = ready
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| failed(key, "it is too large to encrypt".to_owned()))?;
        let mut out = Vec::with_capacity(HEAD_BYTES + sealed.len());
        out.extend_from_slice(MARK);
        out.extend_from_slice(&ready.id.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out.into())
    }

    /// The value as it was written.
    pub(crate) fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, StoreError> {
        if !self.applies(key) {
            return Ok(stored);
        }
        let Some(id) = sealed_with(&stored) else {
            return Ok(stored);
        };
        let keyring = self.keyring();
        let Some(ready) = keyring.keys.iter().find(|ready| ready.id == id) else {
            return Err(failed(key, format!("its key {id:08x} is not here")));
        };
        let damaged = || failed(key, "it is damaged".to_owned());
        let body = stored.get(MARK.len() + ID_BYTES..).ok_or_else(damaged)?;
        let (nonce, sealed) = body
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: key.as_bytes(),
        };
        let opened = ready.cipher.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Bytes::from).map_err(|_| damaged())
    }

    /// Whether a stored value is not sealed with the newest key, though it should be.
    pub(crate) fn is_stale(&self, key: &str, stored: &[u8]) -> bool {
        let keyring = self.keyring();
        let newest = keyring.keys.first().map(|ready| ready.id);
        self.applies(key) && newest.is_some() && sealed_with(stored) != newest
    }
}

/// The id of the key that a stored value is sealed with; `None` when it is not sealed.
#[must_use]
pub fn sealed_with(stored: &[u8]) -> Option<u32> {
    let rest = stored.strip_prefix(MARK)?;
    let (id, _) = rest.split_first_chunk::<ID_BYTES>()?;
    Some(u32::from_be_bytes(*id))
}

fn ready(keys: &[SealKey]) -> Keyring {
    Keyring {
        keys: keys.iter().map(Ready::new).collect(),
    }
}

fn failed(key: &str, detail: String) -> StoreError {
    StoreError::Sealed {
        key: key.into(),
        detail,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Seal, SealKey};

    /// Computed apart from this code, from the format's description: what was sealed must stay readable.
    #[test]
    fn the_format_is_fixed() {
        let seal = Seal::new(vec!["/s/".to_owned()], &[SealKey::new([7; 32])]);
        let sealed = seal.seal("/s/a", "value".into()).unwrap();
        let digits: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "4b4e533173a48180\
                        4ea8d31ef7a3407e3db04aea8ba02957f2535e55f12c6c33\
                        1d5e55190f85a851756b556ba2382baa346613faa6";
        assert_eq!(digits, expected);
        assert_eq!(seal.open("/s/a", sealed.clone()).unwrap(), "value");
        assert_eq!(seal.open("/other", sealed.clone()).unwrap(), sealed);
    }
}
