"""What pydantic finds wrong with a station, in words for the person who wrote the file: expected, got, allowed."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic

from edge.cameras.address import EXPECTED
from edge.station.yaml_file import Document, Where

NAME = "1 to 60 letters, digits, spaces, '.', ':', '_' or '-', a letter or digit first"
# Texts that are not any text.
SPECIAL = {
    "source": EXPECTED,
    "pixel_format": "a name such as Mono8 or BayerRG8",
    "name": NAME,
    "host": "a host name or an IP address, without scheme and port",
    "chip": "a GPIO chip such as gpiochip0",
    "line": "the number of a GPIO line, or its name",
}
PLAIN: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
PLAIN[pydantic.SecretStr] = "text"


def complaints(error: pydantic.ValidationError, model: type[pydantic.BaseModel], document: Document) -> None:
    """Write everything that pydantic found into the document, each with its place."""
    for found in error.errors(include_url=False):
        where, annotation = _place(model, found["loc"])
        document.complain(where, _in_words(found, annotation, document, where))


def expected(annotation: Any) -> str:
    """What may stand at a place of this type: `a whole number, 1 to 60`, `one of fp32, int8`, `keys: file, keep`."""
    bare, limits = _unwrapped(annotation)
    if isinstance(bare, type) and issubclass(bare, pydantic.BaseModel):
        return f"keys: {', '.join(bare.model_fields)}"
    if get_origin(bare) is dict:
        return f"a name for each of: {expected(get_args(bare)[1])}"
    if get_origin(bare) is list:
        return f"a list{_length(limits)}, each item: {expected(get_args(bare)[0])}"
    choices = _choices(bare)
    if choices:
        return f"one of {', '.join(choices)}"
    return PLAIN.get(bare, "another value") + _range(limits)


def _in_words(found: Any, annotation: Any, document: Document, where: Where) -> str:
    kind = found["type"]
    if kind == "extra_forbidden":
        return _unknown_key(str(where[-1]), annotation)
    what = SPECIAL.get(str(where[-1]) if where else "") or expected(annotation)
    if kind == "missing":
        return f"is missing; expected {what}"
    if kind == "value_error":
        return str(found["ctx"]["error"])
    text = f"expected {what}; got {_got(found, document, where)}"
    if kind == "string_type" and document.shown(where) is not None:
        text += ", which YAML does not read as text: put it in quotes"
    return text


def _unknown_key(key: str, owner: type[pydantic.BaseModel]) -> str:
    near = difflib.get_close_matches(key, owner.model_fields, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"unknown key; {guess}allowed here: {', '.join(owner.model_fields)}"


def _got(found: Any, document: Document, where: Where) -> str:
    """The value as the file has it: what came from the environment is not shown."""
    shown, value = document.shown(where), document.get(*where)
    if shown is not None:
        return repr(shown) if isinstance(value, str) else shown
    return f"a list of {len(value)}" if isinstance(value, list) else "keys"


def _place(model: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> tuple[Where, Any]:
    """The keys of `loc` that are of the file, and the type there; of an unknown key, the model it stands in."""
    where: Where = ()
    annotation: Any = model
    for key in loc:
        bare, _ = _unwrapped(annotation)
        if isinstance(bare, type) and issubclass(bare, pydantic.BaseModel):
            if key not in bare.model_fields:
                return (*where, key), bare
            field = bare.model_fields[str(key)]
            annotation = Annotated[field.annotation, field] if field.metadata else field.annotation
        elif get_origin(bare) is dict and isinstance(key, str) and key != "[key]":
            annotation = get_args(bare)[1]
        elif get_origin(bare) is list and isinstance(key, int):
            annotation = get_args(bare)[0]
        else:  # a branch of a union, which is no key
            break
        where = (*where, key)
    return where, annotation


def _unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """The type inside Annotated and `| None`, and the limits found on the way."""
    limits: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            for each in more:
                limits += each.metadata if isinstance(each, pydantic.fields.FieldInfo) else [each]
            continue
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) == 1 and len(get_args(annotation)) == 2:  # X | None
            annotation = parts[0]
            continue
        return annotation, limits


def _choices(annotation: Any) -> list[str]:
    """Values of a Literal, or of a union of them."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _length(limits: list[Any]) -> str:
    low = next((limit.min_length for limit in limits if hasattr(limit, "min_length")), None)
    high = next((limit.max_length for limit in limits if hasattr(limit, "max_length")), None)
    if high is None:
        return f" of {low} or more" if low else ""
    return f" of {high}" if low == high else f" of {low or 0} to {high}"


def _range(limits: list[Any]) -> str:
    low, above, high = (
        next((getattr(limit, key) for limit in limits if getattr(limit, key, None) is not None), None)
        for key in ("ge", "gt", "le")
    )
    if above is not None:
        return f", more than {above:.9g}" + ("" if high is None else f", {high:.9g} at most")
    if low is not None:
        return f", {low:.9g} or more" if high is None else f", {low:.9g} to {high:.9g}"
    return "" if high is None else f", {high:.9g} at most"
