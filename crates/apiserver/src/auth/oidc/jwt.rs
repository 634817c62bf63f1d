//! JSON web tokens of others: parsed and verified. Pure.
//!
//! Invariants: the algorithm is one that the configuration allows and that fits the key, never one
//! that the token alone chooses; nothing in a token is believed before its signature is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::{Map, Value};

/// No token that is read is longer.
const TOKEN_LIMIT_BYTES: usize = 64 << 10;
/// How many keys of an issuer are looked at.
const KEYS_LIMIT: usize = 256;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// Its name in a token's head.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// The algorithm of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 => return None,
        })
    }

    fn elliptic(self) -> Option<(&'static str, usize, &'static dyn VerificationAlgorithm)> {
        match self {
            Self::Es256 => Some(("P-256", 32, &signature::ECDSA_P256_SHA256_FIXED)),
            Self::Es384 => Some(("P-384", 48, &signature::ECDSA_P384_SHA384_FIXED)),
            _ => None,
        }
    }
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is none.
    #[error("malformed token")]
    Malformed,
    /// Its algorithm is none of the allowed ones.
    #[error("id token signed with unsupported algorithm, expected {expected:?} got {found:?}")]
    Algorithm {
        /// Those allowed.
        expected: Vec<&'static str>,
        /// That of the token.
        found: String,
    },
    /// No key of the issuer made the signature.
    #[error("failed to verify signature: no keys match the token")]
    Signature,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: String,
    crit: Option<Value>,
}

/// A token whose parts were read; nothing of it is verified.
pub struct Unverified<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: String,
    /// Which key it says that it was signed with; may be empty.
    pub kid: String,
    claims: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    /// Reads the three parts of a compact token.
    ///
    /// # Errors
    /// It is malformed, too long, or demands extensions.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > TOKEN_LIMIT_BYTES {
            return Err(JwtError::Malformed);
        }
        let malformed = || JwtError::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (head, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| JwtError::Malformed);
        let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| malformed())?;
        if head.crit.is_some() {
            return Err(JwtError::Malformed);
        }
        Ok(Self {
            signed,
            signature: decode(signature)?,
            algorithm: head.alg,
            kid: head.kid,
            claims: serde_json::from_slice(&decode(claims)?).map_err(|_| malformed())?,
        })
    }

    /// The issuer that the token names, to find whose keys to try.
    pub fn issuer(&self) -> &str {
        self.claims
            .get("iss")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The claims, if one of the keys made the signature by an allowed algorithm.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify(
        &self,
        keys: &Keys,
        allowed: &[Algorithm],
    ) -> Result<&Map<String, Value>, JwtError> {
        let algorithm = Algorithm::parse(&self.algorithm).filter(|found| allowed.contains(found));
        let Some(algorithm) = algorithm else {
            return Err(JwtError::Algorithm {
                expected: allowed.iter().map(|algorithm| algorithm.name()).collect(),
                found: self.algorithm.clone(),
            });
        };
        let made = keys
            .0
            .iter()
            .filter(|key| self.kid.is_empty() || key.kid == self.kid)
            .any(|key| key.verifies(algorithm, self.signed.as_bytes(), &self.signature));
        if made {
            Ok(&self.claims)
        } else {
            Err(JwtError::Signature)
        }
    }
}

/// The keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kid: String,
    alg: String,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Elliptic {
        curve: String,
        x: Vec<u8>,
        y: Vec<u8>,
    },
}

impl Keys {
    /// Reads a JSON web key set; keys for other uses or of other kinds are left out.
    ///
    /// # Errors
    /// It is no key set.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text)?;
        let keys = set.keys.iter().take(KEYS_LIMIT).filter_map(Key::parse);
        Ok(Self(keys.collect()))
    }

    /// Whether there is a key of this id.
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid == kid)
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        if !matches!(text("use"), "" | "sig") {
            return None;
        }
        let bytes = |field: &str| {
            let decoded = BASE64.decode(text(field).trim_end_matches('=')).ok();
            decoded.filter(|bytes| !bytes.is_empty())
        };
        let material = match text("kty") {
            "RSA" => Material::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            "EC" => Material::Elliptic {
                curve: text("crv").to_owned(),
                x: bytes("x")?,
                y: bytes("y")?,
            },
            _ => return None,
        };
        Some(Self {
            kid: text("kid").to_owned(),
            alg: text("alg").to_owned(),
            material,
        })
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.alg.is_empty() && self.alg != algorithm.name() {
            return false;
        }
        match (&self.material, algorithm.rsa(), algorithm.elliptic()) {
            (Material::Rsa { n, e }, Some(parameters), _) => {
                // Leading zeros are allowed in the set, not by the library.
                let plain = |bytes: &[u8]| {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    bytes[zeros..].to_vec()
                };
                let key = RsaPublicKeyComponents {
                    n: plain(n),
                    e: plain(e),
                };
                key.verify(parameters, signed, signature).is_ok()
            }
            (Material::Elliptic { curve, x, y }, _, Some((name, size, algorithm))) => {
                if curve != name || x.len() > size || y.len() > size {
                    return false;
                }
                let mut point = vec![4];
                for coordinate in [x, y] {
                    point.resize(point.len() + size - coordinate.len(), 0);
                    point.extend_from_slice(coordinate);
                }
                UnparsedPublicKey::new(algorithm, point)
                    .verify(signed, signature)
                    .is_ok()
            }
            _ => false,
        }
    }
}
