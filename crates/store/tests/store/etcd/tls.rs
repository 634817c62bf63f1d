//! An etcd that wants certificates.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use store::{EtcdTls, StoreError};

use crate::etcd_server::EtcdServer;
use crate::support::{create, manual};

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(name: &str) -> Ca {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate and its key, in PEM.
    fn sign(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        // etcd's own gateway calls etcd with etcd's certificate.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    }
}

fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("etcd CA");
    let (certificate, key) = ca.sign("etcd");
    let more = [
        format!(
            "--cert-file={}",
            write(folder.path(), "server.pem", &certificate)
        ),
        format!("--key-file={}", write(folder.path(), "server.key", &key)),
        format!(
            "--trusted-ca-file={}",
            write(folder.path(), "ca.pem", &ca.pem())
        ),
        "--client-cert-auth".to_owned(),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let Some(server) = EtcdServer::cluster(1, "https", &more) else {
        return;
    };
    let connect = async |ca: &Ca, identity| {
        let tls = EtcdTls {
            ca_pem: ca.pem(),
            identity,
        };
        server.connect_tls("/knarr", manual(), Some(tls)).await
    };
    let store = connect(&ca, Some(ca.sign("knarr"))).await.unwrap();
    let at = create(&store, "/a", "1").await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().modified, at);
    store.close().await;

    let stranger = Ca::new("another CA");
    let cases = [
        (
            "a server of another CA",
            connect(&stranger, Some(ca.sign("knarr"))).await,
        ),
        (
            "a client of another CA",
            connect(&ca, Some(stranger.sign("knarr"))).await,
        ),
        ("a client without a certificate", connect(&ca, None).await),
    ];
    for (name, result) in cases {
        let error = result.unwrap_err();
        println!("{name}: {}", chain(&error));
        assert!(
            matches!(error, StoreError::Denied { .. }),
            "{name}: {}",
            chain(&error)
        );
    }
    let garbage = EtcdTls {
        ca_pem: ca.pem(),
        identity: Some((b"no PEM".to_vec(), b"no PEM".to_vec())),
    };
    let error = server
        .connect_tls("/knarr", manual(), Some(garbage))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Datastore { .. }),
        "{}",
        chain(&error)
    );
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
