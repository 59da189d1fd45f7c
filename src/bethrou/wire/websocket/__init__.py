"""WebSocket (RFC 6455): the opening handshake and the frames, as libp2p carries a connection in them."""
