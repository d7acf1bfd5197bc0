//! Takes the certificates of a cluster's members, and says of others what is wrong with them.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::identity::identity;

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

/// What is spoken: AES-128-GCM first, the fastest with AES in hardware.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    }
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
pub struct Members {
    roots: Arc<RootCertStore>,
    clients_path: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    cluster: String,
}

impl Members {
    /// Those of this cluster.
    pub fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        cluster: &str,
    ) -> Result<Members, VerifierBuilderError> {
        let clients_path =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        Ok(Members {
            roots,
            clients_path,
            provider,
            cluster: cluster.to_owned(),
        })
    }

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
