package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

type request struct {
	Address string `json:"address"`
}

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

func runExit(stop context.Context, h host.Host, o options) error {
	sub, err := h.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed),
		new(event.EvtPeerConnectednessChanged),
	})
	if err != nil {
		return err
	}
	h.SetStreamHandler(pingID, func(s network.Stream) { _ = s.Close() })
	h.SetStreamHandler(proxyID, func(s network.Stream) {
		line := object{"event": "served", "peer": s.Conn().RemotePeer().String()}
		if o.faithful() {
			serveFaithful(s, line)
		} else {
			serveProper(s, line)
		}
		emit(line)
	})

	if o.relay != "" {
		if err := relayForOthers(h, o.relay); err != nil {
			return err
		}
	}
	emit(object{"event": "listening", "addrs": addresses(h), "id": h.ID().String(), "libp2p": libp2pVersion()})
	if o.discoverAddress != "" {
		go answerRequests(stop, h, o)
	}

	if o.connectRelay != "" {
		go reserve(stop, h, o.connectRelay)
	}

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		select {
		case <-stop.Done():
			return nil
		case <-ended:
			return nil
		case e := <-sub.Out():
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				emit(identified("identified", e))
			case event.EvtPeerIdentificationFailed:
				emit(object{"event": "identify-failed", "peer": e.Peer.String(), "error": e.Reason.Error()})
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					emit(object{"event": "disconnected", "peer": e.Peer.String()})
				}
			}
		}
	}
}

// addresses are where a host can be dialled, with its peer ID.
func addresses(h host.Host) []string {
	addrs := make([]string, 0)
	for _, addr := range h.Addrs() {
		addrs = append(addrs, addr.String()+"/p2p/"+h.ID().String())
	}
	return addrs
}

// serveFaithful answers as Bethrou in Go does. What the decoder read behind the request is lost, the dial has no time
// limit, and the first direction that ends takes the other one with it.
func serveFaithful(s network.Stream, line object) {
	defer s.Close()
	var req request
	err := json.NewDecoder(s).Decode(&req)
	line["address"] = req.Address
	var conn net.Conn
	if err == nil {
		conn, err = net.Dial("tcp", req.Address)
	}
	if err != nil {
		line["status"], line["message"] = "error", err.Error()
		_ = json.NewEncoder(s).Encode(answer{Status: "error", Message: err.Error()})
		return
	}
	defer conn.Close()
	line["status"] = "ok"
	if err := json.NewEncoder(s).Encode(answer{Status: "ok"}); err != nil {
		line["end"] = "answer: " + err.Error()
		return
	}
	ended := make(chan string, 2)
	forward := func(name string, to io.Writer, from io.Reader) {
		end := "eof"
		if _, err := io.Copy(to, from); err != nil {
			end = err.Error()
		}
		ended <- name + ": " + end
	}
	go forward("up", conn, s)
	go forward("down", s, conn)
	line["end"] = <-ended
}

// serveProper loses nothing: bytes behind the request go to the target, each direction ends by itself, and a reset on
// one side is a reset on the other.
func serveProper(s network.Stream, line object) {
	decoder := json.NewDecoder(s)
	var req request
	err := decoder.Decode(&req)
	line["address"] = req.Address
	var conn net.Conn
	if err == nil {
		conn, err = net.DialTimeout("tcp", req.Address, 10*time.Second)
	}
	if err != nil {
		line["status"], line["message"] = "error", err.Error()
		_ = json.NewEncoder(s).Encode(answer{Status: "error", Message: err.Error()})
		_ = s.Close()
		return
	}
	defer conn.Close()
	defer s.Close()
	line["status"] = "ok"
	if err := json.NewEncoder(s).Encode(answer{Status: "ok"}); err != nil {
		line["end"] = "answer: " + err.Error()
		return
	}
	target := conn.(*net.TCPConn)
	end := "eof"
	var first sync.Once
	abort := func(err error) {
		first.Do(func() {
			end = err.Error()
			_ = s.Reset()
			_ = target.SetLinger(0)
			_ = target.Close()
		})
	}
	var up, down int64
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		var err error
		if up, err = io.Copy(target, behind(decoder, s)); err != nil {
			abort(err)
			return
		}
		_ = target.CloseWrite()
	}()
	go func() {
		defer both.Done()
		var err error
		if down, err = io.Copy(s, target); err != nil {
			abort(err)
			return
		}
		_ = s.CloseWrite()
	}()
	both.Wait()
	line["up"], line["down"], line["end"] = up, down, end
}

// behind reads what follows the object that the decoder has read, without the newline that ends it.
func behind(decoder *json.Decoder, s io.Reader) io.Reader {
	return &afterNewline{rest: io.MultiReader(decoder.Buffered(), s)}
}

type afterNewline struct {
	rest    io.Reader
	started bool
}

func (r *afterNewline) Read(p []byte) (int, error) {
	n, err := r.rest.Read(p)
	if n > 0 && !r.started {
		r.started = true
		if p[0] == '\n' {
			n = copy(p, p[1:n])
		}
	}
	return n, err
}
