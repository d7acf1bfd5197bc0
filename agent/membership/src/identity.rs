//! What a member's certificate says.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A node and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of its cluster.
    pub cluster: String,
    /// Name of its node.
    pub name: String,
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
