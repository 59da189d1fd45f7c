"""How Bethrou itself is started: the one place to change when its commands change."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from lab import PROJECT, Lab
from peers import Half, Peer, first_line
from processes import BenchError

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
ED25519_PEER_ID = bytes.fromhex("002408011220")  # identity multihash of the protobuf of an Ed25519 key

CLIENT_YAML = """\
key: {directory}/network.key
server:
  listen: "127.0.0.1:{local}"
nodes:
  - id: {peer_id}
    addrs:
      - /ip4/127.0.0.1/tcp/{port}{inside}/p2p/{peer_id}
"""


class Bethrou(Peer):
    """Client and exit node with their default settings; the exit may dial loopback, where the target is."""

    name = "bethrou"
    programs = ("bethrou-node", "bethrou-client")
    package = "this project: pip install -e ."
    inside = ""
    """What the link runs in, as multiaddrs say it."""

    def __init__(self, security: str = "") -> None:
        """With `security` it is a column of its own, whose links have that one."""
        self.name = security or self.name
        self._options = ["--security", security] if security else []

    def missing(self) -> list[str]:
        return [program for program in self.programs if not _runs(program)]

    def version(self) -> str:
        return first_line(["git", "-C", str(PROJECT), "describe", "--always", "--dirty"])

    def serve(self, lab: Lab) -> Half:
        directory = Path(mkdtemp(prefix="bethrou-", dir=lab.scratch))
        port = lab.ports.free()
        identity = directory / "node.key"
        write_network_key(directory / "network.key")
        argv = [found("bethrou-node"), "start", "--listen", f"/ip4/127.0.0.1/tcp/{port}{self.inside}"]
        argv += ["--key", str(directory / "network.key"), "--identity", str(identity)]
        argv += ["--allow", "127.0.0.0/8", *self._options]
        process = lab.processes.start(argv, own_state(directory / "node"))
        process.wait_for_listener(port)
        return Half(port, process, {"directory": str(directory), "peer_id": identity_of(identity)})

    def connect(self, lab: Lab, server: Half, port: int) -> Half:
        directory, local = Path(server.facts["directory"]), lab.ports.free()
        config = directory / f"client-{local}.yaml"
        config.write_text(CLIENT_YAML.format(local=local, port=port, inside=self.inside, **server.facts))
        argv = [found("bethrou-client"), "connect", "--config", str(config)]
        argv += ["--key", str(directory / "network.key"), *self._options]
        return Half(local, lab.processes.start(argv, own_state(directory / f"client-{local}")))


class BethrouByWebSocket(Bethrou):
    """The same, with the link in a WebSocket."""

    name = "bethrou-ws"
    inside = "/ws"


def _command(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def _runs(name: str) -> bool:
    command = _command(name)
    return (
        command is not None
        and subprocess.run([command, "--help"], capture_output=True, check=False).returncode == 0
    )


def found(name: str) -> str:
    found = _command(name)
    if found is None:
        raise BenchError(f"{name} is not installed")
    return found


def own_state(directory: Path) -> dict[str, str]:
    """An environment in which this instance shares no state directory and reads no settings of the user."""
    directory.mkdir(mode=0o700, exist_ok=True)
    left_out = {name for name in os.environ if name.startswith("BETHROU_")}
    left_out.add("PYTHONDONTWRITEBYTECODE")  # an installed program is compiled once, not at each start
    kept = {name: text for name, text in os.environ.items() if name not in left_out}
    return {**kept, "XDG_STATE_HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}


def write_network_key(path: Path) -> None:
    path.write_text(f"/key/swarm/psk/1.0.0/\n/base16/\n{secrets.token_hex(32)}\n")
    path.chmod(0o600)


def identity_of(identity: Path) -> str:
    """The peer ID of a libp2p private key file, whose last 32 bytes are the Ed25519 public key."""
    deadline = time.monotonic() + 5
    while not identity.exists() or identity.stat().st_size < 68:
        if time.monotonic() > deadline:
            raise BenchError(f"the node wrote no identity to {identity.name}")
        time.sleep(0.01)
    return _base58(ED25519_PEER_ID + identity.read_bytes()[-32:])


def _base58(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits
