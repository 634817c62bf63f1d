//! Authorities, leaves and TLS as a cluster uses them: on disk, and in real handshakes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pki::{
    Authority, ClientAuthority, KeyPair, LEAF_LIFETIME, Leaf, PkiError, RequestError, San,
    ServerTls, SigningRequest, Usage, renew_if_due,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn leaf(common_name: &str, organizations: &[&str], usage: Usage) -> Leaf {
    let sans = match usage {
        Usage::Server => vec![
            San::Dns("kubernetes.default.svc".into()),
            San::Ip([127, 0, 0, 1].into()),
        ],
        Usage::Client => Vec::new(),
    };
    let organizations = organizations.iter().map(|&name| name.to_owned()).collect();
    Leaf {
        common_name: common_name.to_owned(),
        organizations,
        sans,
        usage,
        lifetime: LEAF_LIFETIME,
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_authority_stays_the_same_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    let first = Authority::load_or_create(&pki)
        .unwrap()
        .certificate_pem()
        .to_owned();
    assert_eq!(
        Authority::load_or_create(&pki).unwrap().certificate_pem(),
        first
    );
    for path in [pki.join("ca.crt"), pki.join("ca.key")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!(mode(&pki), 0o700);
    assert_eq!(
        std::fs::read_dir(&pki).unwrap().count(),
        2,
        "no temporary file is left"
    );
    let der = CertificateDer::from_pem_slice(first.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let days = (certificate.validity().not_after.timestamp()
        - certificate.validity().not_before.timestamp())
        / 86400;
    assert!(
        certificate.is_ca() && (3650..3655).contains(&days),
        "{days}"
    );

    // A start that was interrupted after the key goes on with it.
    std::fs::remove_file(pki.join("ca.crt")).unwrap();
    let key = std::fs::read(pki.join("ca.key")).unwrap();
    Authority::load_or_create(&pki).unwrap();
    assert_eq!(std::fs::read(pki.join("ca.key")).unwrap(), key);

    // Nothing that exists is replaced by something new.
    std::fs::remove_file(pki.join("ca.key")).unwrap();
    assert!(matches!(
        Authority::load_or_create(&pki),
        Err(PkiError::KeyMissing { .. })
    ));
    let other = folder.path().join("other");
    Authority::load_or_create(&other).unwrap();
    std::fs::copy(other.join("ca.key"), pki.join("ca.key")).unwrap();
    let error = Authority::load_or_create(&pki).unwrap_err();
    assert!(
        error.to_string().contains("does not belong to the key"),
        "{error}"
    );
    std::fs::write(pki.join("ca.crt"), "-----BEGIN").unwrap();
    assert!(matches!(
        Authority::load_or_create(&pki),
        Err(PkiError::Invalid { .. })
    ));
}

#[test]
fn a_leaf_is_renewed_when_due_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::load_or_create(path).unwrap();
    let wanted = leaf("kube-apiserver", &[], Usage::Server);
    let first = renew_if_due(&authority, path, "server", &wanted).unwrap();
    assert!(first.renewed);
    assert_eq!(
        (
            mode(&path.join("server.crt")),
            mode(&path.join("server.key"))
        ),
        (0o600, 0o600)
    );
    let left = first.due.duration_since(SystemTime::now()).unwrap();
    assert!(
        left > LEAF_LIFETIME / 2 && left < LEAF_LIFETIME * 2 / 3 + Duration::from_secs(600),
        "{left:?}"
    );
    let again = renew_if_due(&authority, path, "server", &wanted).unwrap();
    assert!(!again.renewed && again.pair == first.pair);

    let mut more = wanted.clone();
    more.sans.push(San::Ip([10, 43, 0, 1].into()));
    let elsewhere = Authority::load_or_create(&path.join("other")).unwrap();
    let damage = |name: &str| {
        std::fs::write(path.join(name), "gone").unwrap();
    };
    assert!(
        renew_if_due(&authority, path, "server", &more)
            .unwrap()
            .renewed,
        "another name"
    );
    assert!(
        !renew_if_due(&authority, path, "server", &more)
            .unwrap()
            .renewed
    );
    assert!(
        renew_if_due(&elsewhere, path, "server", &more)
            .unwrap()
            .renewed,
        "another authority"
    );
    assert!(
        renew_if_due(&authority, path, "server", &more)
            .unwrap()
            .renewed,
        "and back"
    );
    damage("server.key");
    assert!(
        renew_if_due(&authority, path, "server", &more)
            .unwrap()
            .renewed,
        "a damaged key"
    );
    damage("server.crt");
    assert!(
        renew_if_due(&authority, path, "server", &more)
            .unwrap()
            .renewed,
        "a damaged certificate"
    );
    // However short a lifetime is, there is a time before the last third.
    let short = Leaf {
        lifetime: Duration::from_secs(3),
        ..more.clone()
    };
    let fresh = renew_if_due(&authority, path, "short", &short).unwrap();
    let left = fresh.due.duration_since(SystemTime::now()).unwrap();
    assert!(fresh.renewed && left < short.lifetime, "{left:?}");
    std::thread::sleep(left);
    assert!(
        renew_if_due(&authority, path, "short", &short)
            .unwrap()
            .renewed,
        "in the last third"
    );

    let groups = leaf("admin", &["system:masters", "second"], Usage::Client);
    let pair = renew_if_due(&authority, path, "admin", &groups)
        .unwrap()
        .pair;
    assert!(
        !renew_if_due(&authority, path, "admin", &groups)
            .unwrap()
            .renewed
    );
    let der = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(
        certificate.subject().to_string(),
        "O=system:masters, O=second, CN=admin"
    );
    let three = leaf("admin", &["a", "b", "c"], Usage::Client);
    assert!(matches!(
        authority.issue(&three),
        Err(PkiError::TooManyOrganizations { count: 3, .. })
    ));
}

/// The certificates that the two sides saw of each other, or why they did not talk.
type Seen = Result<(Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>), rustls::Error>;

/// A whole handshake in memory.
fn handshake(
    server: &ServerTls,
    authority: &Authority,
    client: Option<&KeyPair>,
    name: &'static str,
) -> Seen {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(server.config()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let first = |chain: &[CertificateDer<'_>]| chain[0].to_vec();
    let of_server = first(client.peer_certificates().unwrap());
    Ok((
        of_server,
        server.peer_certificates().map(first),
        server.alpn_protocol().map(<[u8]>::to_vec),
    ))
}

#[test]
fn handshakes_use_the_newest_certificate_and_take_only_our_clients() {
    let folder = tempfile::tempdir().unwrap();
    pki::install_crypto_provider();
    pki::install_crypto_provider();
    let authority = Authority::load_or_create(&folder.path().join("a")).unwrap();
    let stranger = Authority::load_or_create(&folder.path().join("b")).unwrap();
    let pair = authority
        .issue(&leaf("server", &[], Usage::Server))
        .unwrap();
    let server = ServerTls::new(&pair, Some(authority.certificate_pem())).unwrap();
    let der = |pair: &KeyPair| {
        CertificateDer::from_pem_slice(pair.cert_pem.as_bytes())
            .unwrap()
            .to_vec()
    };

    let h2 = Some(b"h2".to_vec());
    let seen = handshake(&server, &authority, None, "kubernetes.default.svc").unwrap();
    assert_eq!(seen, (der(&pair), None, h2.clone()));
    let admin = authority
        .issue(&leaf("admin", &["system:masters"], Usage::Client))
        .unwrap();
    let seen = handshake(&server, &authority, Some(&admin), "127.0.0.1").unwrap();
    assert_eq!(seen, (der(&pair), Some(der(&admin)), h2));
    assert!(
        handshake(&server, &authority, None, "other.svc").is_err(),
        "another name"
    );
    assert!(
        handshake(&server, &stranger, None, "127.0.0.1").is_err(),
        "another authority"
    );
    let forged = stranger
        .issue(&leaf("admin", &["system:masters"], Usage::Client))
        .unwrap();
    assert!(
        handshake(&server, &authority, Some(&forged), "127.0.0.1").is_err(),
        "a stranger's client"
    );
    let wrong_use = authority
        .issue(&leaf("server", &[], Usage::Server))
        .unwrap();
    assert!(
        handshake(&server, &authority, Some(&wrong_use), "127.0.0.1").is_err(),
        "a server's as a client's"
    );

    let next = authority
        .issue(&leaf("server", &[], Usage::Server))
        .unwrap();
    server.clone().replace(&next).unwrap();
    assert_eq!(
        handshake(&server, &authority, None, "127.0.0.1").unwrap().0,
        der(&next)
    );
    let mixed = KeyPair {
        cert_pem: pair.cert_pem,
        key_pem: next.key_pem.clone(),
    };
    assert!(matches!(server.replace(&mixed), Err(PkiError::Tls { .. })));
    assert_eq!(
        handshake(&server, &authority, None, "127.0.0.1").unwrap().0,
        der(&next)
    );
}

fn request(organizations: &[&str], names: &[&str]) -> (String, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, "system:node:a");
    for (kind, organization) in [
        rcgen::DnType::OrganizationName,
        rcgen::DnType::CustomDnType(vec![2, 5, 4, 10]),
    ]
    .into_iter()
    .zip(organizations)
    {
        params.distinguished_name.push(kind, *organization);
    }
    let request = params.serialize_request(&key).unwrap();
    (request.pem().unwrap(), key)
}

#[test]
fn requests_are_signed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(folder.path()).unwrap();
    let (pem, key) = request(&["system:nodes", "crew"], &["a.example", "10.0.0.1"]);
    let read = SigningRequest::parse(pem.as_bytes()).unwrap();
    assert_eq!(read.common_name, "system:node:a");
    assert_eq!(read.organizations, ["system:nodes", "crew"]);
    assert_eq!(read.dns_names, ["a.example"]);
    assert_eq!(read.addresses, [std::net::IpAddr::from([10, 0, 0, 1])]);

    let usages = ["client auth", "digital signature", "key encipherment"];
    let usages = usages.map(str::to_owned);
    let lifetime = Duration::from_secs(3600);
    let signed = authority.sign(&read, &usages, lifetime).unwrap();
    let der = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
    let ours = ClientAuthority::new(authority.certificate_pem()).unwrap();
    assert!(ours.has_signed(std::slice::from_ref(&der)));
    let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty() && !certificate.is_ca());
    let left = certificate
        .validity()
        .time_to_expiration()
        .unwrap()
        .whole_seconds();
    assert!((3590..=3600).contains(&left), "{left}");
    assert_eq!(certificate.subject().iter_organization().count(), 2);
    assert_eq!(
        certificate.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    let names = certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value;
    assert_eq!(names.general_names.len(), 2);

    // A server's certificate is no client's, and another authority's is nobody's.
    let server = authority
        .sign(&read, &["server auth".to_owned()], lifetime)
        .unwrap();
    let server = CertificateDer::from_pem_slice(server.as_bytes()).unwrap();
    assert!(!ours.has_signed(&[server]) && !ours.has_signed(&[]));
    let folder = tempfile::tempdir().unwrap();
    let other = Authority::load_or_create(folder.path()).unwrap();
    let other = other.sign(&read, &usages, lifetime).unwrap();
    assert!(!ours.has_signed(&[CertificateDer::from_pem_slice(other.as_bytes()).unwrap()]));

    // It does not outlive the authority; usages that nobody knows are refused.
    let long = authority
        .sign(&read, &usages, Duration::from_secs(1 << 40))
        .unwrap();
    let end = |pem: &str| pki::certificate_end(pem.as_bytes()).unwrap();
    assert_eq!(end(&long), end(authority.certificate_pem()));
    assert!(
        authority
            .sign(&read, &["flying".to_owned()], lifetime)
            .is_err()
    );
}

#[test]
fn requests_that_are_none_are_refused() {
    let (pem, _) = request(&["system:nodes"], &[]);
    assert_eq!(SigningRequest::parse(b"rubbish"), Err(RequestError::Pem));
    let certificate = pem.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    assert_eq!(
        SigningRequest::parse(certificate.as_bytes()),
        Err(RequestError::Pem)
    );
    // Every byte that is changed breaks the form or the signature.
    let body: Vec<&str> = pem.lines().collect();
    let line = body[1];
    for at in [10, 30, 50] {
        let other = if &line[at..=at] == "A" { "B" } else { "A" };
        let changed = format!("{}{other}{}", &line[..at], &line[at + 1..]);
        let forged = pem.replace(line, &changed);
        assert!(SigningRequest::parse(forged.as_bytes()).is_err(), "{at}");
    }
}

/// Whether a client with this trust accepts a server with this pair under a name.
fn accepts(trust: &pki::Trust, pair: &KeyPair, name: &'static str) -> Result<(), rustls::Error> {
    let server = ServerTls::new(pair, None).unwrap().config();
    let client = Arc::new(pki::client_tls(trust, None).unwrap());
    let name = rustls::pki_types::ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(client, name).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_self_signed_certificate_is_trusted_by_naming_it() {
    pki::install_crypto_provider();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["hook.ns.svc".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = KeyPair {
        cert_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    };
    let trust = pki::Trust::Authorities(pair.cert_pem.clone());
    accepts(&trust, &pair, "hook.ns.svc").unwrap();
    accepts(&trust, &pair, "other.ns.svc").unwrap_err();
    accepts(&pki::Trust::System, &pair, "hook.ns.svc").unwrap_err();
    accepts(&pki::Trust::Anything, &pair, "other.ns.svc").unwrap();
    // Its time counts, too.
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    let old = KeyPair {
        cert_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    };
    let trust = pki::Trust::Authorities(old.cert_pem.clone());
    accepts(&trust, &old, "hook.ns.svc").unwrap_err();
}
