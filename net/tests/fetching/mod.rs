//! Fetching by HTTPS.

use crate::dns::Zone;
use mesyx_net::{Dns, Get, Https, HttpsConfig, HttpsError};
use rustls_pki_types::PrivateKeyDer;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

/// Serves one answer to each connection, chosen by the path.
async fn server(names: &[&str]) -> (u16, tempfile::NamedTempFile) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = tls.read_u8().await else { return };
                    request.push(byte);
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split(' ').nth(1).unwrap();
                let answer = match path {
                    "/small" => {
                        "HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
                            .to_owned()
                    }
                    "/large" => format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2711\r\n{}\r\n0\r\n\r\n",
                        "x".repeat(10_001)
                    ),
                    "/moved" => format!(
                        "HTTP/1.1 302 Found\r\nLocation: https://localtest.example:{port}/small\r\nContent-Length: 0\r\n\r\n"
                    ),
                    "/near" => "HTTP/1.1 302 Found\r\nLocation: /small\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "/plain" => {
                        "HTTP/1.1 302 Found\r\nLocation: http://localtest.example/small\r\nContent-Length: 0\r\n\r\n"
                            .to_owned()
                    }
                    "/round" => "HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "/nonsense" => "SMTP is spoken here\r\n\r\n".to_owned(),
                    "/hang" => std::future::pending().await,
                    _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = tls.write_all(answer.as_bytes()).await;
                let _ = tls.shutdown().await;
            });
        }
    });
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), made.cert.pem()).unwrap();
    (port, roots)
}

async fn client() -> (Https, Zone, HttpsConfig, tempfile::NamedTempFile) {
    let zone = Zone::start();
    zone.address("localtest.example", "127.0.0.1")
        .address("other.example", "127.0.0.1")
        .address("metadata.example", "169.254.169.254");
    let (port, roots) = server(&["localtest.example"]).await;
    let config = HttpsConfig { roots: Some(roots.path().to_owned()), port, timeout_seconds: 2, allow_private: true };
    (Https::new(&config, Dns::new(&zone.config()).unwrap()).unwrap(), zone, config, roots)
}

fn get(path: &str) -> Get<'_> {
    Get { host: "localtest.example", path, max_bytes: 10_000, redirects: 2 }
}

#[tokio::test]
async fn a_file_is_fetched_whole() {
    let (https, ..) = client().await;
    let fetched = https.get(&get("/small")).await.unwrap();
    assert_eq!((fetched.status, &*fetched.media_type, &*fetched.body), (200, "text/plain", &b"hello"[..]));
    assert_eq!(https.get(&get("/absent")).await.unwrap().status, 404);
    for moved in ["/moved", "/near"] {
        assert_eq!(https.get(&get(moved)).await.unwrap().body, b"hello", "{moved}");
    }
}

#[tokio::test]
async fn what_goes_too_far_is_cut_off() {
    let (https, ..) = client().await;
    assert!(matches!(https.get(&get("/large")).await, Err(HttpsError::TooLarge(_, 10_000))));
    assert!(matches!(https.get(&Get { max_bytes: 4, ..get("/small") }).await, Err(HttpsError::TooLarge(..))));
    assert!(matches!(https.get(&get("/hang")).await, Err(HttpsError::Slow(..))));
    assert!(matches!(https.get(&get("/nonsense")).await, Err(HttpsError::Unreachable(..))));
    for away in ["/plain", "/round"] {
        assert!(matches!(https.get(&get(away)).await, Err(HttpsError::Wrong(..))), "{away}");
    }
    assert!(matches!(https.get(&Get { redirects: 0, ..get("/near") }).await, Err(HttpsError::Wrong(..))));
}

#[tokio::test]
async fn the_host_must_prove_who_it_is() {
    let (https, zone, config, _roots) = client().await;
    assert!(matches!(https.get(&Get { host: "other.example", ..get("/small") }).await, Err(HttpsError::Tls(..))));
    let (_, others) = server(&["localtest.example"]).await;
    let config = HttpsConfig { roots: Some(others.path().to_owned()), ..config };
    let https = Https::new(&config, Dns::new(&zone.config()).unwrap()).unwrap();
    assert!(matches!(https.get(&get("/small")).await, Err(HttpsError::Tls(..))));
}

#[tokio::test]
async fn private_addresses_are_not_asked() {
    let (_, zone, config, _roots) = client().await;
    let config = HttpsConfig { allow_private: false, ..config };
    let https = Https::new(&config, Dns::new(&zone.config()).unwrap()).unwrap();
    for host in ["localtest.example", "metadata.example"] {
        assert!(matches!(https.get(&Get { host, ..get("/small") }).await, Err(HttpsError::Private(_))), "{host}");
    }
    for host in ["127.0.0.1", "[::1]", "8.8.8.8"] {
        assert!(matches!(https.get(&Get { host, ..get("/small") }).await, Err(HttpsError::Wrong(..))), "{host}");
    }
    assert!(matches!(https.get(&Get { host: "gone.example", ..get("/small") }).await, Err(HttpsError::Dns(_))));
}

#[test]
fn authorities_come_from_a_file() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(mesyx_net::roots(Some(empty.path())).unwrap_err().to_string().contains("holds no certificate"));
    assert!(mesyx_net::roots(Some(std::path::Path::new("/nowhere.pem"))).is_err());
}
