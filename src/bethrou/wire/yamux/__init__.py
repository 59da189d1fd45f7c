"""The Yamux multiplexer: frames, stream states and flow-control windows."""
