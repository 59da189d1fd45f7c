//! A rust-libp2p host in a private network that speaks Bethrou's two protocols, so that the Python program can be tested
//! against the real thing. ../../../README.md describes its events and commands.
mod client;
mod exit;
mod host;
mod network;
mod options;
mod service;
mod streams;

use std::process::ExitCode;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use host::Host;
use options::{Options, Role};

pub const PROXY: &str = "/bethrou/proxy/1.0.0";
pub const PING: &str = "/bethrou/ping/1.0.0";

/// Prints one object on a line of its own.
pub fn emit(line: &Value) {
    println!("{line}");
}

/// The version of libp2p that this was built with.
pub fn libp2p_version() -> String {
    let lock = include_str!("../Cargo.lock");
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"libp2p\"");
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    format!("v{}", version.unwrap_or("unknown"))
}

/// Lines of stdin, read in a thread; the channel closes at its end.
fn input() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\nusage: peer exit|client --psk FILE ...");
            return ExitCode::from(2);
        }
    };
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be caught");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be caught");
    let host = Host::new(&options);
    let lines = input();
    let running = async move {
        match options.role {
            Role::Exit => exit::run(host, &options, lines).await,
            Role::Client => client::run(host, &options, lines).await,
        }
    };
    let result = tokio::select! {
        result = running => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            emit(&json!({"event": "failed", "error": error}));
            ExitCode::FAILURE
        }
    }
}
