//! The cluster's own CA and its nodes' certificates (ECDSA P-256).
//!
//! A node's certificate names its cluster and itself, `pipes://CLUSTER_ID/NAME`, never an address; it is both a
//! server's and a client's, since agents call one another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::error::Error;

/// Certificates begin in the past, for clocks that differ.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// Life of a node's certificate; it is renewed at two thirds of it.
const NODE_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Life of the CA: it is exchanged by hand, and the trust file is a list for that.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A CA with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    cluster_id: String,
}

/// A certificate and its key, both PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one for a cluster.
    pub fn new(cluster_id: &str) -> Result<Authority, Error> {
        let key = KeyPair::generate().map_err(failed)?;
        let params = authority_params(cluster_id)?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate,
            cluster_id: cluster_id.to_owned(),
        })
    }

    /// That of a cluster, whose certificate and key lie in a node's folder.
    pub fn read(cluster_id: &str, certificate: &str, key: &str) -> Result<Authority, Error> {
        let key = KeyPair::from_pem(key).map_err(failed)?;
        Ok(Authority {
            issuer: Issuer::new(authority_params(cluster_id)?, key),
            certificate: certificate.to_owned(),
            cluster_id: cluster_id.to_owned(),
        })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A node's certificate.
    pub fn node(&self, name: &str) -> Result<Pair, Error> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(name, NODE_LIFE)?;
        let uri = format!("pipes://{}/{name}", self.cluster_id);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(common_name: &str, life: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A clock before 1970 makes certificates of 1970: nobody accepts them, which is right.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + (now + life);
    Ok(params)
}

fn authority_params(cluster_id: &str) -> Result<CertificateParams, Error> {
    let mut params = params(&format!("pipes CA of {cluster_id}"), AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn failed(error: rcgen::Error) -> Error {
    Error::Local(format!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_certificate_and_key_are_pem_and_differ_from_the_next_nodes() {
        let authority = Authority::new("01jabc").unwrap();
        let (one, two) = (authority.node("n1").unwrap(), authority.node("n2").unwrap());
        assert!(one.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(one.key.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(one.key, two.key);
        assert!(authority.key().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(authority.certificate().starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
