package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

type command struct {
	ID      json.RawMessage `json:"id"`
	Cmd     string          `json:"cmd"`
	Timeout float64         `json:"timeout"` // seconds for the whole command, 60 by default
	Peer    string          `json:"peer"`    // which exit is meant; the first that was connected by default

	Address    string `json:"address"`
	SendHex    string `json:"send_hex"`
	SendRandom *struct {
		Bytes int64  `json:"bytes"`
		Seed  string `json:"seed"`
	} `json:"send_random"`
	Early        bool  `json:"early"` // send the payload in the same write as the request
	HalfClose    bool  `json:"half_close"`
	ReadUntilEOF bool  `json:"read_until_eof"`
	ReadBytes    int64 `json:"read_bytes"`

	AfterBytes int64  `json:"after_bytes"` // abort
	How        string `json:"how"`         // abort: "reset" (default) or "close", as Bethrou in Go does
	Code       uint32 `json:"code"`        // abort: the reset's code

	Count int    `json:"count"` // ping, parallel
	Bytes int64  `json:"bytes"` // parallel
	Name  string `json:"name"`  // protocol
}

type client struct {
	host     host.Host
	peer     peer.ID
	faithful bool
}

func runClient(stop context.Context, h host.Host, o options) error {
	c := &client{host: h, faithful: o.faithful()}
	gone := func(_ network.Network, conn network.Conn) {
		emit(object{"event": "disconnected", "peer": conn.RemotePeer().String()})
	}
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: gone})
	var err error
	if o.discoverAddress != "" {
		err = c.connectToDiscovered(stop, o)
	} else {
		err = c.connect(stop, strings.Split(o.dial, ","))
	}
	if err != nil {
		return err
	}
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		input := bufio.NewScanner(os.Stdin)
		input.Buffer(nil, 64<<20)
		for input.Scan() {
			lines <- append([]byte(nil), input.Bytes()...)
		}
	}()
	for {
		select {
		case <-stop.Done():
			return nil
		case line, more := <-lines:
			if !more {
				return nil
			}
			cmd := command{Timeout: 60, Count: 1}
			if err := json.Unmarshal(line, &cmd); err != nil {
				emit(object{"error": err.Error()})
			} else if cmd.Cmd == "close" {
				err := h.Close()
				emit(object{"id": cmd.ID, "ok": err == nil})
				return nil
			} else {
				go c.run(stop, cmd)
			}
		}
	}
}

// connect dials one peer, and tells what its identify says.
func (c *client) connect(ctx context.Context, addrs []string) error {
	var infos []peer.AddrInfo
	for _, addr := range addrs {
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			return err
		}
		infos = append(infos, *info)
	}
	target := infos[0]
	for _, info := range infos[1:] {
		if info.ID != target.ID {
			return errors.New("--dial takes addresses of one peer")
		}
		target.Addrs = append(target.Addrs, info.Addrs...)
	}
	c.peer = target.ID
	sub, err := c.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed),
	})
	if err != nil {
		return err
	}
	defer sub.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.host.Connect(ctx, target); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-sub.Out():
			line := object{"event": "connected", "id": c.host.ID().String(), "peer": c.peer.String()}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				if e.Peer != c.peer {
					continue
				}
				for key, value := range identified("connected", e) {
					line[key] = value
				}
			case event.EvtPeerIdentificationFailed:
				if e.Peer != c.peer {
					continue
				}
				line["identify_error"] = e.Reason.Error()
			}
			line["libp2p"] = libp2pVersion()
			emit(line)
			return nil
		}
	}
}

