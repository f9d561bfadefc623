//! Prosody on loopback with the people juliet and romeo, and a person who speaks through slixmpp.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of XMPP.
pub struct Prosody {
    _dir: tempfile::TempDir,
    server: Child,
    clients: u16,
    /// Where it takes components.
    pub components: u16,
}

impl Prosody {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [clients, components] = free_ports();
        let accounts = dir.path().join("localhost/accounts");
        std::fs::create_dir_all(&accounts).unwrap();
        for name in ["juliet", "romeo"] {
            std::fs::write(accounts.join(format!("{name}.dat")), "return { password = \"secret\" };").unwrap();
        }
        let path = dir.path().display();
        let config = format!(
            "run_as_root = true\npidfile = \"{path}/pid\"\ndata_path = \"{path}\"\nlog = {{ debug = \"{path}/log\" }}\n\
             interfaces = {{ \"127.0.0.1\" }}\nc2s_ports = {{ {clients} }}\nc2s_direct_tls_ports = {{}}\ns2s_ports = {{}}\n\
             component_ports = {{ {components} }}\ncomponent_interfaces = {{ \"127.0.0.1\" }}\n\
             modules_enabled = {{ \"saslauth\", \"roster\", \"ping\", \"disco\" }}\nmodules_disabled = {{ \"s2s\" }}\n\
             authentication = \"internal_plain\"\nc2s_require_encryption = false\nallow_unencrypted_plain_auth = true\n\
             VirtualHost \"localhost\"\nComponent \"mesyx.localhost\"\ncomponent_secret = \"shared\"\n"
        );
        std::fs::write(dir.path().join("prosody.cfg.lua"), config).unwrap();
        let server = Command::new("prosody")
            .arg("--config")
            .arg(dir.path().join("prosody.cfg.lua"))
            .arg("-F")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prosody is installed (Debian: prosody)");
        let this = Self { _dir: dir, server, clients, components };
        let begun = Instant::now();
        for port in [clients, components] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let log = std::fs::read_to_string(this._dir.path().join("log")).unwrap_or_default();
                assert!(begun.elapsed() < PATIENCE, "prosody never listened\n{log}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        this
    }

    /// A bridge's configuration.
    pub fn config(&self) -> Value {
        json!({ "server": format!("127.0.0.1:{}", self.components), "component": "mesyx.localhost" })
    }

    /// Its process.
    #[allow(dead_code, reason = "not all test programs use it")]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    pub fn person(&self, name: &str) -> Person {
        Person::start(self.clients, &format!("{name}@localhost"))
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|at| listeners[at].local_addr().unwrap().port())
}

/// Somebody at a client of XMPP.
pub struct Person {
    client: Child,
    says: Mutex<Option<ChildStdin>>,
    heard: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Person {
    fn start(port: u16, jid: &str) -> Self {
        let mut client = Command::new("/usr/bin/python3")
            .args(["-c", include_str!("client.py")])
            .args([&port.to_string(), jid, "secret"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is installed, with slixmpp (Debian: python3-slixmpp)");
        let output = BufReader::new(client.stdout.take().unwrap());
        let heard: Arc<(Mutex<Vec<Value>>, Condvar)> = Arc::default();
        let writes = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    writes.0.lock().unwrap().push(value);
                    writes.1.notify_all();
                }
            }
        });
        let this = Self { says: Mutex::new(client.stdin.take()), client, heard };
        this.hears("ready", |event| event["event"] == "ready");
        this
    }

    pub fn does(&self, what: Value) {
        writeln!(self.says.lock().unwrap().as_mut().unwrap(), "{what}").unwrap();
    }

    /// The first event of this sort, past or to come.
    pub fn hears(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        let mut heard = self.heard.0.lock().unwrap();
        loop {
            if let Some(event) = heard.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "never heard {what}, but {heard:?}");
            heard = self.heard.1.wait_timeout(heard, Duration::from_millis(100)).unwrap().0;
        }
    }

    pub fn heard(&self) -> Vec<Value> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Says something; the error that came back, if one did before the component answered a ping (or was gone).
    pub fn says(&self, to: &str, text: &str) -> Option<String> {
        let before = self.heard().len();
        let settles = |events: &[Value]| {
            events.iter().find(|event| ["settled", "silence"].iter().any(|end| event["event"] == *end)).cloned()
        };
        self.does(json!({ "say": text, "to": to }));
        let begun = Instant::now();
        loop {
            let new = self.heard()[before..].to_vec();
            if let Some(end) = settles(&new) {
                let error = new.iter().find(|event| event["id"] == end["id"] && event["kind"] == "error");
                return error.map(|error| error["error"].as_str().unwrap().to_owned());
            }
            assert!(begun.elapsed() < PATIENCE, "never settled: {new:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
