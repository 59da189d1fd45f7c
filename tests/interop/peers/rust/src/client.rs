//! The client: dials one peer, then does what commands on stdin say, each in a task of its own.
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures::future::join_all;
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{PeerId, Stream, StreamProtocol, identify};
use libp2p_stream::Control;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout, timeout_at};

use crate::host::{BehaviourEvent, Connected, Event, Host};
use crate::options::{Options, peer_of, unhex};
use crate::streams::{CHUNK, Inbox, Tally, random, send};
use crate::{PING, PROXY, emit, libp2p_version};

const CONNECT_LIMIT: Duration = Duration::from_secs(30);

type Pinged = Result<f64, String>;
type Failure = (&'static str, String);

#[derive(Clone)]
struct Client {
    peer: PeerId,
    control: Control,
    connected: Connected,
    pings: broadcast::Sender<Pinged>,
}

pub async fn run(mut host: Host, options: &Options, mut input: UnboundedReceiver<String>) -> Result<(), String> {
    let peer = peer_of(&options.dial[0])?;
    for address in &options.dial {
        if peer_of(address)? != peer {
            return Err("--dial takes addresses of one peer".into());
        }
    }
    let dialling = DialOpts::peer_id(peer).addresses(options.dial.clone()).build();
    host.swarm.dial(dialling).map_err(|error| error.to_string())?;
    let connected = timeout(CONNECT_LIMIT, connect(&mut host, peer)).await;
    emit(&connected.map_err(|_| "timeout".to_owned())??);

    let client = Client {
        peer,
        control: host.swarm.behaviour().streams.new_control(),
        connected: host.connected.clone(),
        pings: broadcast::channel(16).0,
    };
    loop {
        tokio::select! {
            line = input.recv() => match line.map(|line| serde_json::from_str::<Value>(&line)) {
                None => return Ok(()),
                Some(Err(error)) => emit(&json!({"error": error.to_string()})),
                Some(Ok(command)) if command["cmd"] == "close" => {
                    emit(&json!({"id": command["id"], "ok": true}));
                    return Ok(());
                }
                Some(Ok(command)) => { tokio::spawn(client.clone().answer(command)); }
            },
            event = host.next() => {
                if let SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) = event && event.peer == peer {
                    let result = event.result.map(milliseconds).map_err(|error| error.to_string());
                    let _ = client.pings.send(result); // nobody may be waiting
                }
            }
        }
    }
}

/// What the dialled peer's identify says.
async fn connect(host: &mut Host, peer: PeerId) -> Result<Value, String> {
    loop {
        let (connection, info) = match host.next().await {
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            })) if peer_id == peer => (connection_id, info),
            event => match failure(event, peer) {
                Some(error) => return Err(error),
                None => continue,
            },
        };
        let mut line = host.identified("connected", connection, peer, &info);
        line["id"] = host.swarm.local_peer_id().to_string().into();
        line["libp2p"] = libp2p_version().into();
        return Ok(line);
    }
}

fn failure(event: Event, peer: PeerId) -> Option<String> {
    match event {
        SwarmEvent::OutgoingConnectionError { peer_id: Some(dialled), error, .. } if dialled == peer => {
            Some(error.to_string())
        }
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }))
            if peer_id == peer =>
        {
            Some(error.to_string())
        }
        _ => None,
    }
}

impl Client {
    async fn answer(mut self, command: Value) {
        let start = Instant::now();
        let seconds = command["timeout"].as_f64().unwrap_or(60.0);
        let deadline = start + Duration::from_secs_f64(seconds);
        let name = command["cmd"].as_str().unwrap_or_default();
        let mut line = match name {
            "request" | "abort" => self.request(&command, deadline).await,
            _ => {
                let answered = timeout_at(deadline, async {
                    match name {
                        "ping" => self.ping(number(&command["count"], 1)).await,
                        "bethrou-ping" => self.bethrou_ping().await,
                        "protocol" => self.protocol(command["name"].as_str().unwrap_or_default()).await,
                        "parallel" => self.parallel(&command).await,
                        _ => json!({"error": format!("unknown command {name}")}),
                    }
                });
                answered.await.unwrap_or_else(|_| json!({"ok": false, "error": "timeout"}))
            }
        };
        line["id"] = command["id"].clone();
        line["ms"] = milliseconds(start.elapsed()).into();
        emit(&line);
    }

