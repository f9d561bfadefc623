//! The example in Python, made ready to run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What runs it.
pub struct Python {
    /// The interpreter, with grpcio from PyPI.
    pub interpreter: PathBuf,
    /// The directory of the stubs made from our protocol, for PYTHONPATH.
    pub stubs: PathBuf,
    /// The bridge.
    pub script: PathBuf,
}

/// Made once, under the target directory, whichever test asks first.
pub fn python() -> &'static Python {
    static MADE: OnceLock<Python> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = above.find(|dir| dir.join("sdk/proto").is_dir()).expect("the workspace");
        let source = root.join("bridges/examples/xmpp-python");
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xmpp-python-venv");
        let (interpreter, stubs) = (venv.join("bin/python"), venv.join("stubs"));
        let run = |command: &mut Command| {
            let ran = command.output().expect("python3 is installed (Debian: python3, python3-venv)");
            assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        };
        if !venv.join("done").exists() {
            // Debian's own where it is there: one below somebody's home can't be reached by a bridge's user.
            let debian = Path::new("/usr/bin/python3");
            let python = if debian.exists() { debian } else { Path::new("python3") };
            run(Command::new(python).args(["-m", "venv"]).arg(&venv));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            run(Command::new(&interpreter).args(pip).arg(source.join("requirements.txt")));
            std::fs::write(venv.join("done"), "").unwrap();
        }
        std::fs::create_dir_all(&stubs).unwrap();
        let out = |kind: &str| format!("--{kind}={}", stubs.display());
        run(Command::new(&interpreter)
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(root.join("sdk/proto"))
            .args([&out("python_out"), &out("grpc_python_out")])
            .arg("mesyx/bridge/v1/bridge.proto"));
        Python { interpreter, stubs, script: source.join("xmpp_bridge.py") }
    })
}
