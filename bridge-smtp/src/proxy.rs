//! PROXY protocol, versions 1 and 2: who really connected, told by a load balancer in front of us.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// An IP network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address lies in it; an IPv4 address mapped into IPv6 counts as IPv4.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                u32::from(network) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                u128::from(network) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// The text is no network.
#[derive(Debug)]
pub(crate) struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    /// `ADDRESS/PREFIX`, or an address alone.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| NoNetwork)?;
        if prefix > most { Err(NoNetwork) } else { Ok(Self { address, prefix }) }
    }
}

/// Longest header of version 1, with its CRLF.
const MAX_V1: usize = 107;
/// Longest address and extension block of version 2 that is read.
const MAX_V2: usize = 2048;
/// How version 2 begins.
const V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads a header, and not one byte more. `None` where the balancer speaks for itself (health checks).
///
/// # Errors
/// Where there is no well-formed header; the connection must be closed then.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    if start == V2 { read_v2(stream).await } else { read_v1(stream, &start).await }
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Option<SocketAddr>> {
    if !start.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_V1 {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| malformed())?;
    parse_v1(line).ok_or_else(malformed)
}

/// `PROXY TCP4 source destination source-port destination-port`, or `PROXY UNKNOWN` with anything behind it.
fn parse_v1(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ');
    let (_proxy, family) = (words.next()?, words.next()?);
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (port, destination_port) = (words.next()?, words.next()?);
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    let v4 = match family {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    destination_port.parse::<u16>().ok()?;
    if words.next().is_some() || source.is_ipv4() != v4 || destination.is_ipv4() != v4 {
        return None;
    }
    Some(Some(SocketAddr::new(source, port.parse().ok()?)))
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version_command, family, ..] = head;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if length > MAX_V2 {
        return Err(malformed());
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match (version_command, family) {
        // LOCAL: the balancer itself.
        (0x20, _) => Ok(None),
        // PROXY, TCP over IPv4: source, destination, ports.
        (0x21, 0x11) if length >= 12 => {
            let ip = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            Ok(Some(SocketAddr::new(ip.into(), u16::from_be_bytes([block[8], block[9]]))))
        }
        // PROXY, TCP over IPv6.
        (0x21, 0x21) if length >= 36 => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&block[..16]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(ip).into(), u16::from_be_bytes([block[32], block[33]]))))
        }
        // PROXY of something that has no address.
        (0x21, 0x00) => Ok(None),
        _ => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no well-formed PROXY header")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source, and what was left unread.
    async fn parse(bytes: &[u8]) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
        let mut stream = bytes;
        let source = read(&mut stream).await?;
        Ok((source, stream.to_vec()))
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&V2[..], &[command, family], &length, block, b"EHLO"].concat()
    }

    #[tokio::test]
    async fn headers_are_read_to_the_byte() {
        let v4 = Some("192.0.2.7:4000".parse().unwrap());
        let v6 = Some("[2001:db8::7]:4000".parse().unwrap());
        let rest = b"EHLO".to_vec();
        for (bytes, source) in [
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\nEHLO".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::7 ::1 4000 25\r\nEHLO".to_vec(), v6),
            (b"PROXY UNKNOWN\r\nEHLO".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f\r\nEHLO".to_vec(), None),
            (v2(0x21, 0x11, &[192, 0, 2, 7, 192, 0, 2, 1, 0x0f, 0xa0, 0, 25]), v4),
            (v2(0x21, 0x11, &[192, 0, 2, 7, 192, 0, 2, 1, 0x0f, 0xa0, 0, 25, 4, 0, 1, 9]), v4),
            (v2(0x20, 0, &[]), None),
            (v2(0x21, 0, &[1, 2, 3]), None),
        ] {
            assert_eq!(parse(&bytes).await.unwrap(), (source, rest.clone()), "{bytes:?}");
        }
        let mut block = [0; 36];
        block[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        block[32..34].copy_from_slice(&4000_u16.to_be_bytes());
        assert_eq!(parse(&v2(0x21, 0x21, &block)).await.unwrap(), (v6, rest));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for bad in [
            b"EHLO example.org\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4000\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 4000 25\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 99999\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25 26\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 192.0.2.1 4000 25\r\n".to_vec(),
            [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x12, &[0; 12]),
            v2(0x20, 0x11, &[0; 3000]),
            V2.to_vec(),
            b"PROXY".to_vec(),
        ] {
            assert!(parse(&bad).await.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks() {
        let network: Network = "192.0.2.128/25".parse().unwrap();
        assert!(network.contains("192.0.2.200".parse().unwrap()));
        assert!(network.contains("::ffff:192.0.2.200".parse().unwrap()));
        assert!(!network.contains("192.0.2.1".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!("::1".parse::<Network>().unwrap().contains("::1".parse().unwrap()));
        for bad in ["", "1.2.3.4/33", "1.2.3.4/x", "1.2.3/8", "::/129", "1.2.3.4/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
