"""The register map: what docs/modbus.md says is what the code does."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from edge.outputs.modbus import ModbusOutput
from edge.outputs.modbus_map import (
    COMMAND_BITS,
    HOLDING_REGISTERS,
    INPUT_COUNT,
    INPUT_REGISTERS,
    MAP_VERSION,
    STATUS_BITS,
    VERDICT_CODES,
    Register,
    Value,
    WordOrder,
    bits_of,
    number_of,
    text_of,
    word_of,
    words_of,
)
from edge.outputs.modbus_signals import Commands, Trouble
from edge.station.check import check_station

PAGE = Path(__file__).resolve().parents[2] / "docs" / "modbus.md"


def table(first_column: str) -> list[list[str]]:
    """Cells of the table that begins with this column, without backticks."""
    _, _, after = PAGE.read_text("utf-8").partition(f"\n| {first_column} |")
    rows = [line for line in after.split("\n\n")[0].splitlines()[2:] if line.startswith("|")]
    assert rows
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def as_documented(register: Register) -> list[str]:
    kind = f"text, {register.registers} registers" if register.kind == "text" else register.kind
    return [str(register.address), register.name, kind]


@pytest.mark.parametrize(("title", "names"), [("coil", COMMAND_BITS), ("discrete input", STATUS_BITS)])
def test_every_bit_is_documented_at_its_address(title: str, names: tuple[str, ...]) -> None:
    assert [row[:2] for row in table(title)] == [[str(number), name] for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("title", "registers"), [("holding register", HOLDING_REGISTERS), ("input register", INPUT_REGISTERS)]
)
def test_every_register_is_documented_at_its_address(title: str, registers: tuple[Register, ...]) -> None:
    assert [row[:3] for row in table(title)] == [as_documented(register) for register in registers]


def test_every_code_is_documented() -> None:
    assert [int(row[0]) for row in table("verdict")] == sorted(VERDICT_CODES.values())
    assert [row[:2] for row in table("error code")] == [[str(each.value), each.name.lower()] for each in Trouble]
    (version,) = [row[3] for row in table("input register") if row[1] == "map_version"]
    assert int(version) == MAP_VERSION


def test_every_setting_is_documented() -> None:
    named = {name for row in table("setting") for name in row[0].split(", ")}
    assert named == set(ModbusOutput.model_fields)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    assert f"One request of {INPUT_COUNT} registers reads everything" in text
    assert f"`In` are input registers 0 to {INPUT_COUNT - 1}" in text


def test_no_two_values_overlap_and_one_request_reads_everything() -> None:
    for registers in (INPUT_REGISTERS, HOLDING_REGISTERS):
        taken = [address for r in registers for address in range(r.address, r.address + r.registers)]
        assert len(taken) == len(set(taken))
    assert INPUT_COUNT <= 125  # the most that one request may ask for


def test_commands_are_named_as_in_the_map() -> None:
    assert tuple(Commands.__dataclass_fields__) == COMMAND_BITS


def encoded(word_order: WordOrder = "big", **given: Value) -> list[int]:
    values: dict[str, Value] = {r.name: "" if r.kind == "text" else 0 for r in INPUT_REGISTERS}
    return words_of(values | given, word_order)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from(["big", "little"]))
def test_floats_come_back_in_either_order(value: float, word_order: WordOrder) -> None:
    words = encoded(word_order, anomaly_score=value)[6:8]
    packed = struct.pack(">HH", *(words if word_order == "big" else words[::-1]))
    assert struct.unpack(">f", packed) == (value,)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["big", "little"]))
def test_large_numbers_come_back_in_either_order(value: int, word_order: WordOrder) -> None:
    assert number_of(encoded(word_order, good_count=value)[18:20], word_order) == value


@given(st.floats(allow_nan=False) | st.integers())
def test_whatever_is_too_large_or_too_small_stays_in_its_register(value: float) -> None:
    words = encoded(age_ms=value, latest_age_ms=value, threshold=value)
    assert all(0 <= word <= 0xFFFF for word in words)
    assert (words[10] == 0xFFFF) == (value >= 65534.5)


@given(st.text(max_size=40))
def test_text_is_cut_to_its_registers_and_never_runs_into_the_next(text: str) -> None:
    words = encoded(result_part_id=text, result_id="\uffff" * 30)
    assert words[56] == 0xEFBF
    content = struct.pack(">16H", *words[40:56])
    assert text.encode()[:32].ljust(32, b"\0") == content


@given(st.lists(st.integers(0, 0xFFFF), min_size=16, max_size=16))
def test_whatever_a_plc_writes_becomes_one_line_of_text(words: list[int]) -> None:
    text = text_of(words)
    assert text == text.strip()
    text.encode()
    assert all(character.isprintable() for character in text)


@given(st.integers(0, 2 ** len(STATUS_BITS) - 1))
def test_bits_and_words_are_the_same(word: int) -> None:
    assert word_of(bits_of(word, STATUS_BITS), STATUS_BITS) == word


def test_the_example_is_right(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    (tmp_path / "station.yaml").write_text("bundle: bundle\n" + example)
    assert check_station(tmp_path / "station.yaml", look_around=False).problems == []
