package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/redis/go-redis/v9"
)

// Discovery through Redis: a client publishes a request to a topic, and each exit that is subscribed to it publishes
// who and where it is to the channel that the request names.

type discoveryRequest struct {
	Action string `json:"action"`
	Reply  string `json:"reply,omitempty"`
}

type discoveryAnswer struct {
	ID    string   `json:"id"`
	Addrs []string `json:"addrs"`
}

// openRedis takes redis://[user:pass@]host:port, or host:port. It connects when it is first used.
func openRedis(address string) *redis.Client {
	opts, err := redis.ParseURL(address)
	if err != nil {
		opts = &redis.Options{Addr: address}
	}
	return redis.NewClient(opts)
}

// answerRequests says where this exit is to whoever asks on its topic. Without Redis at the start it is given up;
// later go-redis subscribes again by itself.
func answerRequests(ctx context.Context, h host.Host, o options) {
	server := openRedis(o.discoverAddress)
	defer server.Close()
	topic := o.discoverTopic
	if topic == "" {
		topic = h.ID().String()
	}
	requests := server.Subscribe(ctx, topic)
	defer requests.Close()
	if _, err := requests.Receive(ctx); err != nil {
		emit(object{"event": "discovery-failed", "error": err.Error()})
		return
	}
	emit(object{"event": "discoverable", "topic": topic})
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-requests.Channel():
			line := object{"event": "asked", "payload": message.Payload}
			if reply, ok := channelFor(message.Payload); ok {
				text, _ := json.Marshal(discoveryAnswer{ID: h.ID().String(), Addrs: addresses(h)})
				line["answer"] = string(text)
				if err := server.Publish(ctx, reply, text).Err(); err != nil {
					line["error"] = err.Error()
				}
			}
			emit(line)
		}
	}
}

// channelFor tells where a request wants its answer; not ok for what is none.
func channelFor(payload string) (reply string, ok bool) {
	var asked discoveryRequest
	if err := json.Unmarshal([]byte(strings.TrimSpace(payload)), &asked); err != nil {
		return "", false
	}
	return asked.Reply, asked.Reply != "" && (asked.Action == "" || asked.Action == "discover")
}

// askForExits collects answers until the time is over. Mode faithful is aborted by one bad answer; mode proper passes
// it over, and waits for no more than enough exits.
func askForExits(ctx context.Context, o options) ([]discoveryAnswer, error) {
	server := openRedis(o.discoverAddress)
	defer server.Close()
	reply := fmt.Sprintf("client-reply-%d", time.Now().UnixNano())
	answers := server.Subscribe(ctx, reply)
	defer answers.Close()
	if _, err := answers.Receive(ctx); err != nil {
		return nil, err
	}
	text, _ := json.Marshal(discoveryRequest{Action: "discover", Reply: reply})
	if err := server.Publish(ctx, o.discoverTopic, text).Err(); err != nil {
		return nil, err
	}
	emit(object{"event": "asking", "topic": o.discoverTopic, "payload": string(text)})

	var exits []discoveryAnswer
	known := map[string]bool{}
	over := time.After(time.Duration(o.discoverTimeout * float64(time.Second)))
	for o.faithful() || len(exits) < o.discoverEnough {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over:
			return exits, nil
		case message := <-answers.Channel():
			emit(object{"event": "answered", "payload": message.Payload})
			exit, err := parseAnswer(message.Payload, o.faithful())
			if err != nil && o.faithful() {
				return nil, err
			}
			// the first answer of an exit counts
			if err == nil && !known[exit.ID] {
				known[exit.ID] = true
				exits = append(exits, exit)
			}
		}
	}
	return exits, nil
}

// parseAnswer fails for what is no answer. Mode faithful believes whatever ID it claims.
func parseAnswer(payload string, faithful bool) (discoveryAnswer, error) {
	var exit discoveryAnswer
	if err := json.Unmarshal([]byte(payload), &exit); err != nil {
		return discoveryAnswer{}, fmt.Errorf("an answer is no JSON: %w", err)
	}
	if exit.ID == "" || len(exit.Addrs) == 0 {
		return discoveryAnswer{}, errors.New("an answer lacks id or addrs")
	}
	if faithful {
		return exit, nil
	}
	for _, addr := range exit.Addrs {
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			return discoveryAnswer{}, err
		}
		if info.ID.String() != exit.ID {
			return discoveryAnswer{}, errors.New("an answer has an address of another peer")
		}
	}
	return exit, nil
}

// connectToDiscovered connects to all exits that answer. In mode faithful each must be reachable; mode proper is
// content with one.
func (c *client) connectToDiscovered(ctx context.Context, o options) error {
	exits, err := askForExits(ctx, o)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	if len(exits) == 0 {
		return errors.New("discovery: no exit has answered")
	}
	var connected []peer.ID
	var last error
	for _, exit := range exits {
		if last = c.connectToOneOf(ctx, exit.Addrs); last == nil {
			connected = append(connected, c.peer)
		} else if c.faithful {
			return last
		}
	}
	if len(connected) == 0 {
		return last
	}
	c.peer = connected[0]
	return nil
}

// connectToOneOf tries an exit's addresses in turn. What its address says counts, not what ID its answer claims.
func (c *client) connectToOneOf(ctx context.Context, addrs []string) (err error) {
	for _, addr := range addrs {
		if err = c.connect(ctx, []string{addr}); err == nil {
			return nil
		}
	}
	return err
}
