"""TLS 1.3 as libp2p uses it: certificates that carry an identity, OpenSSL's handshake, and records of our own."""
