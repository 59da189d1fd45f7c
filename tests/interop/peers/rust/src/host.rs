//! The host: its protocols, and what it tells of its peers.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, dcutr, identify, ping, relay, swarm};
use serde_json::{Value, json};

use crate::network::{Agreed, STREAMS, transport};
use crate::options::{Options, Relay, Role};
use crate::{PING, PROXY, emit, exit, libp2p_version, service};

/// A client answers the command `ping` by what the next ones bring.
const CLIENT_PING_INTERVAL: Duration = Duration::from_millis(100);
const EXIT_PING_INTERVAL: Duration = Duration::from_secs(15);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a relay may say.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub circuits: relay::client::Behaviour,
    pub relay: Toggle<relay::Behaviour>,
    pub holes: Toggle<dcutr::Behaviour>,
    pub streams: libp2p_stream::Behaviour,
    pub proxy: Toggle<service::Behaviour>,
    pub pong: Toggle<service::Behaviour>,
}

pub type Event = SwarmEvent<BehaviourEvent>;

/// Who is connected.
pub type Connected = Arc<Mutex<HashSet<PeerId>>>;

pub struct Host {
    pub swarm: Swarm<Behaviour>,
    pub connected: Connected,
    agreed: Agreed,
    remotes: HashMap<ConnectionId, Multiaddr>,
}

impl Host {
    pub fn new(options: &Options) -> Self {
        let agreed = Agreed::default();
        let (transport, circuits) = transport(options, &agreed);
        let id = options.keypair.public().to_peer_id();
        let mut relay = options.relay.map(|kind| relay::Behaviour::new(id, limits(kind)));
        if let Some(relay) = &mut relay {
            relay.set_status(Some(relay::Status::Enable));
        }
        let is_exit = options.role == Role::Exit;
        let interval = if is_exit { EXIT_PING_INTERVAL } else { CLIENT_PING_INTERVAL };
        let behaviour = Behaviour {
            // without a signed record: rust-libp2p would make one of its own kind, at which js gives up identify
            identify: identify::Behaviour::new(
                identify::Config::new(String::new(), options.keypair.public())
                    .with_agent_version(format!("bethrou-interop-rust/{}", libp2p_version())),
            ),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(interval)),
            circuits,
            relay: relay.into(),
            holes: options.hole_punching.then(|| dcutr::Behaviour::new(id)).into(),
            streams: libp2p_stream::Behaviour::new(),
            proxy: is_exit.then(|| service::Behaviour::new(PROXY, exit::serve)).into(),
            pong: is_exit.then(|| service::Behaviour::new(PING, exit::pong)).into(),
        };
        // its default ends connections without streams after ten seconds
        let config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(A_DAY)
            .with_max_negotiating_inbound_streams(STREAMS);
        Host {
            swarm: Swarm::<Behaviour>::new(transport, behaviour, id, config),
            connected: Connected::default(),
            agreed,
            remotes: HashMap::new(),
        }
    }

    /// What happens next; whoever is gone is told here.
    pub async fn next(&mut self) -> Event {
        let event = self.swarm.select_next_some().await;
        match &event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.remotes.insert(*connection_id, remote_address(endpoint));
                self.connected.lock().expect("no holder panics").insert(*peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.remotes.remove(connection_id);
                if *num_established == 0 {
                    self.connected.lock().expect("no holder panics").remove(peer_id);
                    emit(&json!({"event": "disconnected", "peer": peer_id.to_string()}));
                }
            }
            _ => (),
        }
        event
    }

    /// What a peer's identify said, and how its connection was agreed.
    pub fn identified(&self, event: &str, connection: ConnectionId, peer: PeerId, info: &identify::Info) -> Value {
        let remote = self.remotes.get(&connection).map(Multiaddr::to_string);
        let security = self.agreed.lock().expect("no holder panics").get(&peer).copied();
        json!({
            "event": event,
            "peer": peer.to_string(),
            "agent": info.agent_version,
            "protocol_version": info.protocol_version,
            "protocols": info.protocols.iter().map(|each| each.as_ref()).collect::<Vec<_>>(),
            "listen_addrs": info.listen_addrs.iter().map(Multiaddr::to_string).collect::<Vec<_>>(),
            "observed_addr": info.observed_addr.to_string(),
            "signed_record": info.signed_peer_record.is_some(),
            "remote_addr": remote.unwrap_or_default(),
            "security": security.unwrap_or_default(),
            "muxer": "/yamux/1.0.0",
            "limited": false, // rust-libp2p has no such notion
        })
    }
}

/// The other side's address; that of who comes by a circuit with the relay in front, as js has it.
fn remote_address(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, send_back_addr } if endpoint.is_relayed() => {
            send_back_addr.iter().fold(local_addr.clone(), Multiaddr::with)
        }
        _ => endpoint.get_remote_address().clone(),
    }
}

fn limits(kind: Relay) -> relay::Config {
    match kind {
        Relay::Default => relay::Config::default(),
        Relay::Unlimited => relay::Config {
            max_circuit_duration: FOR_EVER,
            max_circuit_bytes: 0, // no limit
            reservation_rate_limiters: Vec::new(),
            circuit_src_rate_limiters: Vec::new(),
            ..relay::Config::default()
        },
    }
}
