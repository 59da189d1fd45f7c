"""Recorded sessions played back to our whole stack: it gets what the peer sent, with our recorded randomness."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from bethrou.net.buffers import Buffers
from bethrou.net.link import Link
from bethrou.net.stream import YamuxStream
from bethrou.net.upgrade import Upgrader
from bethrou.wire.noise.records import RecordOpener
from bethrou.wire.noise.secure_channel import NoiseChannel
from bethrou.wire.noise.security import Noise
from bethrou.wire.peer_id import PeerId
from bethrou.wire.pnet import NONCE_SIZE, Keystream
from bethrou.wire.psk import NetworkKey
from bethrou.wire.yamux.frame import ACK, DATA, FIN, RST, SYN, FrameReader
from bethrou.wire.yamux.window import BUDGET, WindowBudget
from net.collector import Collector, End
from net.hosts import ANYWHERE
from wire.noise.recordings import Recording
from wire.support import load


@dataclass(frozen=True)
class Script:
    """What is needed of a recording to play it."""

    recording: Recording

    @property
    def name(self) -> str:
        return self.recording.name

    @property
    def entries(self) -> list[dict[str, Any]]:
        streams = self.recording.session["streams"]
        assert isinstance(streams, list)
        return streams

    @property
    def network_key(self) -> NetworkKey:
        return NetworkKey(bytes.fromhex(load(f"{self.name.partition('.')[0]}.json")["psk"]))

    @property
    def circuit_stream(self) -> int | None:
        """The stream that carries another recorded session."""
        number = load(f"{self.name.partition('.')[0]}.json").get("circuit_stream")
        return number if self.name.endswith(".outer") else None

    def raw(self, direction: str) -> bytes:
        return bytes.fromhex("".join(data for way, data in self.recording.session["raw"] if way == direction))

    @property
    def handshake_size(self) -> int:
        """Bytes of the peer's in front of its first record."""
        return len(self.raw("<")) - sum(len(plain) + 18 for plain in self.recording.records("<"))

    @property
    def our_handshake(self) -> bytes:
        """What we sent in front of our first record."""
        return self.raw(">")[: -sum(len(plain) + 18 for plain in self.recording.records(">"))]

    def upgrader(self) -> Upgrader:
        nonce = bytes.fromhex(self.recording.session["ours"]["pnet_nonce"])

        def randbytes(size: int) -> bytes:
            assert size == NONCE_SIZE
            return nonce

        channel = partial(NoiseChannel, static=self.recording.static, ephemeral=self.recording.ephemeral)
        return Upgrader(
            network_key=self.network_key,
            securities=(Noise(self.recording.identity, channel),),
            randbytes=randbytes,
            clock=asyncio.get_running_loop().time,
            muxers=self.recording.muxers,
        )


class Player:
    """Our side of a recorded session on a transport that somebody feeds. `ends` has a stream's end by its number."""

    def __init__(self, script: Script, transport: asyncio.Transport, left_alone: int | None = None) -> None:
        """`left_alone` is a stream that is somebody else's to write to."""
        self.script = script
        self._left_alone = left_alone
        self.ends: dict[int, End] = {}
        self.opened: list[int] = []
        """The peer's streams in the order in which it opened them."""
        self.link: Link | None = None
        self.budget = WindowBudget()
        self._transport = transport

    async def play(self) -> Link:
        """Upgrade, open our streams, and let the peer's bytes come."""
        theirs = self.script.recording.session["theirs"]
        upgrader = self.script.upgrader()
        if self.script.recording.initiator:
            upgraded = await upgrader.dial(self._transport, PeerId.parse(theirs["peer_id"]))
        else:
            upgraded = await upgrader.accept(self._transport)
        self.link = Link(
            asyncio.get_running_loop(),
            self._transport,
            upgraded,
            buffers=Buffers(),
            budget=self.budget,
            remote=ANYWHERE,
            on_stream=self._stream_opened,
            clock=asyncio.get_running_loop().time,
        )
        for entry in self.script.entries:
            if entry["opened_by"] == "us":
                self._take(entry["stream"], await self.link.open_stream())
        self.link.start(upgraded)
        return self.link

    def _stream_opened(self, _link: Link, stream: YamuxStream) -> None:
        number = stream.get_extra_info("stream_id")
        self.opened.append(number)
        self._take(number, stream)

    def _take(self, number: int, stream: YamuxStream) -> None:
        entry = next(entry for entry in self.script.entries if entry["stream"] == number)
        end = self.ends[number] = End(stream)
        end.switch(Collector())
        if number != self._left_alone:
            end.write(bytes.fromhex(entry["sent"]))

    def finish(self) -> None:
        """End our streams as we ended them then."""
        for entry in self.script.entries:
            end = self.ends[entry["stream"]]
            if entry["end_sent"] == "FIN":
                end.write_eof()
            elif entry["end_sent"] is not None:
                end.abort()

    def check_received(self) -> None:
        """Everything that the recording has, stream by stream."""
        for entry in self.script.entries:
            protocol = self.ends[entry["stream"]].protocol
            assert protocol.data.hex() == entry["received"]
            assert protocol.eof.done() == (entry["end_received"] == "FIN")

    def check_window_budget(self) -> None:
        assert self.budget.take(BUDGET) == BUDGET


class Sent:
    """What we wrote, decoded as the peer would."""

    def __init__(self, script: Script, wire: bytes) -> None:
        self.data: dict[int, bytes] = {}
        self.flags: dict[int, list[int]] = {}
        handshake = script.our_handshake
        assert wire[: len(handshake)] == handshake
        keystream = Keystream(script.network_key.raw, handshake[:NONCE_SIZE])
        keystream.xor(handshake[NONCE_SIZE:])
        plain = keystream.xor(wire[len(handshake) :])
        opener, reader, position = RecordOpener(script.recording.key(">")), FrameReader(), 0
        skipped = 0 if script.recording.early else self._multistream_size(script)
        while position < len(plain):
            size = int.from_bytes(plain[position : position + 2], "big")
            record = bytes(opener.open(plain[position + 2 : position + 2 + size]))
            position += 2 + size
            if skipped:
                skipped -= len(record)
                continue
            for kind, flags, stream, _, payload in reader.read(memoryview(record)):
                if kind == DATA:
                    self.data[stream] = self.data.get(stream, b"") + bytes(payload)
                if stream:
                    self.flags.setdefault(stream, []).append(flags)

    @staticmethod
    def _multistream_size(script: Script) -> int:
        """Bytes of ours that chose the muxer inside the channel."""
        frames = [frame for frame in script.recording.session["yamux"] if frame[0] == ">"]
        muxed = sum(12 + len(payload) // 2 for *_, payload in frames)
        return sum(map(len, script.recording.records(">"))) - muxed

    def check(self, script: Script) -> None:
        """The same bytes on every stream as then, and each flag as often as it must be."""
        for entry in script.entries:
            flags = self.flags[entry["stream"]]
            assert self.data.get(entry["stream"], b"").hex() == entry["sent"]
            first, other = (SYN, ACK) if entry["opened_by"] == "us" else (ACK, SYN)
            assert flags[0] & first
            assert sum(bool(each & first) for each in flags) == 1
            assert not any(each & other for each in flags)
            assert any(each & FIN for each in flags) == (entry["end_sent"] == "FIN")
            assert any(each & RST for each in flags) == (entry["end_sent"] or "").startswith("RST")
