//! The command line: `exit|client`, then `--name value` or `--name=value`.
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::PreSharedKey;
use libp2p::{Multiaddr, PeerId};

use crate::network::{NOISE, TLS};

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Exit,
    Client,
}

/// For whom circuits are relayed, and how much of them.
#[derive(Clone, Copy)]
pub enum Relay {
    Default,
    Unlimited,
}

pub struct Options {
    pub role: Role,
    pub psk: PreSharedKey,
    pub keypair: Keypair,
    pub listen: Vec<Multiaddr>,
    pub dial: Vec<Multiaddr>,
    pub relay: Option<Relay>,
    pub connect_relay: Option<Multiaddr>,
    /// What is offered, the first one preferred.
    pub security: Vec<&'static str>,
    pub hole_punching: bool,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let role = match arguments.next().as_deref() {
            Some("exit") => Role::Exit,
            Some("client") => Role::Client,
            _ => return Err("there is no such role".into()),
        };
        let mut psk = None;
        let mut options = Options {
            role,
            psk: PreSharedKey::new([0; 32]),
            keypair: Keypair::generate_ed25519(),
            listen: Vec::new(),
            dial: Vec::new(),
            relay: None,
            connect_relay: None,
            security: vec![TLS, NOISE],
            hole_punching: false,
        };
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let value = arguments.next().ok_or_else(|| format!("{argument} takes a value"))?;
                    (argument, value)
                }
            };
            if name == "--psk" {
                psk = Some(read_key(&value)?);
            } else {
                options.take(&name, &value)?;
            }
        }
        options.psk = psk.ok_or("--psk is needed")?;
        if role == Role::Client && options.dial.is_empty() {
            return Err("a client needs --dial".into());
        }
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match (name, value) {
            ("--listen", _) => self.listen = addresses(value)?,
            ("--dial", _) => self.dial = addresses(value)?,
            ("--connect-relay", _) => self.connect_relay = addresses(value)?.pop(),
            ("--identity-seed", _) => {
                let seed = unhex(value).ok_or("--identity-seed takes 64 hex digits")?;
                self.keypair = Keypair::ed25519_from_bytes(seed).map_err(|error| error.to_string())?;
            }
            ("--relay", "default") => self.relay = Some(Relay::Default),
            ("--relay", "unlimited") => self.relay = Some(Relay::Unlimited),
            ("--security", "default") => self.security = vec![TLS, NOISE],
            ("--security", "noise") => self.security = vec![NOISE],
            ("--security", "tls") => self.security = vec![TLS],
            ("--hole-punching", "true" | "false") => self.hole_punching = value == "true",
            ("--mode", "proper") => (),
            // rust-libp2p leaves the muxer to multistream-select in any case
            ("--early-muxer", "true" | "false") => (),
            _ => return Err(format!("{name} {value} is unknown")),
        }
        Ok(())
    }
}

/// The peer at the end of an address.
pub fn peer_of(address: &Multiaddr) -> Result<PeerId, String> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => Err(format!("{address} does not end in /p2p")),
    }
}

fn read_key(path: &str) -> Result<PreSharedKey, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.parse().map_err(|error| format!("{path}: {error}"))
}

fn addresses(text: &str) -> Result<Vec<Multiaddr>, String> {
    let words = text.split(',').filter(|each| !each.is_empty());
    words.map(|each| each.parse().map_err(|error| format!("{each}: {error}"))).collect()
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