func (c *client) run(ctx context.Context, cmd command) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(cmd.Timeout*float64(time.Second)))
	defer cancel()
	if cmd.Peer != "" {
		id, err := peer.Decode(cmd.Peer)
		if err != nil {
			emit(object{"id": cmd.ID, "error": err.Error()})
			return
		}
		c = &client{host: c.host, peer: id, faithful: c.faithful}
	}
	var result object
	switch cmd.Cmd {
	case "ping":
		result = c.ping(ctx, cmd)
	case "bethrou-ping":
		result = c.bethrouPing(ctx)
	case "protocol":
		result = c.protocol(ctx, cmd)
	case "request", "abort":
		result = c.request(ctx, cmd)
	case "parallel":
		result = c.parallel(ctx, cmd)
	default:
		result = object{"error": "unknown command " + cmd.Cmd}
	}
	result["id"] = cmd.ID
	result["ms"] = milliseconds(time.Since(start))
	emit(result)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (c *client) ping(ctx context.Context, cmd command) object {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rtts := make([]float64, 0, cmd.Count)
	for result := range ping.Ping(ctx, c.host, c.peer) {
		if result.Error != nil {
			return object{"ok": false, "rtts_ms": rtts, "error": result.Error.Error()}
		}
		if rtts = append(rtts, milliseconds(result.RTT)); len(rtts) >= cmd.Count {
			return object{"ok": true, "rtts_ms": rtts}
		}
	}
	return object{"ok": false, "rtts_ms": rtts, "error": "timeout"}
}

func (c *client) bethrouPing(ctx context.Context) object {
	s, err := c.host.NewStream(ctx, c.peer, pingID)
	if err != nil {
		return object{"ok": false, "error": err.Error()}
	}
	if c.faithful {
		err = s.Close()
	} else {
		defer s.Close()
		deadline, _ := ctx.Deadline()
		_ = s.SetDeadline(deadline)
		if err = s.CloseWrite(); err == nil {
			_, err = io.Copy(io.Discard, s)
		}
	}
	if err != nil {
		return object{"ok": false, "error": err.Error()}
	}
	return object{"ok": true}
}

func (c *client) protocol(ctx context.Context, cmd command) object {
	s, err := c.host.NewStream(ctx, c.peer, protocol.ID(cmd.Name))
	if err != nil {
		return object{"ok": false, "error": err.Error()}
	}
	_ = s.Reset()
	return object{"ok": true}
}

// open sends a request, with early bytes behind it in one write, and returns the exit's answer and what follows it.
func (c *client) open(ctx context.Context, address string, early []byte) (network.Stream, io.Reader, answer, error) {
	ctx = network.WithAllowLimitedConn(ctx, "proxy")
	s, err := c.host.NewStream(ctx, c.peer, proxyID)
	if err != nil {
		return nil, nil, answer{}, err
	}
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	text, _ := json.Marshal(request{Address: address})
	if _, err = s.Write(append(append(text, '\n'), early...)); err != nil {
		return s, nil, answer{}, err
	}
	decoder := json.NewDecoder(s)
	var got answer
	if err := decoder.Decode(&got); err != nil {
		return s, nil, answer{}, err
	}
	if c.faithful {
		return s, s, got, nil
	}
	return s, behind(decoder, s), got, nil
}

// request runs one proxied stream; an abort is one that ends by a reset after so many received bytes.
func (c *client) request(ctx context.Context, cmd command) object {
	payload, err := cmd.payload()
	if err != nil {
		return object{"status": "none", "error": err.Error()}
	}
	sent, received := newTally(0), newTally(1024)
	var early []byte
	if cmd.Early {
		early, _ = io.ReadAll(io.TeeReader(payload, sent))
	}
	s, body, got, err := c.open(ctx, cmd.Address, early)
	if s != nil {
		defer s.Close()
	}
	result := object{"status": got.Status, "message": got.Message}
	if err != nil {
		result["status"] = "none"
		describe(result, err)
		return result
	}
	if got.Status != "ok" {
		_, err := io.Copy(received, body)
		describe(result, err)
		received.report(result, "received")
		return result
	}
	sending := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, io.TeeReader(payload, sent))
		if err == nil && cmd.HalfClose {
			err = s.CloseWrite()
		}
		sending <- err
	}()
	limit := cmd.ReadBytes + cmd.AfterBytes
	if cmd.ReadUntilEOF {
		_, err = io.Copy(received, body)
		describe(result, err)
	} else if n, err := io.CopyN(received, body, limit); n < limit {
		describe(result, err)
	} else {
		result["end"] = "open"
	}
	if cmd.Cmd == "abort" && cmd.How == "close" {
		_ = s.Close()
	} else if cmd.Cmd == "abort" {
		_ = s.ResetWithError(network.StreamErrorCode(cmd.Code))
	}
	if err := <-sending; err != nil {
		result["send_error"] = err.Error()
	}
	sent.report(result, "sent")
	received.report(result, "received")
	return result
}