    /// What the next pings bring: rust-libp2p pings by itself, on one stream.
    async fn ping(&self, count: usize) -> Value {
        let mut coming = self.pings.subscribe();
        let mut trips = Vec::new();
        while trips.len() < count {
            match coming.recv().await {
                Ok(Ok(trip)) => trips.push(trip),
                Ok(Err(error)) => return json!({"ok": false, "rtts_ms": trips, "error": error}),
                Err(broadcast::error::RecvError::Lagged(_)) => (),
                Err(closed) => return json!({"ok": false, "rtts_ms": trips, "error": closed.to_string()}),
            }
        }
        json!({"ok": true, "rtts_ms": trips})
    }

    async fn bethrou_ping(&mut self) -> Value {
        let pinging = async {
            let mut stream = self.stream(PING).await?;
            stream.close().await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        match pinging.await {
            Ok(_) => json!({"ok": true}),
            Err(error) => json!({"ok": false, "error": error.to_string()}),
        }
    }

    async fn protocol(&mut self, name: &str) -> Value {
        match self.stream(name).await {
            Ok(_) => json!({"ok": true}),
            Err(error) => json!({"ok": false, "error": error.to_string()}),
        }
    }

    async fn stream(&mut self, protocol: &str) -> io::Result<Stream> {
        let protocol = StreamProtocol::try_from_owned(protocol.to_owned()).map_err(io::Error::other)?;
        let opened = self.control.open_stream(self.peer, protocol).await;
        opened.map_err(|error| io::Error::other(format!("protocol: {error}")))
    }

    /// Sends a request, with early bytes behind it in one write, and returns the exit's answer and what follows it.
    async fn open(&mut self, address: &str, early: &[u8]) -> io::Result<Opened> {
        let (reader, mut writer) = self.stream(PROXY).await?.split();
        let request = [format!("{}\n", json!({"address": address})).as_bytes(), early].concat();
        send(&mut writer, &request).await?;
        let mut inbox = Inbox::new(reader);
        let answer = inbox.read_object().await?;
        Ok(Opened { inbox, writer, answer })
    }

    /// Runs one proxied stream; an abort is one that ends by a reset after so many received bytes.
    async fn request(&mut self, command: &Value, deadline: Instant) -> Value {
        let (mut sent, mut received) = (Tally::default(), Tally::default());
        let Some(mut payload) = payload(command) else {
            return json!({"status": "none", "error": "the payload is no hex"});
        };
        let early = match command["early"].as_bool() {
            Some(true) => payload.by_ref().flatten().collect(),
            _ => Vec::new(),
        };
        let address = command["address"].as_str().unwrap_or_default();
        let opened = match timeout_at(deadline, self.open(address, &early)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                let end = self.ended(&error);
                return json!({"status": "none", "message": "", "end": end, "error": error.to_string()});
            }
            Err(_) => return json!({"status": "none", "message": "", "end": "timeout", "error": "timeout"}),
        };
        let Opened { mut inbox, mut writer, answer } = opened;
        let mut line = json!({"status": answer["status"], "message": answer["message"].as_str().unwrap_or_default()});
        sent.add(&early);
        let accepted = answer["status"] == "ok";
        let until_eof = command["read_until_eof"].as_bool().unwrap_or(false) || !accepted;
        let wanted = match until_eof {
            true => usize::MAX,
            false => number(&command["read_bytes"], 0) + number(&command["after_bytes"], 0),
        };
        let half_close = command["half_close"].as_bool().unwrap_or(false);
        let mut sending = Box::pin(send_all(&mut writer, accepted.then_some(payload), &mut sent, half_close));
        let mut receiving = Box::pin(receive(&mut inbox, &mut received, wanted));
        let mut all_sent = None;
        let end = loop {
            tokio::select! {
                end = &mut receiving => break end,
                result = &mut sending, if all_sent.is_none() => all_sent = Some(result),
                () = tokio::time::sleep_until(deadline) => break Err(io::ErrorKind::TimedOut.into()),
            }
        };
        drop(receiving);
        if command["cmd"] == "abort" && command["how"] != "close" {
            drop(sending);
            drop((inbox, writer)); // unfinished: a reset
        } else {
            if all_sent.is_none() {
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                all_sent = Some(timeout_at(deadline, &mut sending).await.unwrap_or_else(late));
            }
            drop(sending);
            let _ = timeout_at(deadline, writer.close()).await;
        }
        match end {
            Ok("eof") if !self.is_connected() => line["end"] = "connection".into(),
            Ok(end) => line["end"] = end.into(),
            Err(error) => {
                line["end"] = self.ended(&error).into();
                line["error"] = error.to_string().into();
            }
        }
        if let Some(Err(error)) = all_sent {
            line["send_error"] = error.to_string().into();
        }
        sent.report(&mut line, "sent");
        received.report(&mut line, "received");
        line
    }

