"""The libraries that Salsa20 may come from, for tests that each of them must pass."""

from __future__ import annotations

import ctypes

import pytest

from bethrou.wire.salsa20_library import (
    NewCipher,
    Salsa20,
    choose_salsa20,
    load_libsodium,
    load_pycryptodome,
)


def no_libsodium() -> ctypes.CDLL:
    raise OSError("not a library")


def no_pycryptodome() -> NewCipher:
    raise ImportError("no such module")


LIBSODIUM: Salsa20 = choose_salsa20(load_libsodium, no_pycryptodome)
PYCRYPTODOME: Salsa20 = choose_salsa20(no_libsodium, load_pycryptodome)

with_each_library = pytest.mark.parametrize(
    "salsa20", [pytest.param(LIBSODIUM, id="libsodium"), pytest.param(PYCRYPTODOME, id="pycryptodome")]
)
