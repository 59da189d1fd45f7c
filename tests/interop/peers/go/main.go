// Command peer is a go-libp2p host in a private network that speaks Bethrou's two protocols and its discovery, so that
// the Python program can be tested against the real thing. ../../README.md describes its events and commands.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

const (
	proxyID = protocol.ID("/bethrou/proxy/1.0.0")
	pingID  = protocol.ID("/bethrou/ping/1.0.0")
)

// object is one line of output.
type object = map[string]any

type options struct {
	psk, seed, mode, security, limits string
	listen, dial                      string
	relay, connectRelay               string
	earlyMuxer                        bool
	discoverAddress, discoverTopic    string
	discoverTimeout                   float64 // seconds
	discoverEnough                    int
}

// faithful is true for the quirks of Bethrou in Go, false for a peer that loses nothing.
func (o options) faithful() bool { return o.mode == "faithful" }

func main() {
	if len(os.Args) < 2 || (os.Args[1] != "exit" && os.Args[1] != "client") {
		fail("usage: peer exit|client --psk FILE ...")
	}
	role := os.Args[1]
	var o options
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	flags.StringVar(&o.psk, "psk", "", "file of the network key")
	flags.StringVar(&o.seed, "identity-seed", "", "64 hex digits, the Ed25519 seed (default: a new identity)")
	flags.StringVar(&o.mode, "mode", "proper", "faithful (the quirks of Bethrou in Go) or proper")
	flags.StringVar(&o.security, "security", "default", "noise, tls or default (tls, then noise)")
	flags.StringVar(&o.limits, "limits", "default", "resource limits of go-libp2p: default or none")
	flags.BoolVar(&o.earlyMuxer, "early-muxer", true, "negotiate the muxer inside the security handshake")
	flags.StringVar(&o.listen, "listen", "", "multiaddrs to listen on, separated by commas")
	flags.StringVar(&o.dial, "dial", "", "multiaddrs of the peer to dial, separated by commas (client)")
	flags.StringVar(&o.relay, "relay", "", "relay for others: default (limits) or unlimited (exit)")
	flags.StringVar(&o.connectRelay, "connect-relay", "", "multiaddr of a relay to be reached through (exit)")
	flags.StringVar(&o.discoverAddress, "discover-address", "", "the Redis server: a URL, or host:port")
	flags.StringVar(&o.discoverTopic, "discover-topic", "", "topic of discovery (exit: its peer ID by default)")
	flags.Float64Var(&o.discoverTimeout, "discover-timeout", 10, "seconds in which exits are discovered (client)")
	flags.IntVar(&o.discoverEnough, "discover-enough", 1, "in mode proper, wait for no more exits (client)")
	_ = flags.Parse(os.Args[2:])

	h, err := newHost(o)
	if err != nil {
		fail(err.Error())
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	if role == "exit" {
		err = runExit(stop, h, o)
	} else {
		err = runClient(stop, h, o)
	}
	_ = h.Close()
	if err != nil {
		emit(object{"event": "failed", "error": err.Error()})
		os.Exit(1)
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(2)
}

var output sync.Mutex

// emit prints one object on a line of its own.
func emit(line object) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		fail(err.Error())
	}
	output.Lock()
	defer output.Unlock()
	_, _ = os.Stdout.Write(text.Bytes())
}

// newHost takes the options that Bethrou in Go takes, and those that the command line varies.
func newHost(o options) (host.Host, error) {
	if o.mode != "faithful" && o.mode != "proper" {
		return nil, fmt.Errorf("unknown mode %q", o.mode)
	}
	file, err := os.Open(o.psk)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	psk, err := pnet.DecodeV1PSK(file)
	if err != nil {
		return nil, err
	}
	key, err := identity(o.seed)
	if err != nil {
		return nil, err
	}
	opts := []libp2p.Option{
		libp2p.PrivateNetwork(psk),
		libp2p.Identity(key),
		libp2p.UserAgent("bethrou-interop-go/" + libp2pVersion()),
		libp2p.EnableRelay(),
		libp2p.EnableAutoNATv2(),
		libp2p.EnableHolePunching(holepunch.DirectDialTimeout(30 * time.Second)),
		security(o),
	}
	if o.listen == "" {
		opts = append(opts, libp2p.NoListenAddrs)
	} else {
		opts = append(opts, libp2p.ListenAddrStrings(strings.Split(o.listen, ",")...))
	}
	if o.limits == "none" {
		manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
		if err != nil {
			return nil, err
		}
		opts = append(opts, libp2p.ResourceManager(manager))
	}
	return libp2p.New(opts...)
}

func identity(seed string) (crypto.PrivKey, error) {
	if seed == "" {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		return key, err
	}
	raw, err := hex.DecodeString(seed)
	if err != nil || len(raw) != ed25519.SeedSize {
		return nil, fmt.Errorf("--identity-seed takes %d hex digits", 2*ed25519.SeedSize)
	}
	return crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(raw))
}

func security(o options) libp2p.Option {
	offered := func(muxers []upgrader.StreamMuxer) []upgrader.StreamMuxer {
		if o.earlyMuxer {
			return muxers
		}
		return nil
	}
	tls := libp2p.Security(libp2ptls.ID,
		func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*libp2ptls.Transport, error) {
			return libp2ptls.New(id, key, offered(muxers))
		})
	noise := libp2p.Security(noise.ID,
		func(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*noise.Transport, error) {
			return noise.New(id, key, offered(muxers))
		})
	switch o.security {
	case "noise":
		return noise
	case "tls":
		return tls
	case "default":
		return libp2p.ChainOptions(tls, noise)
	}
	return func(*libp2p.Config) error { return fmt.Errorf("unknown security %q", o.security) }
}

func libp2pVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/libp2p/go-libp2p" {
				return module.Version
			}
		}
	}
	return "unknown"
}

// identified tells what a peer's identify said, and how its connection was agreed.
func identified(name string, e event.EvtPeerIdentificationCompleted) object {
	state := e.Conn.ConnState()
	observed := ""
	if e.ObservedAddr != nil {
		observed = e.ObservedAddr.String()
	}
	listen := make([]string, 0, len(e.ListenAddrs))
	for _, addr := range e.ListenAddrs {
		listen = append(listen, addr.String())
	}
	return object{
		"event": name, "peer": e.Peer.String(),
		"agent": e.AgentVersion, "protocol_version": e.ProtocolVersion,
		"protocols": e.Protocols, "listen_addrs": listen, "observed_addr": observed,
		"signed_record": e.SignedPeerRecord != nil,
		"local_addr":    e.Conn.LocalMultiaddr().String(), "remote_addr": e.Conn.RemoteMultiaddr().String(),
		"security": state.Security, "muxer": state.StreamMultiplexer,
		"early_muxer": state.UsedEarlyMuxerNegotiation, "limited": e.Conn.Stat().Limited,
	}
}
