//! Listening sockets: passed by the service manager, or bound here.

use mesyx_sdk::{Error, ErrorKind, ListenSpec};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections that may wait to be accepted, each costing a few hundred bytes in the kernel, which caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// All listening sockets of the program.
///
/// A socket stays open here while its bridge is restarted, so that nobody is turned away meanwhile, and so that it
/// need not be bound again after privileges were given up. What a bridge gets is a duplicate.
#[derive(Debug, Default)]
pub struct Sockets {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Handed over by the service manager: name, where it listens, and the socket.
    passed: Vec<(String, SocketAddr, TcpListener)>,
    /// Bound here, by bridge and what was asked for.
    bound: HashMap<(String, String, SocketAddr), TcpListener>,
}

impl Sockets {
    /// No sockets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over the sockets that systemd passed (`LISTEN_FDS`, sd_listen_fds(3)). Their names, from
    /// `FileDescriptorName=`, are `BRIDGE.NAME`; see [`ListenSpec::name`].
    ///
    /// # Errors
    /// Where what was passed is no listening TCP socket.
    pub fn from_service_manager() -> io::Result<Self> {
        let sockets = Self::new();
        // `listenfd` takes an absent LISTEN_PID for ours; here that means that nobody passed anything.
        if std::env::var("LISTEN_PID").is_err() {
            return Ok(sockets);
        }
        let mut passed = listenfd::ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            if let Some(socket) = passed.take_tcp_listener(index)? {
                sockets.pass(name, socket)?;
            }
        }
        Ok(sockets)
    }

    /// Adds a socket that is to be used for `name` (`BRIDGE.NAME`) instead of one bound here.
    ///
    /// # Errors
    /// Where its address can't be told, or it can't be made non-blocking.
    pub fn pass(&self, name: &str, socket: TcpListener) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.open().passed.push((name.to_owned(), address, socket));
        Ok(())
    }

    /// The names of the sockets that were passed and where they listen.
    #[must_use]
    pub fn passed(&self) -> Vec<(String, SocketAddr)> {
        self.open().passed.iter().map(|(name, address, _)| (name.clone(), *address)).collect()
    }

    /// The socket that a bridge asks for: the one passed under its name, the one that is open already, or a new one.
    ///
    /// Of several passed under one name, the one at the wished address is taken, else the first.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], with the reason and what to do.
    pub fn listen(&self, bridge: &str, spec: &ListenSpec) -> Result<TcpListener, Error> {
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another port",
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need root, CAP_NET_BIND_SERVICE or a socket passed by systemd"
                }
                io::ErrorKind::AddrNotAvailable => "this host has no such address",
                _ => "check the address",
            };
            let what = format!("{bridge}.{} can't listen on {}: {error}; {hint}", spec.name, spec.address);
            Error::new(ErrorKind::Unavailable, what)
        };
        let mut open = self.open();
        let name = format!("{bridge}.{}", spec.name);
        let mut named = open.passed.iter().filter(|(of, _, _)| *of == name);
        let first = named.clone().next();
        if let Some((_, _, socket)) = named.find(|(_, address, _)| *address == spec.address).or(first) {
            return socket.try_clone().map_err(failed);
        }
        let key = (bridge.to_owned(), spec.name.clone(), spec.address);
        if let Some(socket) = open.bound.get(&key) {
            return socket.try_clone().map_err(failed);
        }
        let socket = bind(spec.address).map_err(failed)?;
        let duplicate = socket.try_clone().map_err(failed)?;
        open.bound.insert(key, socket);
        Ok(duplicate)
    }

    /// Closes the sockets bound for a bridge, except those in `wanted`.
    pub fn close_others(&self, bridge: &str, wanted: &[ListenSpec]) {
        self.open().bound.retain(|(of, name, address), _| {
            of != bridge || wanted.iter().any(|spec| spec.name == *name && spec.address == *address)
        });
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds and listens. An IPv6 socket takes IPv6 only, so that `[::]` and `0.0.0.0` can stand side by side.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str) -> ListenSpec {
        ListenSpec { name: "mx".into(), address: address.parse().unwrap() }
    }

    #[test]
    fn the_same_socket_is_given_again() {
        let sockets = Sockets::new();
        let first = sockets.listen("smtp", &spec("127.0.0.1:0")).unwrap();
        let again = sockets.listen("smtp", &spec("127.0.0.1:0")).unwrap();
        assert_eq!(first.local_addr().unwrap(), again.local_addr().unwrap());
        let other = sockets.listen("imap", &spec("127.0.0.1:0")).unwrap();
        assert_ne!(first.local_addr().unwrap(), other.local_addr().unwrap());
    }

    #[test]
    fn a_closed_socket_is_bound_anew() {
        let sockets = Sockets::new();
        let address = sockets.listen("smtp", &spec("127.0.0.1:0")).unwrap().local_addr().unwrap();
        assert!(TcpListener::bind(address).is_err(), "still held");
        sockets.close_others("smtp", &[]);
        assert!(TcpListener::bind(address).is_ok(), "closed");
    }

    #[test]
    fn a_passed_socket_is_preferred() {
        let sockets = Sockets::new();
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = passed.local_addr().unwrap();
        sockets.pass("smtp.mx", passed).unwrap();
        let got = sockets.listen("smtp", &spec("127.0.0.1:1")).unwrap();
        assert_eq!(got.local_addr().unwrap(), address);
    }

    #[test]
    fn of_several_passed_the_one_at_the_address_is_taken() {
        let sockets = Sockets::new();
        let [first, second] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let wanted = second.local_addr().unwrap();
        sockets.pass("smtp.mx", first).unwrap();
        sockets.pass("smtp.mx", second).unwrap();
        let got = sockets.listen("smtp", &ListenSpec { name: "mx".into(), address: wanted }).unwrap();
        assert_eq!(got.local_addr().unwrap(), wanted);
    }

    #[test]
    fn a_taken_address_is_refused_with_the_reason() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let spec = ListenSpec { name: "mx".into(), address: taken.local_addr().unwrap() };
        let error = Sockets::new().listen("smtp", &spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("another program listens there"), "{error}");
    }

    #[test]
    fn both_families_share_a_port() {
        let sockets = Sockets::new();
        let Ok(six) = sockets.listen("smtp", &spec("[::]:0")) else {
            return; // no IPv6 here
        };
        let port = six.local_addr().unwrap().port();
        sockets.listen("smtp", &spec(&format!("0.0.0.0:{port}"))).unwrap();
    }
}
