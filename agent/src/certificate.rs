//! Certificates for workflows' endpoints: those that were given, and those that the cluster's own authority makes.
//!
//! A node's certificate names no address, since agents know one another by name; a browser and curl want the address that
//! they asked. So an endpoint has one of its own, made of the authority's key where that lies here, for the addresses that
//! it is at. Who trusts `tls/ca.pem` trusts it.
//!
//! Always: (1) a certificate that was made is made anew before it ends, without a restart; (2) a private key is in no
//! message and no log.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// They begin in the past, for clocks that differ.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// Life of one that is made here, as of a node's.
const LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Two thirds of it: then the next is made.
const RENEWED_AFTER: Duration = Duration::from_secs(60 * 86_400);
/// Bytes of a chain and of a key, as they are given: a dozen certificates.
pub const PEM_MAX: usize = 32 << 10;

/// A chain and its key, PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The endpoint's certificate, and those that lead to an authority.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pair")
    }
}

/// Why there is no TLS with these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first of the two files is none of certificates.
    #[error("the certificate cannot be read as PEM: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    /// It has none in it.
    #[error("the certificate's file holds no certificate in PEM")]
    Empty,
    /// The second is no key.
    #[error("the key cannot be read as PEM: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// The two do not go together, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used together: {0}")]
    Mismatch(rustls::Error),
    /// The authority's files.
    #[error("the cluster's authority cannot be read here: {0}")]
    Authority(std::io::Error),
    /// Making one.
    #[error("no certificate can be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// TLS with a certificate that was given.
pub fn given(pair: &Pair) -> Result<Arc<ServerConfig>, Error> {
    let key = Arc::new(certified(pair)?);
    configured(Arc::new(Fixed(key)))
}

/// TLS with certificates for these addresses, made as they are needed of the authority in `folder` of this cluster.
pub fn made(folder: &Path, cluster_id: &str, addresses: &[IpAddr]) -> Result<Arc<ServerConfig>, Error> {
    let key = std::fs::read_to_string(folder.join("ca.key")).map_err(Error::Authority)?;
    let maker = Maker {
        issuer: Issuer::new(authority_params(cluster_id)?, KeyPair::from_pem(&key)?),
        addresses: addresses.to_vec(),
        last: Mutex::new(None),
    };
    // At once, so that what cannot be done is said now.
    maker.key()?;
    configured(Arc::new(maker))
}

fn configured(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Mismatch)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certified(pair: &Pair) -> Result<CertifiedKey, Error> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(Error::Certificate)?;
    if chain.is_empty() {
        return Err(Error::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(Error::Key)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(Error::Mismatch)
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

struct Maker {
    issuer: Issuer<'static, KeyPair>,
    addresses: Vec<IpAddr>,
    /// The one that was made last, and when.
    last: Mutex<Option<(SystemTime, Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Maker({:?})", self.addresses)
    }
}

impl ResolvesServerCert for Maker {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key().ok()
    }
}

impl Maker {
    fn key(&self) -> Result<Arc<CertifiedKey>, Error> {
        let now = SystemTime::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, key)) = &*last
            && now.duration_since(*at).is_ok_and(|age| age < RENEWED_AFTER)
        {
            return Ok(key.clone());
        }
        let key = Arc::new(certified(&self.make(now)?)?);
        *last = Some((now, key.clone()));
        Ok(key)
    }

    fn make(&self, now: SystemTime) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "a workflow's endpoint");
        let addresses = self.addresses.iter().copied();
        params.subject_alt_names = addresses.clone().map(SanType::IpAddress).collect();
        if addresses.clone().any(|address| address.is_loopback()) {
            params
                .subject_alt_names
                .push(SanType::DnsName("localhost".try_into()?));
        }
        // A clock before 1970 makes certificates of 1970: nobody accepts them, which is right.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + now.saturating_sub(BACKDATED);
        params.not_after = epoch + (now + LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// What `pipes init` made the authority with: its name is what a certificate says it was made by.
fn authority_params(cluster_id: &str) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("pipes CA of {cluster_id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let certificate = authority_params("01j").unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("ca.key"), key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_certificate_of_the_clusters_own_is_for_the_address_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        authority(folder.path());
        let address: IpAddr = "127.77.0.1".parse().unwrap();
        made(folder.path(), "01j", &[address]).unwrap();
        let key = std::fs::read_to_string(folder.path().join("ca.key")).unwrap();
        let maker = Maker {
            issuer: Issuer::new(authority_params("01j").unwrap(), KeyPair::from_pem(&key).unwrap()),
            addresses: vec![address],
            last: Mutex::new(None),
        };
        let pair = maker.make(SystemTime::now()).unwrap();
        let leaf = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.unwrap();
        let verify = |name: &str| {
            let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
            let now = rustls::pki_types::UnixTime::now();
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                &*verifier,
                &leaf,
                &[],
                &name,
                &[],
                now,
            )
            .is_ok()
        };
        assert!(verify("127.77.0.1") && verify("localhost"));
        assert!(!verify("127.77.0.2"));
        // One that lasts is given again.
        assert!(Arc::ptr_eq(&maker.key().unwrap(), &maker.key().unwrap()));
    }

    #[test]
    fn files_that_are_none_or_not_of_one_another_are_refused_in_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        authority(folder.path());
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (certificate, key) = (read("ca.pem"), read("ca.key"));
        let of = |certificate: &str, key: &str| {
            let pair = Pair {
                certificate: certificate.into(),
                key: key.into(),
            };
            given(&pair).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(of(&certificate, &key), Ok(()));
        assert!(of("none", &key).unwrap_err().contains("holds no certificate"));
        assert!(
            of(&certificate, "none")
                .unwrap_err()
                .contains("the key cannot be read")
        );
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(of(&certificate, &other).unwrap_err().contains("together"));
    }
}
