//! The exit: serves proxy requests, relays, and is reached through a relay.
use std::collections::HashSet;
use std::io;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Stream, identify, relay};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host, tcp};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::host::{BehaviourEvent, Event, Host};
use crate::options::Options;
use crate::streams::{CHUNK, Inbox, send};
use crate::{emit, libp2p_version};

const DIAL_LIMIT: Duration = Duration::from_secs(10);

pub async fn run(mut host: Host, options: &Options, mut input: UnboundedReceiver<String>) -> Result<(), String> {
    let addresses = listen(&mut host, options).await?;
    let id = host.swarm.local_peer_id().to_string();
    emit(&json!({"event": "listening", "addrs": addresses, "id": id, "libp2p": libp2p_version()}));
    let mut place = None;
    if let Some(relay) = &options.connect_relay {
        let circuit = relay.clone().with(Protocol::P2pCircuit);
        place = Some(host.swarm.listen_on(circuit).map_err(|error| error.to_string())?);
    }
    loop {
        tokio::select! {
            line = input.recv() => if line.is_none() { return Ok(()) },
            event = host.next() => tell(&host, options, place, event),
        }
    }
}

/// Where the host listens, once it does, with its peer ID.
async fn listen(host: &mut Host, options: &Options) -> Result<Vec<String>, String> {
    let mut waiting = HashSet::new();
    for address in &options.listen {
        waiting.insert(host.swarm.listen_on(address.clone()).map_err(|error| error.to_string())?);
    }
    let mut addresses = Vec::new();
    while !waiting.is_empty() {
        match host.next().await {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.remove(&listener_id);
                if options.relay.is_some() {
                    // a relay names its external addresses in reservations
                    host.swarm.add_external_address(address.clone());
                }
                addresses.push(format!("{address}/p2p/{}", host.swarm.local_peer_id()));
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => return Err(error.to_string()),
            _ => (),
        }
    }
    Ok(addresses)
}

fn tell(host: &Host, options: &Options, place: Option<ListenerId>, event: Event) {
    match event {
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info })) => {
            emit(&host.identified("identified", connection_id, peer_id, &info));
        }
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. })) => {
            let error = error.to_string();
            emit(&json!({"event": "identify-failed", "peer": peer_id.to_string(), "error": error}));
        }
        SwarmEvent::Behaviour(BehaviourEvent::Circuits(relay::client::Event::ReservationReqAccepted {
            limit, ..
        })) => {
            let seconds = limit.as_ref().and_then(|limit| limit.duration()).map_or(0, |limit| limit.as_secs());
            let bytes = limit.and_then(|limit| limit.data_in_bytes()).unwrap_or(0);
            let circuits = host.swarm.external_addresses().map(Multiaddr::to_string);
            emit(&json!({
                "event": "reserved",
                "relay": options.connect_relay.as_ref().map(Multiaddr::to_string),
                "addrs": circuits.collect::<Vec<_>>(),
                "limit_seconds": seconds,
                "limit_bytes": bytes,
            }));
        }
        SwarmEvent::ListenerClosed { listener_id, reason, .. } if Some(listener_id) == place => {
            let error = reason.err().map(|error| error.to_string());
            let relay = options.connect_relay.as_ref().map(Multiaddr::to_string);
            emit(&json!({"event": "reservation-failed", "relay": relay, "error": error}));
        }
        SwarmEvent::Behaviour(BehaviourEvent::Holes(event)) => {
            let error = event.result.err().map(|error| error.to_string());
            let peer = event.remote_peer_id.to_string();
            emit(&json!({"event": "hole-punched", "peer": peer, "error": error}));
        }
        _ => (),
    }
}

pub fn pong(_: PeerId, mut stream: Stream) {
    tokio::spawn(async move { stream.close().await });
}

pub fn serve(peer: PeerId, stream: Stream) {
    tokio::spawn(async move {
        let mut line = json!({"event": "served", "peer": peer.to_string()});
        if let Err(error) = proxied(stream, &mut line).await {
            line["end"] = error.to_string().into();
        }
        emit(&line);
    });
}

/// Serves one stream. Each direction ends by itself; a stream that is dropped before its end is reset.
async fn proxied(mut stream: Stream, line: &mut Value) -> io::Result<()> {
    let mut inbox = Inbox::new(&mut stream);
    let request = inbox.read_object().await;
    let dialled = match &request {
        Ok(request) => {
            let address = request["address"].as_str().unwrap_or_default();
            line["address"] = address.into();
            dial(address).await
        }
        Err(error) => Err(error.to_string()),
    };
    let mut target = match dialled {
        Ok(target) => target,
        Err(message) => {
            line["status"] = "error".into();
            line["message"] = message.clone().into();
            let answer = json!({"status": "error", "message": message});
            send(&mut stream, format!("{answer}\n").as_bytes()).await?;
            return stream.close().await;
        }
    };
    line["status"] = "ok".into();
    let surplus = inbox.surplus();
    send(&mut stream, b"{\"status\":\"ok\"}\n").await?;
    let (reader, writer) = stream.split();
    let (mut up, mut down) = (0, 0);
    let (far_reader, far_writer) = target.split();
    let copied = tokio::try_join!(
        copy_up(Inbox::behind(surplus, reader), far_writer, &mut up),
        copy_down(far_reader, writer, &mut down)
    );
    if copied.is_err() {
        target.set_zero_linger()?; // a reset on one side is a reset on the other
    }
    line["up"] = up.into();
    line["down"] = down.into();
    line["end"] = "eof".into();
    copied.map(|_| ())
}

async fn dial(address: &str) -> Result<TcpStream, String> {
    let resolved = lookup_host(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => format!("address {address}: {error}"),
        _ => format!("lookup {address}: no such host"),
    })?;
    let candidates: Vec<_> = resolved.collect();
    let connected = timeout(DIAL_LIMIT, TcpStream::connect(&*candidates)).await;
    let target = connected.map_err(|_| "dial: i/o timeout".to_owned())?.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    })?;
    target.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(target)
}

async fn copy_up(
    mut inbox: Inbox<impl futures::AsyncRead + Unpin>,
    mut target: tcp::WriteHalf<'_>,
    count: &mut usize,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = inbox.read(&mut buffer).await?;
        if length == 0 {
            return target.shutdown().await;
        }
        target.write_all(&buffer[..length]).await?;
        *count += length;
    }
}

async fn copy_down(
    mut target: tcp::ReadHalf<'_>,
    mut stream: impl futures::AsyncWrite + Unpin,
    count: &mut usize,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = target.read(&mut buffer).await?;
        if length == 0 {
            return stream.close().await;
        }
        send(&mut stream, &buffer[..length]).await?;
        *count += length;
    }
}
