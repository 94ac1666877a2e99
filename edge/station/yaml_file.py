"""A YAML file as plain data that knows its lines. The only file that imports yaml.

Stricter than YAML: a key twice, a key without a value, anchors and several documents are mistakes in a station file,
not features. `${NAME}` in a text is taken from the environment, `$${NAME}` stands for itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edge.cameras.address import redacted

Where = tuple[str | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
_SHOWN_CHARACTERS = 80
# Of such a key not even a wrong value is shown.
_SECRET_KEY = re.compile(r"(pas+w|pwd|secret|token|key$|credential)(?!.*_file$)", re.IGNORECASE)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # what "\\ud800" in quotes stands for
_VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong. where: the keys that lead there; column: from 1, for text that is no YAML."""

    line: int
    column: int | None = field(default=None, compare=False)
    where: Where = field(default=(), compare=False)
    text: str = ""

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}" if self.column else str(self.line)
        return f"{place}: {dotted(self.where)}: {self.text}" if self.where else f"{place}: {self.text}"


@dataclass
class Document:
    """What a file holds. data: dicts, lists and values; of a wrong value only its problem. folder: that of the file."""

    data: Any = None
    folder: Path = field(default_factory=Path)
    problems: list[Problem] = field(default_factory=list)
    _lines: dict[Where, int] = field(default_factory=dict)
    _texts: dict[Where, str] = field(default_factory=dict)

    def line(self, where: Where) -> int:
        """The line of a key, or of the nearest one around it."""
        while where and where not in self._lines:
            where = where[:-1]
        return self._lines.get(where, 1)

    def shown(self, where: Where) -> str | None:
        """A value as it stands in the file: variables not filled in, passwords hidden. None for keys and lists."""
        text = self._texts.get(where)
        if text is None:
            return None
        shown = "***" if where and _SECRET_KEY.search(str(where[-1])) else hidden(text)
        return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."

    def complain(self, where: Where, text: str) -> None:
        """One more problem, unless something is wrong there already."""
        if self.is_sound(where):
            self.problems.append(Problem(self.line(where), None, where, text))

    def is_sound(self, where: Where) -> bool:
        """Whether nothing is known to be wrong with this very value."""
        return all(problem.where != where for problem in self.problems)

    def path(self, where: Where) -> Path | None:
        """The path that a sound text there means; None when there is none."""
        value = self.get(*where)
        return self.folder / value if isinstance(value, str) and self.is_sound(where) else None

    def get(self, *where: str | int) -> Any:
        """The value there, of whatever type; None when there is none."""
        value = self.data
        for key in where:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def dotted(where: Where) -> str:
    """`("cameras", 0, "source")` -> `cameras[0].source`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{hidden(key)}" for key in where).removeprefix(".")


def hidden(text: str) -> str:
    """Text without the password of an address in it; where a space or colon is missing, one may stand in a key."""
    address = _ADDRESS.search(text)
    return text[: address.start()] + redacted(text[address.start() :]) if address else redacted(text)


def read_yaml(path: Path) -> Document:
    """Read and parse; what is wrong with the text is in `problems`. OSError when there is no such file."""
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        return Document(problems=[Problem(1, text=f"longer than {MAX_BYTES} bytes; this is no station file")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return Document(problems=[Problem(content.count(b"\n", 0, exc.start) + 1, text="not UTF-8 text")])
    document = parse_yaml(text)
    document.folder = path.absolute().parent
    return document


def parse_yaml(text: str) -> Document:
    """YAML text -> data with lines; never raises."""
    try:
        problems = list(_forbidden(text))
        root = None if problems else yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        return Document(problems=[_syntax_problem(exc)])
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        return Document(problems=[Problem(line, text=f"a character that YAML does not allow: U+{exc.character:04X}")])
    if root is None:
        return Document(problems=problems or [Problem(1, text="the file is empty")])
    document = Document()
    reader = _Reader(document)
    document.data = reader.value(root, ())
    return document


def _forbidden(text: str) -> Iterator[Problem]:
    """What YAML has and a station file may not: one document, no anchors, no deep nesting (which could be endless)."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.AliasEvent):
            yield Problem(line, column, text="'*' refers to another place; write the value out, or put it in quotes")
        if isinstance(event, yaml.ScalarEvent) and (found := _HALF_A_CHARACTER.search(event.value)):
            yield Problem(line, column, text=f"half a character, which no text may hold: U+{ord(found[0]):04X}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            yield Problem(line, column, text=f"nested more than {MAX_DEPTH} deep")
            return
        if documents > 1:
            yield Problem(line, column, text="a second document begins; one file describes one station")
            return


def _syntax_problem(exc: yaml.MarkedYAMLError) -> Problem:
    mark = exc.problem_mark or exc.context_mark
    text = f"not YAML: {exc.problem or exc.context}".replace("\n", " ")
    if "tag" in text:  # it quotes the text after '!', which may be a password
        text = "not YAML: '!' begins a tag; put text that begins with it in quotes"
    if r"'\t'" in text:
        text += "; indent with spaces"
    elif "mapping values are not allowed" in text:
        text += "; is the indentation right, and text with ': ' in quotes?"
    return Problem(mark.line + 1, mark.column + 1, text=text) if mark else Problem(1, text=text)


class _Reader:
    """Turns nodes into values, and writes lines, texts and problems into the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._loader = yaml.SafeLoader("")

    def value(self, node: yaml.Node, where: Where) -> Any:
        """The plain value of a node. where: keys that lead to it."""
        self._document._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, where) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.problems.append(Problem(line, text="a key must be a plain word"))
                continue
            key, place = key_node.value, (*where, key_node.value)
            if place in self._document._lines:
                first = self._document._lines[place]
                text = f"{dotted(place)}: is given twice, first in line {first}"
                self._document.problems.append(Problem(line, text=text))
                continue
            self._document._lines[place] = line
            value = self.value(value_node, place)
            if value is None:
                self._document.complain(place, "has no value; give it one, or leave the key out for its default")
            else:
                found[key] = value
        return found

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        self._document._texts[where] = node.value
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):  # a tag nobody knows, or a date like 2026-13-45
            self._document.complain(where, "cannot be read as a value; put it in quotes if it is text")
            return node.value
        return self._filled_in(value, where) if isinstance(value, str) else value

    def _filled_in(self, text: str, where: Where) -> str:
        """Variables of the environment in place of their names."""

        def fill_in(match: re.Match[str]) -> str:
            escaped, name = match.groups()
            if escaped:
                return match[0][1:]
            if name not in os.environ:
                self._document.complain(where, f"the environment has no variable {name}")
            return os.environ.get(name, match[0])

        return _VARIABLE.sub(fill_in, text)