    fn is_connected(&self) -> bool {
        self.connected.lock().expect("no holder panics").contains(&self.peer)
    }

    fn ended(&self, error: &io::Error) -> &'static str {
        match error.kind() {
            io::ErrorKind::TimedOut => "timeout",
            _ if !self.is_connected() => "connection",
            io::ErrorKind::UnexpectedEof => "eof",
            io::ErrorKind::WriteZero | io::ErrorKind::ConnectionReset => "reset",
            _ => "error",
        }
    }

    /// Holds count streams open at a time, and only then has each of them echoed its own bytes.
    async fn parallel(&mut self, command: &Value) -> Value {
        let count = number(&command["count"], 1);
        let address = command["address"].as_str().unwrap_or_default();
        let tries = join_all((0..count).map(|_| {
            let mut client = self.clone();
            async move { client.open(address, b"").await }
        }));
        let mut refused = BTreeMap::<String, usize>::new();
        let mut held = Vec::new();
        for (seed, tried) in tries.await.into_iter().enumerate() {
            match tried {
                Ok(opened) if opened.answer["status"] == "ok" => held.push((seed, opened)),
                Ok(opened) => *refused.entry(opened.answer["message"].to_string()).or_default() += 1,
                Err(error) => *refused.entry(error.to_string()).or_default() += 1,
            }
        }
        let ok = held.len();
        let bytes = number(&command["bytes"], 0);
        let mut broken = BTreeMap::<String, usize>::new();
        for echoed in join_all(held.into_iter().map(|(seed, opened)| opened.echoed(seed.to_string(), bytes))).await {
            if let Err((_, error)) = echoed {
                *broken.entry(error).or_default() += 1;
            }
        }
        let matched = ok - broken.values().sum::<usize>();
        json!({"ok": ok, "refused": refused, "matched": matched, "broken": broken})
    }
}

/// A stream whose request was answered.
struct Opened {
    inbox: Inbox<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    answer: Value,
}

impl Opened {
    /// Sends bytes of the named payload, and expects the same back.
    async fn echoed(mut self, seed: String, bytes: usize) -> Result<(), Failure> {
        let (mut sent, mut received) = (Tally::default(), Tally::default());
        let payload: Payload = Box::new(random(seed, bytes));
        let (sending, end) = tokio::join!(
            send_all(&mut self.writer, Some(payload), &mut sent, false),
            receive(&mut self.inbox, &mut received, bytes)
        );
        let failed = |error: io::Error| ("error", error.to_string());
        sending.map_err(failed)?;
        if end.map_err(failed)? != "open" {
            return Err(("eof", "eof".into()));
        }
        if sent.sum() != received.sum() {
            return Err(("error", "other bytes came back".into()));
        }
        self.writer.close().await.map_err(failed)
    }
}

type Payload = Box<dyn Iterator<Item = Vec<u8>> + Send>;

fn payload(command: &Value) -> Option<Payload> {
    let wanted = &command["send_random"];
    if let Some(seed) = wanted["seed"].as_str() {
        return Some(Box::new(random(seed.to_owned(), number(&wanted["bytes"], 0))));
    }
    let bytes = unhex(command["send_hex"].as_str().unwrap_or_default())?;
    Some(Box::new(std::iter::once(bytes)))
}

async fn send_all(
    writer: &mut WriteHalf<Stream>,
    payload: Option<Payload>,
    sent: &mut Tally,
    half_close: bool,
) -> io::Result<()> {
    let Some(payload) = payload else { return Ok(()) };
    for chunk in payload {
        send(writer, &chunk).await?;
        sent.add(&chunk);
    }
    if half_close { writer.close().await } else { Ok(()) }
}

/// Reads up to so many bytes; says how the direction ended, or "open".
async fn receive(inbox: &mut Inbox<ReadHalf<Stream>>, received: &mut Tally, wanted: usize) -> io::Result<&'static str> {
    let mut buffer = vec![0; CHUNK];
    while received.count < wanted {
        let room = CHUNK.min(wanted - received.count);
        match inbox.read(&mut buffer[..room]).await? {
            0 => return Ok("eof"),
            length => received.add(&buffer[..length]),
        }
    }
    Ok("open")
}

fn number(value: &Value, otherwise: usize) -> usize {
    value.as_u64().map_or(otherwise, |number| number as usize)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
