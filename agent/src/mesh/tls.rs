//! Mutual TLS with the cluster's own CA.
//!
//! A certificate names a cluster and a node, never an address: its SAN holds the URI `pipes://CLUSTER_ID/NAME`. Both
//! sides build the path to a CA of `tls/ca.pem` (a list, so that the CA can be exchanged) with webpki and read the URI;
//! host names mean nothing here. TLS 1.3 only, AES-128-GCM first (the fastest here with AES in hardware). No session
//! tickets: a link to the router is taken apart after the handshake and must have nothing of TLS still to come.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::class::Class;
use super::identity::Identity;

/// Both sides' settings.
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; Class::ALL.len()],
    identity: Identity,
}

/// Why there is no TLS with these files; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read as PEM.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The node's certificate does not say whose it is.
    #[error("{0} names no node: its subject alternative name needs the URI pipes://CLUSTER/NODE")]
    Nameless(PathBuf),
    /// Certificate, key and CA do not go together.
    #[error("the certificates in {folder} do not go together: {source}")]
    Mismatch {
        /// The folder of the files.
        folder: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// No verifier can be built of the CA.
    #[error("the CA in {folder} cannot be used: {reason}")]
    Authority {
        /// The folder of the files.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Why a certificate that is whole is not taken.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error(
        "its certificate ({named}) is not signed by this cluster's CA: it is a member of another cluster"
    )]
    OtherAuthority { named: String },
    #[error("it is a member of cluster {theirs}, this is cluster {ours}")]
    OtherCluster { theirs: String, ours: String },
    #[error("its certificate names no node")]
    Nameless,
}

impl Tls {
    /// Reads `ca.pem`, `node.pem` and `node.key` in `folder`.
    pub fn read(folder: &Path) -> Result<Tls, Error> {
        let authorities = certificates(&folder.join("ca.pem"))?;
        let chain = certificates(&folder.join("node.pem"))?;
        let key_path = folder.join("node.key");
        let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|source| Error::Unreadable {
            path: key_path,
            source,
        })?;
        let identity = identity(&chain[0]).ok_or_else(|| Error::Nameless(folder.join("node.pem")))?;
        Tls::build(folder, authorities, chain, key, identity)
    }

    fn build(
        folder: &Path,
        authorities: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        identity: Identity,
    ) -> Result<Tls, Error> {
        let mismatch = |source| Error::Mismatch {
            folder: folder.to_owned(),
            source,
        };
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(mismatch)?;
        }
        let roots = Arc::new(roots);
        let clients_path = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| Error::Authority {
                folder: folder.to_owned(),
                reason: error.to_string(),
            })?;
        let members = Arc::new(Members {
            roots,
            clients_path,
            provider: provider.clone(),
            cluster: identity.cluster.clone(),
        });

        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .with_client_cert_verifier(members.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        server.alpn_protocols = Class::ALL.map(|class| class.protocol().to_vec()).to_vec();
        server.send_tls13_tickets = 0;

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .dangerous()
            .with_custom_certificate_verifier(members)
            .with_client_auth_cert(chain, key)
            .map_err(mismatch)?;
        client.resumption = rustls::client::Resumption::disabled();
        client.enable_sni = false;
        let clients = Class::ALL.map(|class| {
            let mut client = client.clone();
            client.alpn_protocols = vec![class.protocol().to_vec()];
            Arc::new(client)
        });
        Ok(Tls {
            server: Arc::new(server),
            clients,
            identity,
        })
    }

    /// What our own certificate says.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Settings of the side that listens.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Settings of the side that dials a connection of `class`.
    pub fn client(&self, class: Class) -> Arc<ClientConfig> {
        self.clients[class as usize].clone()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        Err(Error::Empty(path.to_owned()))
    } else {
        Ok(found)
    }
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    }
}

/// What a certificate says, if it is one of a member.
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            let (cluster, name) = uri.strip_prefix("pipes://")?.split_once('/')?;
            Some(Identity {
                cluster: cluster.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => None,
    })
}

/// What TLS has to say of a handshake that failed, for the log of an operator.
pub fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(stranger))) => {
            stranger.to_string()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not valid yet: do the clocks agree?".to_owned(),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => "it does not take this node's certificate: one of the two is a member of another cluster"
            .to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "it says that this node's certificate has expired".to_owned()
        }
        other => other.to_string(),
    }
}

/// Takes the certificates of this cluster's members, as a server's and as a client's.
#[derive(Debug)]
struct Members {
    roots: Arc<RootCertStore>,
    clients_path: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    cluster: String,
}

impl Members {
    fn belongs(
        &self,
        certificate: &CertificateDer<'_>,
        path: Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        let identity = identity(certificate);
        let stranger = match (path, identity) {
            (Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), identity)
            | (Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)), identity) => {
                let named = identity.map_or_else(
                    || "of no node".to_owned(),
                    |it| format!("pipes://{}/{}", it.cluster, it.name),
                );
                Stranger::OtherAuthority { named }
            }
            (Err(other), _) => return Err(other),
            (Ok(()), None) => Stranger::Nameless,
            (Ok(()), Some(it)) if it.cluster != self.cluster => Stranger::OtherCluster {
                theirs: it.cluster,
                ours: self.cluster.clone(),
            },
            (Ok(()), Some(_)) => return Ok(()),
        };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            OtherError(Arc::new(stranger)),
        )))
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

/// TLS 1.2 is not spoken: the configuration allows 1.3 alone, so nothing ever asks.
fn never_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let path = ParsedCertificate::try_from(certificate).and_then(|parsed| {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
        });
        self.belongs(certificate, path)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a client sends the one certificate it has, and a stranger is told apart by name.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let path = self
            .clients_path
            .verify_client_cert(certificate, intermediates, now)
            .map(|_| ());
        self.belongs(certificate, path)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
