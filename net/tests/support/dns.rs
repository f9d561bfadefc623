//! A name server for tests, on loopback: authoritative for everything, and able to lie, to fail and to vouch.
#![allow(dead_code, clippy::unwrap_used)]

use mesyx_net::DnsConfig;
use mesyx_net::hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use mesyx_net::hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use mesyx_net::hickory_resolver::proto::rr::rdata::{CNAME, MX, SOA, SRV, TLSA, TXT};
use mesyx_net::hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};

/// The server; its threads end with the process.
#[derive(Clone)]
pub struct Zone {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    records: BTreeMap<String, Vec<RData>>,
    /// Names below these are vouched for by the AD bit.
    secure: BTreeSet<String>,
    /// Questions that are answered with SERVFAIL.
    failing: BTreeSet<(String, Option<RecordType>)>,
    /// Names that are never answered.
    silent: BTreeSet<String>,
    asked: Vec<(String, RecordType)>,
}

impl Zone {
    /// A server on a free port, without records.
    pub fn start() -> Self {
        // The same port for both transports; another program may have taken one of them.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let zone = Self { address: udp.local_addr().unwrap(), shared: Arc::default() };
        let shared = Arc::clone(&zone.shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&shared, &buffer[..length]) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let shared = Arc::clone(&zone.shared);
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        zone
    }

    /// A configuration that asks this server alone.
    pub fn config(&self) -> DnsConfig {
        DnsConfig { servers: vec![self.address.to_string()], attempts: 0, ..DnsConfig::default() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    fn add(&self, at: &str, data: RData) -> &Self {
        self.shared().records.entry(key(at)).or_default().push(data);
        self
    }

    pub fn address(&self, at: &str, ip: &str) -> &Self {
        self.add(
            at,
            match ip.parse().unwrap() {
                IpAddr::V4(ip) => RData::A(ip.into()),
                IpAddr::V6(ip) => RData::AAAA(ip.into()),
            },
        )
    }

    pub fn mx(&self, at: &str, preference: u16, host: &str) -> &Self {
        self.add(at, RData::MX(MX::new(preference, name(host))))
    }

    pub fn alias(&self, at: &str, to: &str) -> &Self {
        self.add(at, RData::CNAME(CNAME(name(to))))
    }

    pub fn txt(&self, at: &str, text: &str) -> &Self {
        let pieces = text.as_bytes().chunks(255).map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        self.add(at, RData::TXT(TXT::new(pieces.collect())))
    }

    pub fn tlsa(&self, at: &str, usage: u8, selector: u8, matching: u8, data: &[u8]) -> &Self {
        let data = TLSA::new(CertUsage::from(usage), Selector::from(selector), Matching::from(matching), data.to_vec());
        self.add(at, RData::TLSA(data))
    }

    pub fn srv(&self, at: &str, port: u16, host: &str) -> &Self {
        self.add(at, RData::SRV(SRV::new(0, 1, port, name(host))))
    }

    /// Vouches for all names that end so.
    pub fn secure(&self, suffix: &str) -> &Self {
        self.shared().secure.insert(key(suffix));
        self
    }

    /// Answers SERVFAIL for this name, and this type or all types.
    pub fn fail(&self, at: &str, kind: Option<RecordType>) -> &Self {
        self.shared().failing.insert((key(at), kind));
        self
    }

    /// Never answers for this name.
    pub fn silent(&self, at: &str) -> &Self {
        self.shared().silent.insert(key(at));
        self
    }

    /// Takes away all records of a name, and its failure.
    pub fn remove(&self, at: &str) -> &Self {
        self.shared().records.remove(&key(at));
        self.shared().failing.retain(|(name, _)| *name != key(at));
        self
    }

    /// How often a name was asked for.
    pub fn asked(&self, at: &str) -> usize {
        self.shared().asked.iter().filter(|(name, _)| *name == key(at)).count()
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_str_relaxed(text).unwrap();
    name.set_fqdn(true);
    name
}

fn key(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

fn serve(mut stream: std::net::TcpStream, shared: &Mutex<Shared>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = answer(shared, &question) else { return };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}

fn answer(shared: &Mutex<Shared>, question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut shared = shared.lock().unwrap();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let mut at = key(&query.name().to_ascii());
    shared.asked.push((at.clone(), query.query_type()));
    if shared.silent.contains(&at) {
        return None;
    }
    if shared.failing.contains(&(at.clone(), None)) || shared.failing.contains(&(at.clone(), Some(query.query_type())))
    {
        answer.metadata.response_code = ResponseCode::ServFail;
        return answer.to_vec().ok();
    }
    let mut secure = true;
    for _ in 0..8 {
        let vouched = |suffix: &String| at == *suffix || at.ends_with(&format!(".{suffix}"));
        secure &= shared.secure.iter().any(vouched);
        let found = shared.records.get(&at).cloned().unwrap_or_default();
        let alias = found.iter().find_map(|data| match data {
            RData::CNAME(to) if query.query_type() != RecordType::CNAME => Some(key(&to.0.to_ascii())),
            _ => None,
        });
        for data in found {
            if alias.is_some() || data.record_type() == query.query_type() {
                // What a test takes away again must not be remembered.
                let ttl = if at.starts_with("_mta-sts.") { 0 } else { 300 };
                answer.add_answer(Record::from_rdata(name(&at), ttl, data));
            }
        }
        match alias {
            Some(next) => at = next,
            None => break,
        }
    }
    let complete = answer.answers.iter().any(|record| record.record_type() == query.query_type());
    if !complete {
        let below = format!(".{at}");
        let exists = shared.records.keys().any(|known| *known == at || known.ends_with(&below));
        answer.metadata.response_code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let soa = SOA::new(name("ns.test"), name("hostmaster.test"), 1, 3600, 600, 86_400, 60);
        answer.add_authority(Record::from_rdata(name("test"), 60, RData::SOA(soa)));
    }
    // As resolvers do: the bit is set only where it was asked for.
    answer.metadata.authentic_data = secure && question.metadata.authentic_data;
    answer.to_vec().ok()
}
