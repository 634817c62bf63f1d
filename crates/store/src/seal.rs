//! Encryption of values at rest: which keys, and with what.
//!
//! A sealed value is `KNS1`, the id of the key (4 bytes, big endian), a nonce of 24 bytes, and the
//! XChaCha20-Poly1305 ciphertext with its tag; the store's key is the associated data, so that a value
//! cannot be moved to another key. The nonce is a keyed hash (HMAC-SHA-256 under a key of its own) of
//! the store's key and the value: it cannot repeat by accident, and the same value of the same key
//! seals to the same bytes, so that writing it again still changes nothing. What that tells one who
//! reads the disk is that a key went back to an earlier value, and no more.
//!
//! Values without the mark are read as they are: they were written before sealing was switched on, and
//! are sealed at the next write, or by [`crate::Store::reseal`].

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ring::hmac;

use crate::StoreError;

/// What a sealed value begins with. JSON never does.
const MARK: &[u8] = b"KNS1";
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
/// The bytes before the ciphertext.
const HEAD_BYTES: usize = MARK.len() + ID_BYTES + NONCE_BYTES;

/// A key for sealing, 256 bits from a good source.
#[derive(Clone)]
pub struct SealKey {
    /// Its name; 0 is not used.
    pub id: u32,
    /// The secret.
    pub secret: [u8; 32],
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
        // The nonce's key is derived, so that the secret itself serves one purpose only.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key.secret);
        let derived = hmac::sign(&root, b"knarr seal nonce v1");
        Ready {
            id: key.id,
            cipher: XChaCha20Poly1305::new(&Key::from(key.secret)),
            nonce: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        }
    }
}

/// Seals the values of some keys, and opens them.
#[derive(Debug)]
pub struct Seal {
    prefixes: Vec<String>,
    keyring: RwLock<Arc<Keyring>>,
}

impl Seal {
    /// Seals what is under one of these prefixes with the first key, and opens with any. Without keys
    /// nothing is sealed, and what is sealed cannot be opened.
    #[must_use]
    pub fn new(prefixes: Vec<String>, keys: &[SealKey]) -> Seal {
        Seal {
            prefixes,
            keyring: RwLock::new(Arc::new(ready(keys))),
        }
    }

    /// Puts other keys in place, for everything from now on.
    pub fn replace(&self, keys: &[SealKey]) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ready(keys));
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
