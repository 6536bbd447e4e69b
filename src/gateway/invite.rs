//! Invitations: how a worker on another machine comes to call the room's gateway.
//!
//! Owns the line that a person carries over, the file it lies in there, and the folder in which the room keeps what it has
//! given out. Must not know requests. Its one surprise: the folder is looked into at every call, so that making and taking
//! back an invitation need no running room, and hold at once.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    GatewayError,
    cert::{Certificate, Pin},
    token::{TokenHash, random},
};
use crate::model::AgentName;

/// Hex digits that tell one invitation of an agent from another.
const DIGITS: usize = 8;
/// No file of an invitation is longer, in bytes.
const LONGEST: u64 = 4_096;

/// What was given out, as the room keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Names it: the agent and some digits.
    pub id: String,
    /// Whose worker it admits.
    pub agent: AgentName,
    /// Its token's hash; the token itself is not kept.
    token_hash: TokenHash,
    /// When it was made.
    pub made_at: Timestamp,
}

/// All invitations of a stage.
#[derive(Debug, Clone)]
pub struct Invitations {
    folder: PathBuf,
    certificate: PathBuf,
}

impl Invitations {
    /// Those that are kept below `folder`, which need not be there, beside the certificate.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join("invited"), certificate: folder.join("certificate.pem") }
    }

    /// The certificate that the room shows; made where there is none.
    pub(super) fn certificate(&self) -> Result<Certificate, GatewayError> {
        Certificate::open(&self.certificate)
    }

    /// Its fingerprint.
    pub fn pin(&self) -> Result<Pin, GatewayError> {
        Ok(self.certificate()?.pin)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn fail(&self, source: io::Error) -> GatewayError {
        GatewayError::Invitations { path: self.folder.clone(), source }
    }

    /// Makes one for an agent's worker; nobody sees its token again.
    pub fn make(&self, agent: AgentName, now: Timestamp) -> Result<(Invited, SecretString), GatewayError> {
        let digits: String = random()?.chars().take(DIGITS).collect();
        let id = format!("{agent}-{digits}");
        let token = format!("podium-{id}-{}", random()?);
        let invited = Invited { id, agent, token_hash: TokenHash::of(token.as_bytes()), made_at: now };
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            // Such a file is its owner's alone.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(&invited)?)?;
            file.as_file().sync_all()?;
            file.persist(self.path(&invited.id)).map_err(|error| error.error)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| self.fail(error))?;
        Ok((invited, token.into()))
    }

    /// All that are in force, by name.
    pub fn list(&self) -> Result<Vec<Invited>, GatewayError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fail(error)),
        };
        let ids = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.to_owned()));
        let mut all: Vec<Invited> = ids.filter_map(|id| self.read(&id)).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// Takes one back; whether it was in force.
    pub fn revoke(&self, id: &str) -> Result<bool, GatewayError> {
        match fs::remove_file(self.path(id)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Whose worker presents this token.
    pub(super) fn find(&self, token: &[u8]) -> Option<AgentName> {
        let (id, _secret) = std::str::from_utf8(token).ok()?.strip_prefix("podium-")?.rsplit_once('-')?;
        let invited = self.read(id)?;
        (invited.token_hash == TokenHash::of(token)).then_some(invited.agent)
    }

    fn read(&self, id: &str) -> Option<Invited> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            return None;
        }
        let invited: Invited = serde_json::from_slice(&fs::read(self.path(id)).ok()?).ok()?;
        (invited.id == id).then_some(invited)
    }
}

/// What a worker elsewhere is started with: one line, `AGENT tls://HOST:PORT sha256:… TOKEN`.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// Whose worker it admits.
    pub agent: AgentName,
    /// Where the room's gateway is called: `HOST:PORT`.
    pub address: String,
    /// The certificate that answers there.
    pub pin: Pin,
    /// Admits the worker.
    pub token: SecretString,
}

impl Invitation {
    /// The line, token included.
    pub fn line(&self) -> String {
        format!("{} tls://{} {} {}", self.agent, self.address, self.pin, self.token.expose_secret())
    }

