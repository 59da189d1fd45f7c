"""The Dockerfile and compose.yaml, as far as they can be judged without an engine.

The Dockerfile is linted. The commands of compose.yaml are run by hand: each service in a network namespace of its own,
with the addresses of the others in place of their names.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import missing, needs
from live.documents import Document
from live.namespaces import Internet, Namespace, an_internet_for_a_test
from live.redis_server import program as redis_program
from live.waiting import wait_until
from packaging_tests.commands import run

DOCKER = Path(__file__).parents[2] / "packaging" / "docker"
HADOLINT = Path(sys.executable).with_name("hadolint")
BLOCKS = Document(DOCKER / "README.md").blocks
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
ADDRESSES = {
    "redis": "5.5.0.1",
    "relay": "5.5.0.2",
    "exit-one": "5.5.0.3",
    "exit-two": "5.5.0.4",
    "client": "5.5.0.5",
}
WEB = "5.5.0.9"
PATIENCE = 60.0


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    if not HADOLINT.exists():
        missing("hadolint", "hadolint has no wheel for this machine")
    assert run([str(HADOLINT), "--no-color", str(DOCKER / "Dockerfile")]) == ""


def test_compose_has_what_the_readme_starts() -> None:
    services = COMPOSE["services"]
    assert services.keys() == ADDRESSES.keys()
    for name, service in services.items():
        if name != "redis":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert services["client"]["ports"] == ["127.0.0.1:1080:1080"]  # nobody else gets in
    built = (DOCKER / services["client"]["build"]["context"]).resolve()
    assert (built / services["client"]["build"]["dockerfile"]) == DOCKER / "Dockerfile"


def test_the_image_has_all_that_it_copies_and_checks() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    root = DOCKER.parents[1]
    kept = (DOCKER / "Dockerfile.dockerignore").read_text()
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    for name in copied:
        assert (root / name).exists()
        assert f"!{name}" in kept.splitlines()
    check = re.search(r'^HEALTHCHECK .* CMD \["bethrou", (.*)\]$', dockerfile, re.MULTILINE)
    assert check is not None
    run([sys.executable, "-m", "bethrou.cli.main", *check[1].replace('"', "").split(", "), "--help"])


internet = pytest.fixture(an_internet_for_a_test)


class Services:
    """The services of compose.yaml, each on a host of its own, all in the folder `network`."""

    def __init__(self, folder: Path, hosts: Mapping[str, Namespace], environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._hosts = hosts
        self._environment = environment
        self.running: list[subprocess.Popen[bytes]] = []

    def command(self, name: str) -> list[str]:
        """What a service runs, its variables filled in and the names of the others made addresses."""
        words = []
        for word in COMPOSE["services"][name]["command"]:
            word = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: self._environment[match[1]], word)
            word = re.sub(r"//redis:", f"//{ADDRESSES['redis']}:", word)
            words.append(word.replace("/dns4/relay/", f"/ip4/{ADDRESSES['relay']}/"))
        return words

    def start(self, name: str) -> None:
        if name == "redis":
            command = [redis_program(), *self.command(name)[1:], "--protected-mode", "no"]
        else:
            command = [sys.executable, "-m", "bethrou.cli.main", *self.command(name)]
        with (self._folder / f"{name}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    self._hosts[name].command(*command),
                    cwd=self._folder / "network",
                    env=self.environment_of(name),
                    stdout=log,
                    stderr=log,
                )
            )

    def environment_of(self, name: str) -> dict[str, str]:
        """XDG_STATE_HOME is the container's own."""
        return {**os.environ, "XDG_STATE_HOME": str(self._folder / f"state-of-{name}")}

    def healthy(self, name: str) -> bool:
        """What HEALTHCHECK would say."""
        check = [sys.executable, "-m", "bethrou.cli.main", "status", "--check"]
        return (
            subprocess.run(check, env=self.environment_of(name), capture_output=True, check=False).returncode
            == 0
        )

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(PATIENCE)


@contextlib.contextmanager
def page(host: Namespace, folder: Path) -> Iterator[str]:
    """A page in the world beyond the exits, or rather its URL."""
    (folder / "index.html").write_text("It works")
    command = [sys.executable, "-m", "http.server", "--directory", str(folder), "80"]
    process = subprocess.Popen(host.command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{host.address}/"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.timeout(180)
def test_its_commands_make_a_network(internet: Internet, tmp_path: Path) -> None:
    (curl,) = needs("curl")
    stand_in = f'bethrou() {{ (cd network && {sys.executable} -m bethrou.cli.main "$@"); }}\n'
    keys = re.sub(r"^bethrou\(\) .*\n", stand_in, BLOCKS["keys"], flags=re.MULTILINE)
    keys = keys.replace("redis://redis:", f"redis://{ADDRESSES['redis']}:")
    run(["sh", "-euc", keys], cwd=tmp_path)
    environment = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert environment.keys() == {"RELAY", "OWNER"}

    hosts = {name: internet.host(address) for name, address in ADDRESSES.items()}
    services = Services(tmp_path, hosts, environment)
    world = internet.host(WEB)
    (tmp_path / "pages").mkdir()
    with page(world, tmp_path / "pages") as url:
        try:
            for name in ADDRESSES:
                services.start(name)
            wait_until(lambda: all(services.healthy(name) for name in ADDRESSES if name != "redis"), PATIENCE)
            for exit_ in ("one", "two"):

                def fetch(exit_: str = exit_) -> bool:
                    asked = [
                        curl,
                        "-s",
                        "-m",
                        "10",
                        "-x",
                        "socks5h://127.0.0.1:1080",
                        "-U",
                        f"exit={exit_}:x",
                        url,
                    ]
                    done = subprocess.run(hosts["client"].command(*asked), capture_output=True, check=False)
                    return done.stdout == b"It works"

                wait_until(fetch, PATIENCE, f"the page through {exit_}")
        finally:
            services.stop()
        assert [process.returncode for process in services.running] == [0] * len(ADDRESSES)
