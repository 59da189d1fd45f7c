package main

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// relayForOthers has a host relay circuits: "default" as Bethrou in Go does, "unlimited" in time and bytes.
func relayForOthers(h host.Host, kind string) error {
	var opts []relay.Option
	switch kind {
	case "default":
	case "unlimited":
		opts = append(opts, relay.WithInfiniteLimits())
	default:
		return fmt.Errorf("unknown relay %q", kind)
	}
	_, err := relay.New(h, opts...)
	return err
}

// reserve makes a host reachable through a relay as Bethrou in Go does: once, and never again.
func reserve(ctx context.Context, h host.Host, address string) {
	line := object{"event": "reserved", "relay": address}
	reservation, err := func() (*circuit.Reservation, error) {
		info, err := peer.AddrInfoFromString(address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := h.Connect(ctx, *info); err != nil {
			return nil, err
		}
		return circuit.Reserve(ctx, h, *info)
	}()
	if err != nil {
		emit(object{"event": "reservation-failed", "relay": address, "error": err.Error()})
		return
	}
	addrs := make([]string, 0, len(reservation.Addrs))
	for _, addr := range reservation.Addrs {
		addrs = append(addrs, addr.String())
	}
	line["addrs"], line["expires_in"] = addrs, time.Until(reservation.Expiration).Seconds()
	line["voucher"] = reservation.Voucher != nil
	line["limit_seconds"], line["limit_bytes"] = reservation.LimitDuration.Seconds(), reservation.LimitData
	emit(line)
}
