//! Clusters' CAs and nodes' certificates, as `init` makes them.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// A cluster's own CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "pipes CA");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes the files of node `name` of `cluster` into `folder`.
    pub fn write(&self, folder: &Path, cluster: &str, name: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = format!("pipes://{cluster}/{name}");
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::create_dir_all(folder).unwrap();
        self.trusted_in(folder);
        fs::write(folder.join("node.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("node.key"), key.serialize_pem()).unwrap();
    }

    /// Makes whoever reads `folder` trust this CA.
    pub fn trusted_in(&self, folder: &Path) {
        fs::write(folder.join("ca.pem"), &self.pem).unwrap();
    }
}