// parallel holds count streams open at a time, and only then has each of them echoed its own bytes.
func (c *client) parallel(ctx context.Context, cmd command) object {
	var lock sync.Mutex
	ok, matched := 0, 0
	refused, broken := map[string]int{}, map[string]int{}
	var opened, done sync.WaitGroup
	opened.Add(cmd.Count)
	done.Add(cmd.Count)
	for i := range cmd.Count {
		go func() {
			defer done.Done()
			s, body, got, err := c.open(ctx, cmd.Address, nil)
			if s != nil {
				defer s.Close()
			}
			lock.Lock()
			if err != nil {
				refused[err.Error()]++
			} else if got.Status != "ok" {
				refused[got.Message]++
			} else {
				ok++
			}
			lock.Unlock()
			opened.Done()
			if err != nil || got.Status != "ok" {
				return
			}
			opened.Wait()
			err = echoed(s, body, strconv.Itoa(i), cmd.Bytes)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				broken[err.Error()]++
			} else {
				matched++
			}
		}()
	}
	done.Wait()
	return object{"ok": ok, "refused": refused, "matched": matched, "broken": broken}
}

// echoed sends bytes of the named payload, and expects the same back.
func echoed(s io.Writer, body io.Reader, seed string, bytes int64) error {
	sent, received := newTally(0), newTally(0)
	sending := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, io.TeeReader(random(seed, bytes), sent))
		sending <- err
	}()
	if _, err := io.CopyN(received, body, bytes); err != nil {
		return err
	}
	if err := <-sending; err != nil {
		return err
	}
	if sent.sum() != received.sum() {
		return errors.New("other bytes came back")
	}
	return nil
}

// describe tells how a stream ended. An error of a lost connection wraps io.EOF, so that one is compared, not searched.
func describe(result object, err error) {
	var reset *network.StreamError
	var lost *network.ConnError
	var timed interface{ Timeout() bool }
	switch {
	case err == nil || err == io.EOF || err == io.ErrUnexpectedEOF:
		result["end"] = "eof"
	case errors.As(err, &reset):
		result["end"], result["code"] = "reset", uint32(reset.ErrorCode)
	case errors.As(err, &lost):
		result["end"], result["code"] = "connection", uint32(lost.ErrorCode)
	case errors.Is(err, network.ErrReset):
		result["end"] = "connection"
	case errors.As(err, &timed) && timed.Timeout():
		result["end"] = "timeout"
	default:
		result["end"] = "error"
	}
	if err != nil {
		result["error"] = err.Error()
	}
}

func (cmd command) payload() (io.Reader, error) {
	if cmd.SendRandom != nil {
		return random(cmd.SendRandom.Seed, cmd.SendRandom.Bytes), nil
	}
	raw, err := hex.DecodeString(cmd.SendHex)
	return strings.NewReader(string(raw)), err
}

// random is sha256(seed ":" 0), sha256(seed ":" 1), ... cut to so many bytes.
func random(seed string, bytes int64) io.Reader {
	return io.LimitReader(&counterStream{seed: seed}, bytes)
}

type counterStream struct {
	seed string
	next int
	left []byte
}

func (r *counterStream) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.left) == 0 {
			block := sha256.Sum256([]byte(fmt.Sprintf("%s:%d", r.seed, r.next)))
			r.left = block[:]
			r.next++
		}
		copied := copy(p[n:], r.left)
		r.left = r.left[copied:]
		n += copied
	}
	return n, nil
}

// tally counts and hashes what is written to it, and keeps its first bytes.
type tally struct {
	hash  hash.Hash
	count int64
	head  []byte
	keep  int
}

func newTally(keep int) *tally { return &tally{hash: sha256.New(), keep: keep} }

func (t *tally) Write(p []byte) (int, error) {
	if room := t.keep - len(t.head); room > 0 {
		t.head = append(t.head, p[:min(room, len(p))]...)
	}
	t.count += int64(len(p))
	return t.hash.Write(p)
}

func (t *tally) sum() string { return hex.EncodeToString(t.hash.Sum(nil)) }

func (t *tally) report(result object, name string) {
	result[name], result[name+"_sha256"] = t.count, t.sum()
	if t.keep > 0 {
		result[name+"_head"] = hex.EncodeToString(t.head)
	}
}
