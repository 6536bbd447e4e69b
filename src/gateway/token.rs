//! The tokens by which callers are known: 256 random bits, kept only as their hash.
//!
//! Must not know what a caller may do. Its one surprise: a new token for a caller ends its old ones.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::GatewayError;
use crate::model::SlotId;

/// Whose calls a token admits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The worker process in this slot.
    Worker(SlotId),
    /// The orchestrator.
    Orchestrator,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(slot) => slot.fmt(f),
            Self::Orchestrator => f.write_str("the orchestrator"),
        }
    }
}

/// The SHA-256 of a token: all that is kept of it, in memory and on disk. Written as 64 hex digits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a presented token.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Compares in a time that does not depend on where the difference is.
    fn is(&self, other: &Self) -> bool {
        let differ = self.0.iter().zip(other.0).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        differ == 0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl FromStr for TokenHash {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        let digits = text.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 64 {
            return Err(GatewayError::TokenHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or(GatewayError::TokenHash)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
    }
}

/// All tokens in force.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<(TokenHash, Identity)>);

impl Tokens {
    /// Makes a token and forgets earlier ones of the same caller.
    pub(super) fn issue(&mut self, identity: Identity) -> Result<SecretString, GatewayError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(GatewayError::Random)?;
        let token = format!("podium-{}", TokenHash(random));
        self.adopt(TokenHash::of(token.as_bytes()), identity);
        Ok(token.into())
    }

    /// Takes over a token that was issued before a restart; forgets earlier ones of the same caller.
    pub(super) fn adopt(&mut self, hash: TokenHash, identity: Identity) {
        self.revoke(&identity);
        self.0.push((hash, identity));
    }

    pub(super) fn revoke(&mut self, identity: &Identity) {
        self.0.retain(|(_, held)| held != identity);
    }

    /// Who presented this token. Looks at every one, found or not.
    pub(super) fn find(&self, token: &[u8]) -> Option<Identity> {
        let hash = TokenHash::of(token);
        self.0.iter().fold(None, |found, (held, identity)| if held.is(&hash) { Some(identity) } else { found }).cloned()
    }
}

/// The hash under which a token may be kept and adopted later.
pub fn token_hash(token: &SecretString) -> TokenHash {
    TokenHash::of(token.expose_secret().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: u32) -> Identity {
        Identity::Worker(SlotId { agent: "marie".parse().unwrap(), index })
    }

    #[test]
    fn a_token_names_its_caller_until_it_is_replaced_or_revoked() {
        let mut tokens = Tokens::default();
        let one = tokens.issue(slot(0)).unwrap();
        let two = tokens.issue(slot(1)).unwrap();
        let find = |tokens: &Tokens, token: &SecretString| tokens.find(token.expose_secret().as_bytes());
        assert_eq!((find(&tokens, &one), find(&tokens, &two)), (Some(slot(0)), Some(slot(1))));
        assert_eq!((tokens.find(b""), tokens.find(b"podium-")), (None, None));
        let again = tokens.issue(slot(0)).unwrap();
        assert_eq!((find(&tokens, &one), find(&tokens, &again)), (None, Some(slot(0))));
        tokens.revoke(&slot(1));
        assert_eq!(find(&tokens, &two), None);
    }

    #[test]
    fn a_hash_survives_its_own_text_and_adopts_the_token_elsewhere() {
        let token = Tokens::default().issue(slot(0)).unwrap();
        let text = serde_json::to_string(&token_hash(&token)).unwrap();
        assert!(!text.contains(token.expose_secret()));
        let mut later = Tokens::default();
        later.adopt(serde_json::from_str(&text).unwrap(), slot(0));
        assert_eq!(later.find(token.expose_secret().as_bytes()), Some(slot(0)));
        for bad in ["", "zz", &"+f".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<TokenHash>().is_err(), "{bad}");
        }
    }
}
