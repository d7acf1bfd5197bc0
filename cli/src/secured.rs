//! An agent at an address: it proves itself by TLS, under the authority of the context, before anything is said to it.
//!
//! The session goes through one half of a socket pair; what passes between the other half and TLS, a task carries. What
//! the channel is called goes into what the operator's key signs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pipes_membership::{Channel, Members, channel_of, provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use crate::context::Authority;

/// Held each way, beside what sockets hold.
const HELD: usize = 64 << 10;

/// A stream to the agent there, and what its channel is called. To be called within a runtime.
pub async fn connect(address: SocketAddr, authority: &Authority) -> io::Result<(UnixStream, Channel)> {
    let connector = TlsConnector::from(Arc::new(config(authority).map_err(io::Error::other)?));
    let stream = pipes_wamp::client::tcp(address).await?;
    let mut tls = connector.connect(ServerName::from(address.ip()), stream).await?;
    let channel = channel_of(tls.get_ref().1).map_err(io::Error::other)?;
    let (near, mut far) = UnixStream::pair()?;
    tokio::spawn(async move {
        // However it ends, the session sees the end of its stream.
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut tls, &mut far, HELD, HELD).await;
    });
    Ok((near, channel))
}

fn config(authority: &Authority) -> Result<ClientConfig, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("the context's CA cannot be used: {error}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.ca.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(provider());
    let members = Members::new(Arc::new(roots), provider.clone(), &authority.cluster_id)
        .map_err(|error| unusable(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(members))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// What TLS has to say of an error, if it is one of its own.
pub fn in_words(error: &io::Error) -> Option<String> {
    Some(pipes_membership::in_words(tls_error(error)?))
}

/// Whether somebody answered who is not an agent of the cluster.
pub fn is_strange(error: &pipes_wamp::Error) -> bool {
    matches!(error, pipes_wamp::Error::Io(error) if tls_error(error).is_some())
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::certificate;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    fn trusted(authority: &certificate::Authority, cluster_id: &str) -> Authority {
        Authority {
            ca: authority.certificate().to_owned(),
            cluster_id: cluster_id.to_owned(),
        }
    }

    /// An agent with a certificate of `authority`; gives what it calls the channel.
    async fn agent(
        authority: &certificate::Authority,
    ) -> (SocketAddr, tokio::task::JoinHandle<io::Result<Channel>>) {
        let pair = authority.node("n1").unwrap();
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let mut tls = acceptor.accept(listener.accept().await?.0).await?;
            let mut said = [0; 5];
            tls.read_exact(&mut said).await?;
            tls.write_all(&said).await?;
            tls.flush().await?;
            channel_of(tls.get_ref().1).map_err(io::Error::other)
        });
        (address, served)
    }

    #[tokio::test]
    async fn both_ends_call_a_channel_the_same_and_no_other_so() {
        let authority = certificate::Authority::new("01jabc").unwrap();
        let mut names = Vec::new();
        for _ in 0..2 {
            let (address, served) = agent(&authority).await;
            let (mut stream, name) = connect(address, &trusted(&authority, "01jabc")).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            assert_eq!(served.await.unwrap().unwrap(), name);
            names.push(name);
        }
        assert_ne!(names[0], names[1]);
    }

    #[tokio::test]
    async fn who_is_no_agent_of_the_cluster_hears_nothing() {
        let authority = certificate::Authority::new("01jabc").unwrap();
        let another = certificate::Authority::new("01jxyz").unwrap();
        for (asked, why) in [
            (trusted(&another, "01jabc"), "it is a member of another cluster"),
            (
                trusted(&authority, "01jxyz"),
                "it is a member of cluster 01jabc, this is cluster 01jxyz",
            ),
        ] {
            let (address, served) = agent(&authority).await;
            let refused = connect(address, &asked).await.unwrap_err();
            let words = in_words(&refused).unwrap();
            assert!(words.contains(why), "{words}");
            assert!(served.await.unwrap().is_err());
            assert!(is_strange(&pipes_wamp::Error::Io(refused)));
        }
    }
}
