//! The certificate of the listener for other machines, and the pin by which those know it.
//!
//! Owns the key on disk and how either end of such a connection is made. Must not know requests or tokens. Its one
//! surprise: nobody vouches for the certificate, and its names and dates mean nothing; whoever calls compares its SHA-256
//! with the one that came with the invitation, and nothing else counts.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};

use super::{
    GatewayError,
    token::{read_hex, write_hex},
};

/// What the certificate calls itself. Nobody compares it.
const NAME: &str = "podium";

/// The SHA-256 of a certificate. Written as `sha256:` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        write_hex(&self.0, f)
    }
}

impl FromStr for Pin {
    type Err = GatewayError;

    fn from_str(text: &str) -> Result<Self, GatewayError> {
        text.strip_prefix("sha256:").and_then(read_hex).map(Self).ok_or(GatewayError::Pin)
    }
}

/// A certificate with its key, ready to be shown.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) pin: Pin,
    pub(super) server: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the certificate at `path`, and makes one first where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, GatewayError> {
        let fail = |why: String| GatewayError::Certificate { path: path.to_owned(), why };
        let pem = match read_private(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).and_then(|()| read_private(path)),
            read => read,
        };
        let pem = pem.map_err(|error| fail(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|error| fail(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| fail(error.to_string()))?;
        let pin = Pin::of(&certificate);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key));
        let mut config = config.map_err(|error| fail(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { pin, server: Arc::new(config) })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads a file that holds a secret, if nobody else could.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others may read it (mode {mode:o}); remove it, and invite workers elsewhere anew");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    fs::read(path)
}

/// Makes a key and a certificate of it. Where another process was faster, its own stays.
fn make(path: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Such a file is its owner's alone from the start.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(made.cert.pem().as_bytes())?;
    file.write_all(made.signing_key.serialize_pem().as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        Ok(_) | Err(_) => fs::File::open(folder)?.sync_all(),
    }
}

/// How a worker elsewhere calls: TLS 1.3, and the one certificate. `strange` tells whether the last one was another.
pub(super) fn pinned(pin: Pin, strange: Arc<AtomicBool>) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Arc::new(Pinned { pin, algorithms, strange });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
    strange: Arc<AtomicBool>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let same = Pin::of(end_entity) == self.pin;
        self.strange.store(!same, Ordering::Relaxed);
        if same {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    // That the other side holds the key is proven here; the pin alone would be anybody's who has seen the certificate.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_belongs_to_its_owner_alone() {
        let stage = tempfile::tempdir().unwrap();
        let path = stage.path().join("gateway").join("certificate.pem");
        let made = Certificate::open(&path).unwrap();
        let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((bits(&path), bits(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(Certificate::open(&path).unwrap().pin, made.pin);
        // Another process was faster.
        make(&path).unwrap();
        assert_eq!(Certificate::open(&path).unwrap().pin, made.pin);
        assert_eq!(made.pin.to_string().parse::<Pin>().unwrap(), made.pin);
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_not_used() {
        let stage = tempfile::tempdir().unwrap();
        let path = stage.path().join("certificate.pem");
        Certificate::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let why = Certificate::open(&path).unwrap_err().to_string();
        assert!(why.contains("others may read it (mode 640)"), "{why}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
        let why = Certificate::open(&path).unwrap_err().to_string();
        assert!(why.contains("certificate.pem"), "{why}");
        for bad in ["", "sha256:", "sha1:00", &format!("sha256:{}", "0g".repeat(32))] {
            assert!(bad.parse::<Pin>().is_err(), "{bad}");
        }
    }
}
