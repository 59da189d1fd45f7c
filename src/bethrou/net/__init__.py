"""How bytes move: the libp2p host on asyncio, where every pipe is an asyncio transport."""
