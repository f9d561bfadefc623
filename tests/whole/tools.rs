//! Running programs that others wrote.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs a program to its end with `input`; fails the test where it is not installed.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        spawned.unwrap_or_else(|error| panic!("{name} is needed by this test ({error}); tests/run installs it"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that ends without reading its input shows its reason by its exit status.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs a program that must succeed; its standard output.
pub fn succeed(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let output = run(command, input);
    assert!(
        output.status.success(),
        "{} ended with {}\n{}\n{}",
        command.get_program().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs a Python script with arguments; its standard output.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = succeed(Command::new("python3").arg("-c").arg(script).args(arguments), b"");
    String::from_utf8(output).unwrap()
}