    /// Reads the file that a person has laid down for a worker; nobody else may read it.
    pub fn read(path: &Path) -> Result<Self, GatewayError> {
        let unfit = |why: String| GatewayError::Invitation { path: path.to_owned(), why };
        let look = || {
            let meta = fs::metadata(path)?;
            let text = if meta.len() > LONGEST { String::new() } else { fs::read_to_string(path)? };
            Ok::<_, io::Error>((meta, text))
        };
        let (meta, text) = look().map_err(|error| unfit(error.to_string()))?;
        let mode = meta.mode() & 0o777;
        // What a cluster hands to a container belongs to root and is read through the group.
        let group = if meta.uid() == 0 && !rustix::process::geteuid().is_root() { 0o040 } else { 0 };
        if mode & 0o077 & !group != 0 {
            return Err(unfit(format!("others may read it (mode {mode:o}): `chmod 600` it")));
        }
        text.parse().map_err(unfit)
    }
}

impl FromStr for Invitation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [agent, address, pin, token] = words[..] else {
            return Err(
                "this is no invitation: one line of four words, as `podium worker AGENT --invite` prints it".into()
            );
        };
        let Some(host) = address.strip_prefix("tls://") else {
            return Err("the gateway of another machine is called with tls:// only, never in plain text".to_owned());
        };
        check_address(host)?;
        let agent = AgentName::new(agent).map_err(|error| error.to_string())?;
        let pin = pin.parse().map_err(|error: GatewayError| error.to_string())?;
        Ok(Self { agent, address: host.to_owned(), pin, token: token.to_owned().into() })
    }
}

/// Checks `HOST:PORT`, where another machine calls.
pub fn check_address(address: &str) -> Result<(), String> {
    let wrong = || "an address that other machines can call, such as \"studio.example:7443\"".to_owned();
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let named = !host.is_empty() && plain || bracketed.is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
    let open = matches!(host, "0.0.0.0" | "[::]");
    if named && !open && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(()) } else { Err(wrong()) }
}

impl fmt::Display for Invitation {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls://{} {}", self.address, self.pin)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn agent() -> AgentName {
        "anga".parse().unwrap()
    }

    #[test]
    fn an_invitation_holds_until_it_is_taken_back_and_only_its_hash_is_kept() {
        let stage = tempfile::tempdir().unwrap();
        let all = Invitations::new(&stage.path().join("gateway"));
        assert_eq!(all.list().unwrap(), []);
        let (one, token) = all.make(agent(), Timestamp::UNIX_EPOCH).unwrap();
        let (two, _) = all.make("a-b_1".parse().unwrap(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(all.list().unwrap(), [two.clone(), one.clone()]);
        let bytes = token.expose_secret().as_bytes();
        assert_eq!(all.find(bytes), Some(agent()));
        let kept = fs::read_to_string(all.path(&one.id)).unwrap();
        assert!(!kept.contains(token.expose_secret().rsplit_once('-').unwrap().1), "{kept}");
        assert_eq!(fs::metadata(all.path(&one.id)).unwrap().permissions().mode() & 0o777, 0o600);
        for wrong in
            ["", "podium-", "podium-anga-1", "podium-../../x-1", &format!("podium-{}-{}", one.id, "0".repeat(64))]
        {
            assert_eq!(all.find(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!((all.revoke(&one.id).unwrap(), all.revoke(&one.id).unwrap()), (true, false));
        assert_eq!((all.find(bytes), all.list().unwrap()), (None, vec![two]));
    }

    #[test]
    fn a_line_says_all_that_a_worker_needs_and_nothing_plain_is_taken() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let line = format!("anga tls://studio.example:7443 {pin} podium-anga-1-2");
        let read: Invitation = format!("{line}\n").parse().unwrap();
        assert_eq!(read.line(), line);
        assert!(!format!("{read} {read:?}").contains("podium-anga-1-2"));
        for (bad, part) in [
            (String::new(), "four words"),
            (line.replace("tls://", "http://"), "never in plain text"),
            (line.replace("tls://", "https://"), "never in plain text"),
            (line.replace(":7443", ""), "such as"),
            (line.replace("studio.example", "a@b"), "such as"),
            (line.replace("studio.example", "0.0.0.0"), "such as"),
            (line.replace("sha256:ab", "sha256:zz"), "fingerprint"),
        ] {
            let why = bad.parse::<Invitation>().unwrap_err();
            assert!(why.contains(part), "{bad}: {why}");
        }
        assert!(check_address("[2001:db8::1]:7443").is_ok());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anga.podium");
        fs::write(&path, format!("anga tls://h:1 sha256:{} t\n", "00".repeat(32))).unwrap();
        for (mode, good) in [(0o644, false), (0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Invitation::read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}: {read:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "x".repeat(100_000)).unwrap();
        assert!(Invitation::read(&path).is_err());
        assert!(Invitation::read(&folder.path().join("none")).is_err());
    }
}
