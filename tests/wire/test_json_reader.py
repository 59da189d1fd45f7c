import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.errors import DecodeError
from bethrou.wire import varint
from bethrou.wire.json_reader import (
    MAX_NESTING,
    MAX_OBJECT,
    JsonObjectReader,
    PrefixedJsonReader,
    encode_compact,
    encode_prefixed,
    text_field,
)

from .support import CUTS, byte_by_byte, cut

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text('abc{}[]"\\', max_size=8), VALUES, max_size=4)


def feed(reader: JsonObjectReader | PrefixedJsonReader, chunks: list[bytes]) -> dict[str, Any] | None:
    found = None
    for chunk in chunks:
        part = reader.receive(chunk)
        found = found if part is None else part
    return found


def test_an_object_of_go() -> None:
    reader = JsonObjectReader()
    assert reader.receive(b'{"status":"ok"}\n') == {"status": "ok"}
    assert reader.surplus == b""
    assert not reader.newline_due


@pytest.mark.parametrize(
    ("data", "found", "surplus"),
    [
        (b'{"status":"ok"}\npayload', {"status": "ok"}, b"payload"),
        (b'{"status":"ok"}payload', {"status": "ok"}, b"payload"),
        (b'{"status":"ok"}\n\npayload', {"status": "ok"}, b"\npayload"),
        (b'{"status":"ok"}\r\n', {"status": "ok"}, b"\r\n"),
        (b'{"status":"ok"}{"more":1}', {"status": "ok"}, b'{"more":1}'),
        (b' \r\n\t{ "a" : "b" }', {"a": "b"}, b""),
        (b"{}\x00\xff", {}, b"\x00\xff"),
        (b'{"a":"}\\"}{","b":{"c":["]"]}}x', {"a": '}"}{', "b": {"c": ["]"]}}, b"x"),
        (b'{"a":"\\\\"}x', {"a": "\\"}, b"x"),
        (b'{"Status":"ok","x":{"Y":1},"MESSAGE":""}', {"status": "ok", "x": {"Y": 1}, "message": ""}, b""),
        (b'{"a":1,"A":2}', {"a": 2}, b""),
        (b'{"a":"\xff"}', {"a": "\ufffd"}, b""),
        (b'{"a":"\\u003c\\u2028"}', {"a": "<\u2028"}, b""),
    ],
)
def test_where_an_object_ends(data: bytes, found: dict[str, Any], surplus: bytes) -> None:
    for chunks in ([data], byte_by_byte(data)):
        reader = JsonObjectReader()
        assert feed(reader, chunks) == found
        assert reader.surplus == surplus


def test_a_newline_that_comes_later_is_announced() -> None:
    reader = JsonObjectReader()
    assert reader.receive(b"{}") == {}
    assert reader.newline_due
    assert reader.receive(b"\n") == {}
    assert not reader.newline_due
    assert reader.receive(b"\n") == {}
    assert reader.surplus == b"\n"


def test_there_is_no_surplus_before_the_end() -> None:
    reader = JsonObjectReader()
    assert reader.receive(b'{"a":') is None
    assert reader.surplus == b""
    assert not reader.newline_due


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b'"text"',
        b"[1]",
        b"\n}",
        b"{a:1}",
        b"{]",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1,}',
        b'{"a":"\n"}',
        b'{"a":' + b"9" * 5000,
        b'{"a":"' + b"x" * MAX_OBJECT,
        b" " * MAX_OBJECT,
    ],
)
def test_what_is_no_object(data: bytes) -> None:
    for chunks in ([data], byte_by_byte(data)):
        with pytest.raises(DecodeError):
            feed(JsonObjectReader(), chunks)


def test_size_is_bounded_exactly() -> None:
    longest = b'{"a":"' + b"x" * (MAX_OBJECT - 8) + b'"}'
    assert len(longest) == MAX_OBJECT
    assert JsonObjectReader().receive(longest + b"\n" + b"p" * 100000) is not None
    with pytest.raises(DecodeError, match="longer"):
        JsonObjectReader().receive(longest.replace(b"xx", b"xxx", 1))


