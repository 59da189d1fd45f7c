"""Another machine's network, as far as Linux makes one: a namespace that two cables (veth) join to this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from conftest import needs


class Namespace:
    """A network of its own. Its addresses are of those for benchmarks (RFC 2544), which nobody routes."""

    def __init__(self, ip: str) -> None:
        self._ip = ip
        number = os.getpid() % 2**15  # other tests may do the same
        self._name = f"bethrou{number}"
        self._inside = [f"bt{number}i{cable}" for cable in range(2)]
        self._outside = [f"bt{number}o{cable}" for cable in range(2)]
        self._nets = [f"198.18.{number % 128 + cable * 128}." for cable in range(2)]

    @property
    def within(self) -> tuple[str, ...]:
        """Runs a command there."""
        return self._ip, "netns", "exec", self._name

    def here(self, cable: int) -> str:
        """The address of this end of a cable."""
        return f"{self._nets[cable]}1"

    def there(self, cable: int, number: int = 2) -> str:
        """An address of the other end."""
        return f"{self._nets[cable]}{number}"

    def build(self) -> None:
        """Lay the cables. Raises CalledProcessError where the system does not permit it."""
        self._run("netns", "add", self._name)
        for cable, (outside, inside) in enumerate(zip(self._outside, self._inside, strict=True)):
            self._run("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self._name)
            self._run("address", "add", f"{self.here(cable)}/24", "dev", outside)
            self._run("link", "set", outside, "up")
            self._run("-n", self._name, "link", "set", inside, "up")
            self.add_address(cable)

    def add_address(self, cable: int, number: int = 2) -> None:
        """Give the other end of a cable an address."""
        self._change("add", cable, number)

    def remove_address(self, cable: int, number: int = 2) -> None:
        """Take it away."""
        self._change("delete", cable, number)

    def destroy(self) -> None:
        """Leave nothing of it; the cables go with it."""
        self._run("netns", "delete", self._name)

    def _change(self, how: str, cable: int, number: int) -> None:
        address = f"{self.there(cable, number)}/24"
        self._run("-n", self._name, "address", how, address, "dev", self._inside[cable])

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """One for the length of a block. Skips the test where there can be none."""
    (ip,) = needs("ip")
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    made = Namespace(ip)
    try:
        made.build()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        yield made
    finally:
        made.destroy()
