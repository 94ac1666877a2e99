"""What may be asked for by POST: bodies, checked."""

from __future__ import annotations

from typing import Annotated, TypeVar

import pydantic

from edge.errors import UsageError

Text = Annotated[str, pydantic.Field(min_length=1, max_length=200)]


class Wish(pydantic.BaseModel):
    """Unknown keys and wrong types are errors."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class NoWish(Wish):
    """Nothing to say."""


class PauseWish(Wish):
    """reason: shown to everybody while it is paused."""

    reason: Text | None = None


class TriggerWish(Wish):
    """camera: every triggered one when absent. part_id: stands in the record."""

    camera: Text | None = None
    part_id: Text | None = None


class MasterWish(Wish):
    """name: of a master part."""

    name: Text


class EnrolmentWish(Wish):
    """Rejects by their `result_id`, and the name of their class."""

    name: str = pydantic.Field(max_length=200)
    result_ids: list[Text] = pydantic.Field(min_length=1, max_length=100)


class ConfirmWish(Wish):
    """draft_id: what the preview answered."""

    draft_id: Text


W = TypeVar("W", bound=Wish)


def wish_of(content: bytes, kind: type[W]) -> W:
    """A body of JSON, or nothing where nothing needs to be said; UsageError says what is wrong with it."""
    try:
        return kind.model_validate_json(content or b"{}")
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        expected = f"JSON with {', '.join(kind.model_fields)}" if kind.model_fields else "an empty body"
        raise UsageError(f"{where}: {first['msg']}; expected {expected}") from exc
