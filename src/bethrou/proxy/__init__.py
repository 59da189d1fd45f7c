"""The product: SOCKS5 at one end, an exit node at the other, and the choice of exit between them."""
