"""The registers and bits of a station as a PLC addresses them. The tables of docs/modbus.md are these.

Addresses are those of the protocol, from 0; some tools count from 1 and write register 0 as 30001 or 40001.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["uint16", "uint32", "float32", "text"]
WordOrder = Literal["big", "little"]
Value = int | float | str

MAP_VERSION = 1
MIRROR = 100  # holding register 100 + n reads as input register n, for PLCs that read holding registers alone
PART_ID_REGISTERS, RESULT_ID_REGISTERS = 16, 18
NO_CLASS, OTHER_CLASS, UNKNOWN_CLASS = 0, 0xFFFE, 0xFFFF
VERDICT_CODES = {"good": 1, "defect": 2, "no_verdict": 3}
NO_SCORE = -1.0
_SIZES: dict[Kind, int] = {"uint16": 1, "uint32": 2, "float32": 2}
_LARGEST_FLOAT32 = 3.4028234663852886e38


@dataclass(frozen=True)
class Register:
    """One value. address: of its first register. registers: how many it takes."""

    address: int
    name: str
    kind: Kind = "uint16"
    text_registers: int = 0

    @property
    def registers(self) -> int:
        """16 bits each."""
        return self.text_registers or _SIZES[self.kind]


# Coil n, and bit n of holding register 0. Written by the PLC.
COMMAND_BITS = ("trigger_enable", "trigger", "results_ack", "set_offline", "set_online", "clear_error", "plc_heartbeat")

# Discrete input n, and bit n of input register 0.
STATUS_BITS = (
    "online",
    "trigger_ready",
    "trigger_ack",
    "missed_acquisition",
    "system_busy",
    "results_valid",
    "results_overrun",
    "pass",
    "fail",
    "unknown",
    "no_verdict",
    "heartbeat",
    "fault",
    "error",
)

# Written by the PLC.
HOLDING_REGISTERS = (Register(0, "command"), Register(1, "part_id", "text", PART_ID_REGISTERS))

INPUT_REGISTERS = (
    Register(0, "status"),
    Register(1, "acquisition_id"),
    Register(2, "result_acquisition_id"),
    Register(3, "result_number"),
    Register(4, "verdict"),
    Register(5, "class_code"),
    Register(6, "anomaly_score", "float32"),
    Register(8, "threshold", "float32"),
    Register(10, "age_ms"),
    Register(11, "latency_ms"),
    Register(12, "results_waiting"),
    Register(13, "error_code"),
    Register(14, "heartbeat_count"),
    Register(15, "missed_count"),
    Register(16, "overrun_count"),
    Register(17, "void_count"),
    Register(18, "good_count", "uint32"),
    Register(20, "defect_count", "uint32"),
    Register(22, "no_verdict_count", "uint32"),
    Register(24, "latest_number"),
    Register(25, "latest_camera"),
    Register(26, "latest_verdict"),
    Register(27, "latest_class_code"),
    Register(28, "latest_anomaly_score", "float32"),
    Register(30, "latest_threshold", "float32"),
    Register(32, "latest_age_ms", "uint32"),
    Register(34, "map_version"),
    Register(40, "result_part_id", "text", PART_ID_REGISTERS),
    Register(56, "result_id", "text", RESULT_ID_REGISTERS),
)
INPUT_COUNT = INPUT_REGISTERS[-1].address + INPUT_REGISTERS[-1].registers
HOLDING_COUNT = HOLDING_REGISTERS[-1].address + HOLDING_REGISTERS[-1].registers


def words_of(values: Mapping[str, Value], word_order: WordOrder) -> list[int]:
    """Every input register; the gaps between values read 0. values: one for each name."""
    words = [0] * INPUT_COUNT
    for register in INPUT_REGISTERS:
        encoded = _encoded(register, values[register.name], word_order)
        words[register.address : register.address + register.registers] = encoded
    return words


def bits_of(word: int, names: Sequence[str]) -> dict[str, bool]:
    """Bits of a word by name, the lowest first."""
    return {name: bool(word >> number & 1) for number, name in enumerate(names)}


def word_of(bits: Mapping[str, bool], names: Sequence[str]) -> int:
    """The other way round."""
    return sum(bits[name] << number for number, name in enumerate(names))


def text_of(words: Sequence[int]) -> str:
    """Two characters a register, the first in the high byte, up to the first zero; what cannot be shown is a `?`."""
    text = struct.pack(f">{len(words)}H", *words).split(b"\0")[0].decode("utf-8", "replace")
    return "".join(c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else "?" for c in text).strip()


def number_of(words: Sequence[int], word_order: WordOrder) -> int:
    """A uint32 in two registers."""
    high, low = words[:2] if word_order == "big" else words[1::-1]
    return high << 16 | low


def _encoded(register: Register, value: Value, word_order: WordOrder) -> list[int]:
    if register.kind == "text":
        return _text_words(str(value), register.registers)
    if register.kind == "uint16":
        return [_limited(value, 0xFFFF)]
    if register.kind == "uint32":
        words = list(struct.unpack(">HH", struct.pack(">I", _limited(value, 0xFFFFFFFF))))
    else:
        limited = max(-_LARGEST_FLOAT32, min(_LARGEST_FLOAT32, float(value)))
        words = list(struct.unpack(">HH", struct.pack(">f", limited)))
    return words if word_order == "big" else words[::-1]


def _limited(value: Value, most: int) -> int:
    """What is too large is shown as the largest, never as something small."""
    return round(max(0, min(most, float(value))))


def _text_words(text: str, registers: int) -> list[int]:
    content = text.encode()[: 2 * registers].ljust(2 * registers, b"\0")
    return list(struct.unpack(f">{registers}H", content))
