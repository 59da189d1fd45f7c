from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.ops.json_text import from_json, to_json
from bethrou.snapshots import ConnectionSnapshot, StatusSnapshot, WhySnapshot
from ops.controlled import CONNECTION, EXIT, STATUS, WHY

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "snapshot", [STATUS, WHY, CONNECTION, EXIT, replace(EXIT, load=None, round_trip=None)]
)
def test_snapshots_come_back_as_they_were(snapshot: Any) -> None:
    assert json.loads(to_json(snapshot)) == json.loads(json.dumps(asdict(snapshot)))
    assert from_json(type(snapshot), json.loads(to_json(snapshot))) == snapshot


@given(text=st.text())
def test_text_is_ascii_without_control_characters(text: str) -> None:
    written = to_json(replace(CONNECTION, user=text))
    assert written.decode("ascii").isprintable()
    assert from_json(ConnectionSnapshot, json.loads(written)).user == text


def test_what_a_newer_program_adds_is_ignored_and_what_an_older_one_lacks_has_its_default() -> None:
    data = json.loads(to_json(STATUS))
    data["mood"] = ["good"]
    data["exits"][0]["shoe_size"] = 46
    del data["sources"], data["exits"][0]["agent"]
    assert from_json(StatusSnapshot, data) == replace(STATUS, sources=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 5}, "a JSON int where str should be"),
        ({"uptime": "long"}, "a JSON str where float should be"),
        ({"connections": True}, "a JSON bool where int should be"),
        ({"draining": 0}, "a JSON int where bool should be"),
        ({"exits": {}}, "no JSON array"),
        ({"exits": [None]}, "no JSON object where a ExitSnapshot should be"),
        ({"listening": [1]}, "a JSON int where str should be"),
    ],
)
def test_what_has_another_type(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        from_json(StatusSnapshot, {**json.loads(to_json(STATUS)), **changes})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(DecodeError, match="a WhySnapshot has no action, destination, rule, strategy"):
        from_json(WhySnapshot, {})


def test_whole_numbers_are_seconds_too() -> None:
    assert from_json(StatusSnapshot, {**json.loads(to_json(STATUS)), "uptime": 5}).uptime == 5.0
    assert from_json(StatusSnapshot, {**json.loads(to_json(STATUS)), "uptime": 10**400}).uptime == float(
        "inf"
    )


def test_what_is_no_number_is_not_written() -> None:
    with pytest.raises(ValueError):
        to_json(replace(CONNECTION, idle=float("inf")))


@given(data=JSON)
def test_whatever_else_comes_is_refused(data: Any) -> None:
    with pytest.raises(DecodeError):
        from_json(StatusSnapshot, data)


@given(data=st.fixed_dictionaries({}, optional=dict.fromkeys(asdict(CONNECTION), JSON)))
def test_fields_of_any_kind_are_taken_or_refused(data: Any) -> None:
    try:
        snapshot = from_json(ConnectionSnapshot, data)
    except DecodeError:
        return
    assert asdict(snapshot).keys() == data.keys()
