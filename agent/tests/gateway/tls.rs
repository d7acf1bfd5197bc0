//! Workflows that are served over TLS alone, by a certificate that was given or one of the cluster's own authority.

use std::sync::Arc;

use pipes_agent::certificate::Pair;
use pipes_agent::workflow::daemon::record::Tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;

/// Asks over TLS a server whose certificate leads to `root`; `Err`: it does not.
async fn ask_over_tls(at: SocketAddr, name: &str, root: &str, octets: &str) -> std::io::Result<Response> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(octets.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .expect("an end")?;
    Ok(parse(answer))
}

#[tokio::test]
async fn a_workflow_for_tls_is_served_over_it_alone_and_the_others_beside_it() {
    // The cluster's authority, as init makes it.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "pipes CA of 01j");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = params.self_signed(&key).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
    let mut own = workflow("own");
    own.tls = Some(Tls { pair: None });
    let served = Served::start_in(folder, vec![own, workflow("w")]).await;
    let at = served.address;
    let get = |path: &str| request(&format!("GET {path}"), "");
    for path in ["/own/healthz", "/w/healthz"] {
        let answer = ask_over_tls(at, "127.0.0.1", &authority, &get(path))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    assert!(
        ask_over_tls(at, "127.0.0.2", &authority, &get("/w/healthz"))
            .await
            .is_err()
    );
    assert_eq!(served.ask("GET /w/healthz", "").await.status, 200);
    let plain = served.ask("GET /own/healthz", "").await;
    assert_eq!(
        (plain.status, plain.text().as_str()),
        (400, "workflow own is served over https alone; ask https://\n")
    );
    served.stop().await;
}

#[tokio::test]
async fn a_port_has_the_certificate_that_was_given() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["words.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut own = workflow("own");
    own.port = Some(port);
    own.tls = Some(Tls {
        pair: Some(Pair {
            certificate: certificate.clone(),
            key: key.serialize_pem(),
        }),
    });
    let served = Served::start(vec![own]).await;
    let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let answer = async {
        loop {
            let octets = request("GET /healthz", "");
            match ask_over_tls(at, "words.example", &certificate, &octets).await {
                Ok(answer) => return answer,
                // It comes up.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let answer = timeout(LIMIT, answer).await.expect("it is served");
    assert_eq!(answer.text(), "ok\n");
    served.stop().await;
}
