//! JSON web tokens signed with ES256. Invariant: a token is believed only when a key of ours signed
//! it with the one algorithm that we use. What the claims mean is the caller's business.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::file::{make_folder, read, write_private};
use crate::{PkiError, TokenError};

/// No token that we read is longer, in bytes.
const TOKEN_LIMIT_BYTES: usize = 64 << 10;
/// What comes before the point in the DER of a P-256 public key.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The keys of a token issuer: the first one signs, all of them verify.
#[derive(Debug)]
pub struct TokenKeys {
    keys: Vec<Key>,
    random: SystemRandom,
}

#[derive(Debug)]
struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl TokenKeys {
    /// Reads a file of EC P-256 private keys (PKCS#8 PEM, one or more), or makes one with a key.
    /// To rotate, put a new key before the old one, which goes on verifying.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<TokenKeys, PkiError> {
        let pem = match read(path)? {
            Some(pem) => pem,
            None => {
                if let Some(folder) = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                {
                    make_folder(folder)?;
                }
                let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(
                    |_no_randomness| PkiError::Crypto {
                        operation: "make a signing key",
                    },
                )?;
                let pem = key.serialize_pem();
                write_private(path, pem.as_bytes())?;
                pem
            }
        };
        TokenKeys::from_pem(&pem).ok_or_else(|| PkiError::Invalid {
            path: path.to_owned(),
            fault: "holds no EC P-256 private keys",
        })
    }

    fn from_pem(pem: &str) -> Option<TokenKeys> {
        let random = SystemRandom::new();
        let mut keys = Vec::new();
        for der in PrivatePkcs8KeyDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.ok()?;
            let pair = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                der.secret_pkcs8_der(),
                &random,
            )
            .ok()?;
            let spki = [&SPKI_PREFIX, pair.public_key().as_ref()].concat();
            keys.push(Key {
                id: BASE64.encode(digest(&SHA256, &spki)),
                pair,
            });
        }
        (!keys.is_empty()).then_some(TokenKeys { keys, random })
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn sign(&self, claims: &Value) -> Result<String, PkiError> {
        let key = &self.keys[0];
        let header = json!({"alg": "ES256", "kid": key.id});
        let mut token = BASE64.encode(header.to_string());
        token.push('.');
        BASE64.encode_string(claims.to_string(), &mut token);
        let signature = key
            .pair
            .sign(&self.random, token.as_bytes())
            .map_err(|_unspecified| PkiError::Crypto {
                operation: "sign a token",
            })?;
        token.push('.');
        BASE64.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The claims of a token that one of the keys signed. Nothing in them is checked.
    ///
    /// # Errors
    /// The token is malformed, or not signed by one of the keys.
    pub fn verify(&self, token: &str) -> Result<Value, TokenError> {
        if token.len() > TOKEN_LIMIT_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(header)?;
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .ok_or(TokenError::Malformed)?;
        if algorithm != "ES256" {
            return Err(TokenError::Algorithm {
                algorithm: algorithm.chars().take(20).collect(),
            });
        }
        let signature = BASE64
            .decode(signature)
            .map_err(|_malformed| TokenError::Malformed)?;
        let verifies = |key: &Key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref())
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        };
        let id = header
            .get("kid")
            .and_then(Value::as_str)
            .ok_or(TokenError::UnknownKey)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or(TokenError::UnknownKey)?;
        if !verifies(key) {
            return Err(TokenError::Signature);
        }
        object(claims)
    }

    /// The public keys as a JSON web key set.
    pub fn jwks(&self) -> Value {
        let key = |key: &Key| {
            // An uncompressed point: a tag byte, then x and y.
            let point = key.pair.public_key().as_ref();
            let (x, y) = (&point[1..33], &point[33..65]);
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": BASE64.encode(x), "y": BASE64.encode(y),
            })
        };
        json!({"keys": self.keys.iter().map(key).collect::<Vec<_>>()})
    }
}

fn object(part: &str) -> Result<Value, TokenError> {
    let bytes = BASE64
        .decode(part)
        .map_err(|_malformed| TokenError::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// Reads what `jwks` says and checks a token by it alone, as another program would.
    fn verify_by_jwks(jwks: &Value, token: &str) -> Option<Value> {
        let parts: Vec<Vec<u8>> = token
            .split('.')
            .map(|part| BASE64.decode(part).unwrap())
            .collect();
        let header: Value = serde_json::from_slice(&parts[0]).unwrap();
        let key = jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["kid"] == header["kid"])?;
        let coordinate = |name: &str| BASE64.decode(key[name].as_str().unwrap()).unwrap();
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let signed = token.rsplit_once('.').unwrap().0;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &parts[2])
            .ok()?;
        serde_json::from_slice(&parts[1]).ok()
    }

    #[test]
    fn tokens_verify_by_the_published_keys_and_by_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens/sa.key");
        let keys = TokenKeys::load_or_create(&path).unwrap();
        let claims = json!({"sub": "system:serviceaccount:default:default", "aud": ["api"]});
        let token = keys.sign(&claims).unwrap();
        assert_eq!(verify_by_jwks(&keys.jwks(), &token), Some(claims.clone()));
        let again = TokenKeys::load_or_create(&path).unwrap();
        assert_eq!(again.verify(&token), Ok(claims.clone()));

        // Rotation: a new key in front; old tokens stay valid, new ones name the new key.
        let other = TokenKeys::load_or_create(&folder.path().join("other.key")).unwrap();
        assert_eq!(other.verify(&token), Err(TokenError::UnknownKey));
        let both = std::fs::read_to_string(folder.path().join("other.key")).unwrap()
            + &std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, both).unwrap();
        let rotated = TokenKeys::load_or_create(&path).unwrap();
        assert_eq!(rotated.verify(&token), Ok(claims.clone()));
        assert_eq!(other.verify(&rotated.sign(&claims).unwrap()), Ok(claims));

        std::fs::write(&path, "rubbish").unwrap();
        assert!(matches!(
            TokenKeys::load_or_create(&path),
            Err(PkiError::Invalid { .. })
        ));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = TokenKeys::load_or_create(&folder.path().join("sa.key")).unwrap();
        let token = keys.sign(&json!({"sub": "a"})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let encoded = |value: Value| BASE64.encode(value.to_string());
        let admin = encoded(json!({"sub": "admin"}));
        let none = encoded(json!({"alg": "none", "kid": keys.keys[0].id}));
        let table = [
            (
                format!("{}.{}.{}", parts[0], admin, parts[2]),
                TokenError::Signature,
            ),
            (
                format!("{none}.{admin}."),
                TokenError::Algorithm {
                    algorithm: "none".into(),
                },
            ),
            (format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
            (format!("{}.{}", parts[0], parts[1]), TokenError::Malformed),
            (
                format!("{}.{}.é", parts[0], parts[1]),
                TokenError::Malformed,
            ),
            (
                format!(
                    "{}.{}.{}",
                    encoded(json!({"alg": "ES256"})),
                    admin,
                    parts[2]
                ),
                TokenError::UnknownKey,
            ),
            (String::new(), TokenError::Malformed),
            ("..".to_owned(), TokenError::Malformed),
            (
                format!("{}{token}", "a".repeat(70_000)),
                TokenError::Malformed,
            ),
        ];
        for (forged, expected) in table {
            assert_eq!(keys.verify(&forged), Err(expected), "{forged:.80}");
        }
    }
}
