//! From sockets to links: the private network comes first on each, on WebSockets inside them, and once more inside of
//! circuits, as in Go and js. rust-libp2p's builder knows TCP only, so the layers are put together here.
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt, TryFutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::{PeerId, Transport, noise, relay, tcp, tls, yamux};

use crate::options::Options;

pub const NOISE: &str = "/noise";
pub const TLS: &str = "/tls/1.0.0";

const UPGRADE_LIMIT: Duration = Duration::from_secs(15);
/// Streams of a connection; as many as fit into rust-yamux' bound on all its windows.
pub const STREAMS: usize = 4096;

/// What was agreed with each peer, the last time.
pub type Agreed = Arc<Mutex<HashMap<PeerId, &'static str>>>;

type Link = (PeerId, StreamMuxerBox);

/// The way to other hosts, and what makes circuits of it.
pub fn transport(options: &Options, agreed: &Agreed) -> (Boxed<Link>, relay::client::Behaviour) {
    let security = Security {
        offered: options.security.clone(),
        noise: noise::Config::new(&options.keypair).expect("the key can sign"),
        tls: tls::Config::new(&options.keypair).expect("the key can sign"),
        agreed: agreed.clone(),
    };
    let sockets = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let (circuits, behaviour) = relay::client::new(options.keypair.public().to_peer_id());
    let transport = upgraded(circuits, options.psk, security.clone())
        .or_transport(upgraded(libp2p_websocket::Config::new(sockets()), options.psk, security.clone()))
        .map(|either, _| either.into_inner())
        .or_transport(upgraded(sockets(), options.psk, security))
        .map(|either, _| either.into_inner())
        .boxed();
    (transport, behaviour)
}

fn upgraded<T>(raw: T, psk: PreSharedKey, security: Security) -> Boxed<Link>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync + 'static,
{
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(STREAMS);
    raw.and_then(move |socket, _| PnetConfig::new(psk).handshake(socket))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(muxer)
        .timeout(UPGRADE_LIMIT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

type Secured = (PeerId, Box<dyn Pipe>);

/// Noise or TLS, whichever is agreed, and a note of which it was.
#[derive(Clone)]
struct Security {
    offered: Vec<&'static str>,
    noise: noise::Config,
    tls: tls::Config,
    agreed: Agreed,
}

impl Security {
    fn noted(self, name: &'static str, (peer, pipe): (PeerId, impl Pipe + 'static)) -> Secured {
        self.agreed.lock().expect("no holder panics").insert(peer, name);
        (peer, Box::new(pipe))
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = std::vec::IntoIter<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.offered.clone().into_iter()
    }
}

impl<C: Pipe + 'static> InboundConnectionUpgrade<C> for Security {
    type Output = Secured;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured>>;

    fn upgrade_inbound(self, pipe: C, name: &'static str) -> Self::Future {
        match name {
            TLS => (self.tls.clone().upgrade_inbound(pipe, TLS).map_err(io::Error::other))
                .map_ok(move |secured| self.noted(name, secured))
                .boxed(),
            _ => (self.noise.clone().upgrade_inbound(pipe, NOISE).map_err(io::Error::other))
                .map_ok(move |secured| self.noted(name, secured))
                .boxed(),
        }
    }
}

impl<C: Pipe + 'static> OutboundConnectionUpgrade<C> for Security {
    type Output = Secured;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured>>;

    fn upgrade_outbound(self, pipe: C, name: &'static str) -> Self::Future {
        match name {
            TLS => (self.tls.clone().upgrade_outbound(pipe, TLS).map_err(io::Error::other))
                .map_ok(move |secured| self.noted(name, secured))
                .boxed(),
            _ => (self.noise.clone().upgrade_outbound(pipe, NOISE).map_err(io::Error::other))
                .map_ok(move |secured| self.noted(name, secured))
                .boxed(),
        }
    }
}
