"""YAML that knows its lines: values, what YAML may do and a station file may not, variables, passwords."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.station.check import check_station
from edge.station.yaml_file import MAX_BYTES, dotted, parse_yaml, read_yaml


def texts(content: str) -> list[str]:
    return [str(problem) for problem in parse_yaml(content).problems]


def test_values_and_their_lines() -> None:
    document = parse_yaml(
        "name: press\n\ncameras:\n  - source: 0\n  # a comment\n  - {source: b, on: true}\nx: [1, 2.5]\n"
    )
    assert document.problems == []
    assert document.data == {
        "name": "press",
        "cameras": [{"source": 0}, {"source": "b", "on": True}],
        "x": [1, 2.5],
    }
    lines = {("name",): 1, ("cameras",): 3, ("cameras", 0): 4, ("cameras", 1, "on"): 6, ("x", 1): 7}
    assert {where: document.line(where) for where in lines} == lines
    assert document.line(("cameras", 1, "absent")) == 6
    assert document.line(("absent",)) == 1


def test_a_value_is_found_by_its_keys_and_nothing_by_others() -> None:
    document = parse_yaml("a: [{b: 1}]\ntext: abc")
    assert document.get("a", 0, "b") == 1
    assert [document.get(*w) for w in (("x",), ("a", 3), ("a", "b"), ("text", "b"), ("a", 0, "b", "c"))] == [None] * 5
    assert dotted(("a", 0, "b")) == "a[0].b"


WRONG = {
    "nothing": ("", "1: the file is empty"),
    "only a comment": ("# x\n", "1: the file is empty"),
    "colon in a text": ("a: b: c", "1:5: not YAML: mapping values are not allowed here; is the indentation right"),
    "tab": ("a:\n\tb: 1", "2:1: not YAML: found character '\\t' that cannot start any token; indent with spaces"),
    "open list": ("a: [1,\n", "2:1: not YAML: "),
    "open quote": ('a: "x\n', "2:1: not YAML: found unexpected end of stream"),
    "alias": ("a: &x 1\nb: *x", "2:4: '*' refers to another place"),
    "endless": ("a: &x [*x]", "1:8: '*' refers to another place"),
    "two documents": ("a: 1\n---\nb: 2", "2:1: a second document begins"),
    "deep": ("[" * 5000, "1:21: nested more than 20 deep"),
    "control character": ("a: 1\nb: \x01", "2: a character that YAML does not allow: U+0001"),
    "half a character": ('a: 1\nb: "\\ud800"', "2:4: half a character, which no text may hold: U+D800"),
    "half a character as key": ('"\\udfff": 1', "1:1: half a character, which no text may hold: U+DFFF"),
    "foreign tag": ("\na: !!python/object:os.system x", "2: a: cannot be read as a value"),
    "tag of nobody": ("a: !hunter2!x 1", "1:4: not YAML: '!' begins a tag; put text that begins with it in quotes"),
    "no such date": ("a: 2026-13-45", "1: a: cannot be read as a value; put it in quotes if it is text"),
    "a list as key": ("? [1]\n: 2", "1: a key must be a plain word"),
    "key twice": ("a: 1\nb: 2\na: 3", "3: a: is given twice, first in line 1"),
    "key twice below": ("c:\n  a: 1\n  a: 3", "3: c.a: is given twice, first in line 2"),
    "no value": ("b: 1\na:", "2: a: has no value; give it one, or leave the key out for its default"),
    "null": ("a: null", "1: a: has no value"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_with_its_place(case: str) -> None:
    content, expected = WRONG[case]
    (found,) = texts(content)
    assert found.startswith(expected)
    assert "\n" not in found


def test_files_that_are_no_text_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\nb: \xff")
    assert [str(p) for p in read_yaml(path).problems] == ["2: not UTF-8 text"]
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "no station file" in str(read_yaml(path).problems[0])
    path.write_bytes("\ufeffa: ä\n".encode())  # Windows editors begin files so
    document = read_yaml(path)
    assert (document.data, document.problems, document.folder) == ({"a": "ä"}, [], tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?, \n\t$0.~", max_size=40))
def test_no_text_raises(content: str) -> None:
    document = parse_yaml(content)
    assert all(1 <= problem.line <= content.count("\n") + 2 for problem in document.problems)


# --- variables and passwords


def test_variables_are_filled_in_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "0123: [${USER}")
    document = parse_yaml("a: rtsp://u:${PASSWORD}@c/1\nb: $${PASSWORD}\nc: $PASSWORD\nd: '${PASSWORD}'")
    value = "0123: [${USER}"
    assert document.data == {"a": f"rtsp://u:{value}@c/1", "b": "${PASSWORD}", "c": "$PASSWORD", "d": value}
    assert document.problems == []


def test_a_missing_variable_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert texts("x: 1\na: ${NOT_THERE}/b") == ["2: a: the environment has no variable NOT_THERE"]


def test_what_is_shown_hides_passwords_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    document = parse_yaml(f"a: rtsp://u:letmein@c/1\nb: ${{PASSWORD}}\npassword: letmein\nc: {'x' * 200}\nd: [1]")
    assert document.shown(("a",)) == "rtsp://u:***@c/1"
    assert document.shown(("b",)) == "${PASSWORD}"
    assert document.shown(("password",)) == "***"
    assert document.shown(("c",)) == "x" * 80 + "..."
    assert document.shown(("d",)) is None


@pytest.mark.parametrize(
    "content",
    [
        "cameras: [source:rtsp://u:hunter2@c/1]",
        "cameras:\n  - source:rtsp://u:hunter2@c/1",
        "rtsp://u:hunter2@c/1: x",
        "rtsp://u:hunter2@c/1:",
        "bundle: 1\nbundle: rtsp://u:hunter2@c/1: x",
        "password: !hunter2! x",
        "password: !hunter2 x",
        "token: [hunter2",
        "max_frames: rtsp://u:hunter2@c/1",
    ],
)
def test_a_slip_of_the_pen_does_not_show_a_password(content: str, tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text(content)
    lines = check_station(path).lines()
    assert lines
    assert "hunter2" not in "".join(lines)
