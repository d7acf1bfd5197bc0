//! Mutual TLS with the cluster's own CA, and the TLS by which an agent proves itself to clients.
//!
//! Certificates are as `pipes_membership` has them. TLS 1.3 only. No session tickets: a link to the router is taken apart
//! after the handshake and must have nothing of TLS still to come.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipes_membership::{Identity, Members, identity, provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::class::Class;

/// Both sides' settings.
#[derive(Clone, Debug)]
pub struct Tls {
    server: Arc<ServerConfig>,
    door: Arc<ServerConfig>,
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
        let members = Members::new(Arc::new(roots), provider.clone(), &identity.cluster);
        let members = Arc::new(members.map_err(|error| Error::Authority {
            folder: folder.to_owned(),
            reason: error.to_string(),
        })?);

        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .with_client_cert_verifier(members.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        server.alpn_protocols = Class::ALL.map(|class| class.protocol().to_vec()).to_vec();
        server.send_tls13_tickets = 0;

        let mut door = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        door.send_tls13_tickets = 0;

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
            door: Arc::new(door),
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

    /// Settings of the side that listens for clients, who prove themselves later if at all.
    pub fn door(&self) -> Arc<ServerConfig> {
        self.door.clone()
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
