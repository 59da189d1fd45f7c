"""The parts put together: a client and a node at work."""