@pytest.mark.parametrize("opening", [b'{"a":', b'{"a":[', b'{"a":' + b"[" * 4])
def test_bombs_are_refused(opening: bytes) -> None:
    bomb = (opening * 600)[:4000]
    with pytest.raises(DecodeError, match="nested"):
        JsonObjectReader().receive(bomb)
    with pytest.raises(DecodeError, match="nested"):
        PrefixedJsonReader().receive(varint.encode(len(bomb)) + bomb)


def test_nesting_is_bounded_exactly() -> None:
    deepest = b'{"a":' * MAX_NESTING + b"1" + b"}" * MAX_NESTING
    assert JsonObjectReader().receive(deepest) is not None
    assert PrefixedJsonReader().receive(varint.encode(len(deepest)) + deepest) is not None
    deeper = b'{"a":' + deepest + b"}"
    with pytest.raises(DecodeError, match="nested"):
        JsonObjectReader().receive(deeper)
    with pytest.raises(DecodeError, match="nested"):
        PrefixedJsonReader().receive(varint.encode(len(deeper)) + deeper)


def test_brackets_inside_of_texts_are_no_nesting() -> None:
    message = {"a": "[{" * 40, "b": [{}] * 40}
    assert PrefixedJsonReader().receive(encode_prefixed(message)) == message
    assert JsonObjectReader().receive(encode_compact(message)) == message


def test_prefixed_messages_one_after_the_other() -> None:
    data = encode_prefixed({"status": "dialing"}) + encode_prefixed({"status": "ok"}) + b"payload"
    reader = PrefixedJsonReader()
    assert reader.receive(data) == {"status": "dialing"}
    assert reader.receive(b"") == {"status": "ok"}
    assert reader.surplus == b"payload"


@pytest.mark.parametrize("data", ["00", "0161", "025b5d", "8120", "8000", "ff" * 9, "05" + b'{"a"}'.hex()])
def test_broken_prefixed_messages(data: str) -> None:
    for chunks in ([bytes.fromhex(data)], byte_by_byte(bytes.fromhex(data))):
        with pytest.raises(DecodeError):
            feed(PrefixedJsonReader(), chunks)


def test_prefixed_length_is_refused_before_the_body() -> None:
    assert PrefixedJsonReader(5000).receive(varint.encode(5000)) is None
    with pytest.raises(DecodeError, match="exceeds 4096"):
        PrefixedJsonReader().receive(varint.encode(4097))
    with pytest.raises(ValueError, match="exceeds 4096"):
        encode_prefixed({"a": "x" * 4096})


def test_text_field() -> None:
    assert text_field({"a": "b"}, "a") == "b"
    assert text_field({"a": None}, "a") == text_field({}, "a") == ""
    for value in (1, True, [], {}):
        with pytest.raises(DecodeError, match="'a'"):
            text_field({"a": value}, "a")


def test_half_a_surrogate_pair_can_be_sent() -> None:
    assert encode_compact({"a": "\ud800"}) == b'{"a":"?"}'


@given(OBJECTS, st.binary(max_size=50), CUTS)
def test_any_chunking_reads_the_same(message: dict[str, Any], payload: bytes, cuts: list[int]) -> None:
    reader = JsonObjectReader()
    assert feed(reader, cut(encode_compact(message) + b"\n" + payload, cuts)) == message
    assert reader.surplus == payload
    prefixed = PrefixedJsonReader()
    found = [
        part for chunk in cut(encode_prefixed(message), cuts) if (part := prefixed.receive(chunk)) is not None
    ]
    assert found == [message]
    assert prefixed.surplus == b""


@given(OBJECTS)
def test_what_the_standard_library_writes_is_read(message: dict[str, Any]) -> None:
    for text in (json.dumps(message), json.dumps(message, indent=2, ensure_ascii=False)):
        assert JsonObjectReader().receive(text.encode()) == message


@given(st.one_of(st.binary(max_size=60), st.text('{}[]":\\a1, ', max_size=60).map(str.encode)), CUTS)
def test_random_bytes_only_raise_decode_errors(data: bytes, cuts: list[int]) -> None:
    for candidate in (data, b"{" + data):
        for reader in (JsonObjectReader(), PrefixedJsonReader()):
            with contextlib.suppress(DecodeError):
                feed(reader, cut(candidate, cuts))
