import socket
from ipaddress import ip_address

from bethrou.net.interfaces import MAX_AGE, Address, OwnAddresses, local_addresses

A, B = ip_address("192.0.2.1"), ip_address("2001:db8::1")


def test_loopback_and_the_address_of_the_default_route_are_found() -> None:
    found = local_addresses()
    assert ip_address("127.0.0.1") in found
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))
        except OSError:
            return  # no route: nothing to compare with
        assert ip_address(probe.getsockname()[0]) in found


class Reader:
    def __init__(self, *answers: set[Address] | OSError) -> None:
        self.answers = list(answers)

    def __call__(self) -> frozenset[Address]:
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return frozenset(answer)


def test_the_list_is_read_again_when_it_is_old() -> None:
    own = OwnAddresses(now=100.0, read=Reader({A}, {A, B}))
    assert own.current(100.0) == own.current(100.0 + MAX_AGE - 0.1) == {A}
    assert own.current(100.0 + MAX_AGE) == own.current(101.0 + MAX_AGE) == {A, B}


def test_an_unchanged_list_is_the_same_object() -> None:
    own = OwnAddresses(now=0.0, read=Reader({A}, {A}))
    assert own.current(0.0) is own.current(MAX_AGE)


def test_a_failure_keeps_the_list_until_the_next_try() -> None:
    own = OwnAddresses(now=0.0, read=Reader({A}, OSError(24, "Too many open files"), {B}))
    assert own.current(MAX_AGE) == {A}
    assert own.current(2 * MAX_AGE) == {B}
