"""What bytes mean: sans-I/O cores from bytes to messages. No asyncio, sockets, clock or environment in here."""
