import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bethrou.config import yaml_text
from bethrou.config.yaml_text import read_yaml
from bethrou.errors import ConfigError


@pytest.fixture(params=[yaml.SafeLoader, yaml.CSafeLoader], ids=["python", "libyaml"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "_LOADER", request.param)


def test_scalars_stay_text() -> None:
    text = "a: 0123\nb: no\nc: '~'\nd: ~\ne:\nf: ''\ng: 12:30:45\nh: !!str null\ni: [1, 2.50]\nj: {k: v}\n"
    assert read_yaml(text) == {
        "a": "0123",
        "b": "no",
        "c": "~",
        "d": None,
        "e": None,
        "f": "",
        "g": "12:30:45",
        "h": "null",
        "i": ["1", "2.50"],
        "j": {"k": "v"},
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "--- ~\n...\n"])
def test_nothing_is_none(text: str) -> None:
    assert read_yaml(text) is None


def test_line_ends_of_other_systems_are_fine() -> None:
    assert read_yaml("a: 1\r\nb:\r\n  - 2\r\n") == {"a": "1", "b": ["2"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: c: d\n", "line 2: not valid YAML"),
        ("a: 1\na: 2\n", 'line 2: the key "a" is given twice'),
        ("a:\n\t- b\n", "line 2: not valid YAML: indent with spaces, not with tabs"),
        ("a: &x [1]\nb: *x\n", "line 2: YAML aliases are not supported"),
        ("a: 1\nb: !!python/object:os.system x\n", "line 2: YAML tags are not supported"),
        ("a: 1\n---\nb: 2\n", "line 2: a second YAML document"),
        ("a: 1\n\x01: 2\n", "line 2: a control character"),
        ("? [a, b]\n: c\n", "line 1: a key must be a word"),
        ("a: 'b\n", "not valid YAML"),
        ("a: [1\nb: 2\n", "line 2: not valid YAML"),
    ],
)
def test_what_is_refused_names_its_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "value", ["*hunter2", "!hunter2", "!hunter!2", "%hunter2", "@hunter2", '"\\hunter2"']
)
def test_a_badly_quoted_password_is_not_repeated(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(f"server:\n  pass: {value}\n")
    assert "unter" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 500_000, "a: " + "{b: " * 200_000, "- " * 400_000])
def test_deep_nesting_is_refused_at_once(text: str) -> None:
    # libyaml takes minutes for a whole text of this kind.
    with pytest.raises(ConfigError, match="levels deep"):
        read_yaml(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        read_yaml(text)
    except ConfigError as error:
        assert str(error).isprintable()
