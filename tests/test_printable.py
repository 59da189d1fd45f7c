import pytest
from hypothesis import given
from hypothesis import strategies as st

from bethrou.printable import printable, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("example.com", "example.com"),
        ("münchen.de", "münchen.de"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb", "a\\r\\nb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x9bb\x7f", "a\\x9bb\\x7f"),
        ("\ud800", "\\ud800"),
        ("it's", "it's"),
    ],
)
def test_unprintable_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut() -> None:
    assert printable("abcdef", 3) == "abc..."
    assert printable("abc", 3) == "abc"
    assert quoted("abcdef", 3) == '"abc"...'


def test_quotes_inside_are_escaped() -> None:
    assert quoted('a"b\\c') == '"a\\"b\\\\c"'


@given(st.text())
def test_whatever_comes_in_only_printable_text_comes_out(text: str) -> None:
    assert printable(text).isprintable()
    assert quoted(text).isprintable()
    if text.isprintable():
        assert printable(text) == text
