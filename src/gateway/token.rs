//! The tokens by which callers are known: 256 random bits, kept only as their hash.
//!
//! Must not know what a caller may do. Its one surprise: a new token for a caller ends its old ones.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Duty, GatewayError};
use crate::model::{AgentName, SlotId};

/// Whose calls a token admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The worker process in this slot.
    Worker(SlotId),
    /// The orchestrator.
    Orchestrator,
    /// A worker on another machine, that was invited.
    Elsewhere {
        /// Its agent.
        agent: AgentName,
        /// What the call is for, as the room knows it.
        duty: Option<Duty>,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(slot) => slot.fmt(f),
            Self::Orchestrator => f.write_str("the orchestrator"),
            Self::Elsewhere { agent, .. } => write!(f, "{agent}, elsewhere"),
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
        write_hex(&self.0, f)
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
        read_hex(text).map(Self).ok_or(GatewayError::TokenHash)
    }
}

/// 32 bytes as 64 hex digits.
pub(super) fn write_hex(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// 64 hex digits as 32 bytes.
pub(super) fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
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

/// 64 hex digits that nobody can guess.
pub(super) fn random() -> Result<String, GatewayError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(GatewayError::Random)?;
    Ok(TokenHash(bytes).to_string())
}

/// All tokens in force.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<(TokenHash, Identity)>);

impl Tokens {
    /// Makes a token and forgets earlier ones of the same caller.
    pub(super) fn issue(&mut self, identity: Identity) -> Result<SecretString, GatewayError> {
        let token = format!("podium-{}", random()?);
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
