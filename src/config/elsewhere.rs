//! `[gateway]`: where workers on other machines call.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

use super::{Config, Setting, file::Key};
use crate::gateway::{Invitations, check_address};

/// The table as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gateway {
    pub(super) listen: Key<Listen>,
    pub(super) address: Key<Address>,
}

/// Where to listen for other machines; `"off"` = nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        if text == "off" {
            return Ok(Self(None));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(de::Error::custom(format!(
                "{scheme}:// is not said here: this listener is always encrypted, plain calls are for loopback only \
                 ([room] gateway); write \"0.0.0.0:7443\""
            )));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                Err(de::Error::custom("workers elsewhere must find it again: name a port, such as \"0.0.0.0:7443\""))
            }
            Ok(address) => Ok(Self(Some(address))),
            Err(_) => Err(de::Error::custom(format!("\"{text}\" is no address such as \"0.0.0.0:7443\", nor \"off\""))),
        }
    }
}

/// How other machines call it; `"auto"` = as it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        if text == "auto" {
            return Ok(Self(None));
        }
        check_address(&text).map_err(|what| de::Error::custom(format!("\"{text}\" is no such thing: {what}")))?;
        Ok(Self(Some(text)))
    }
}

/// The listener for workers on other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Where it listens; `None` = nowhere.
    pub listen: Setting<Option<SocketAddr>>,
    /// How other machines call it, where that is not told by where it listens.
    pub address: Setting<Option<String>>,
}

impl Elsewhere {
    /// What an invitation says: `HOST:PORT`.
    pub fn called(&self) -> Result<String, String> {
        let Some(listen) = *self.listen else {
            return Err(
                "no worker elsewhere could call: say where in podium.toml, [gateway] listen = \"0.0.0.0:7443\", \
                        and start the room again"
                    .to_owned(),
            );
        };
        match &*self.address {
            Some(address) => Ok(address.clone()),
            None if listen.ip().is_unspecified() => Err(format!(
                "{listen} is every address of this machine; say by which one others call it: \
                 [gateway] address = \"HOST:{}\"",
                listen.port()
            )),
            None => Ok(listen.to_string()),
        }
    }
}

impl Config {
    /// Who was invited, and the certificate.
    pub fn invitations(&self) -> Invitations {
        Invitations::new(&self.layout().private().join("gateway"))
    }
}
