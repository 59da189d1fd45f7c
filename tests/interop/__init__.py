"""Real Go and JavaScript peers against our client and our node. README.md describes the peers."""
