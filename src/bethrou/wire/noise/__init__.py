"""The Noise XX handshake and record encryption as libp2p uses them."""
