//! Where tasks wait: `[queue]`, `PODIUM_QUEUE`, `--queue`.
//!
//! Its one surprise: a name and a password may stand in the variable's address alone, since files are shown and command lines
//! are seen by everybody on the machine.

use std::path::PathBuf;

use super::{Env, Layers, Setting, Source};
use crate::queue::nats::{Address, shown};

/// Where tasks wait.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// `file:`, or `nats://host:4222`, several with commas; `tls://` where it must be encrypted.
    pub url: Setting<String>,
    /// A `.creds` file.
    pub credentials: Setting<Option<PathBuf>>,
    /// Certificates of authorities to trust beside the usual ones.
    pub ca: Setting<Option<PathBuf>>,
    /// The monitoring addresses of the servers.
    pub monitor: Setting<Vec<String>>,
    /// Copies of everything; `None` = as many as there are servers, up to three.
    pub replicas: Setting<Option<u32>>,
}

impl QueueSettings {
    pub(super) fn read(layers: &Layers, env: &Env, flag: Option<Setting<String>>) -> Self {
        let variable = |name: &str| env.text(name).map(|text| (text.to_owned(), Source::Env(name.to_owned())));
        let url = layers.get(|f| f.queue.url.as_ref(), "file:".to_owned());
        let named = variable("PODIUM_QUEUE").map(|(value, source)| Setting { value, source });
        let path =
            |setting: Setting<PathBuf>| setting.map(|path| Some(path).filter(|path| !path.as_os_str().is_empty()));
        let credentials = path(layers.get(|f| f.queue.credentials.as_ref(), PathBuf::new()));
        let own = variable("PODIUM_QUEUE_CREDENTIALS");
        let own = own.map(|(value, source)| Setting { value: Some(PathBuf::from(value)), source });
        Self {
            url: flag.or(named).unwrap_or(url),
            credentials: own.unwrap_or(credentials),
            ca: path(layers.get(|f| f.queue.ca.as_ref(), PathBuf::new())),
            monitor: layers.get(|f| f.queue.monitor.as_ref(), Vec::new()),
            replicas: layers.get(|f| f.queue.replicas.as_ref(), 0).map(|copies| Some(copies).filter(|n| *n > 0)),
        }
    }

    /// The server, where tasks wait on one; paths are relative to `stage`.
    pub fn server(&self, stage: &std::path::Path) -> Option<Address> {
        if *self.url == "file:" {
            return None;
        }
        let absolute = |path: &Option<PathBuf>| path.as_ref().map(|path| stage.join(path));
        Some(Address {
            url: self.url.value.clone(),
            credentials: absolute(&self.credentials.value),
            ca: absolute(&self.ca.value),
            monitor: self.monitor.value.clone(),
            replicas: self.replicas.value.and_then(|copies| usize::try_from(copies).ok()),
        })
    }

    /// What may be shown of it.
    pub(super) fn rows(&self) -> Vec<(&'static str, String, Source)> {
        let path =
            |path: &Option<PathBuf>| path.as_ref().map_or_else(|| "none".to_owned(), |p| p.display().to_string());
        let url = if *self.url == "file:" { "file:".to_owned() } else { format!("nats://{}", shown(&self.url)) };
        let copies =
            self.replicas.map_or_else(|| "as many as there are servers, up to 3".to_owned(), |n| n.to_string());
        vec![
            ("queue.url", url, self.url.source.clone()),
            ("queue.credentials", path(&self.credentials.value), self.credentials.source.clone()),
            ("queue.ca", path(&self.ca.value), self.ca.source.clone()),
            ("queue.monitor", self.monitor.join(" "), self.monitor.source.clone()),
            ("queue.replicas", copies, self.replicas.source.clone()),
        ]
    }
}

/// Checks where tasks wait, as a file or a flag says it.
pub(super) fn check(url: &str) -> Result<(), String> {
    if url == "file:" {
        return Ok(());
    }
    for one in url.split(',').map(str::trim) {
        let Some(host) = one.strip_prefix("nats://").or_else(|| one.strip_prefix("tls://")) else {
            return Err("\"file:\", or \"nats://host:4222\" (\"tls://…\" where it must be encrypted)".to_owned());
        };
        if host.contains('@') {
            return Err("the address holds a user or a password; name a credentials file, or put it into PODIUM_QUEUE"
                .to_owned());
        }
        if host.is_empty() || host.chars().any(char::is_whitespace) {
            return Err(format!("`{one}` names no host"));
        }
    }
    Ok(())
}

/// Checks a monitoring address.
pub(super) fn check_monitor(urls: &[String]) -> Result<(), String> {
    match urls.iter().find(|url| !(url.starts_with("http://") || url.starts_with("https://"))) {
        Some(url) => Err(format!("`{url}` is no address of a server's monitoring, such as \"http://host:8222\"")),
        None => Ok(()),
    }
}
