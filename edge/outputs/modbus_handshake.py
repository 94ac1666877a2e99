"""The handshake between a PLC and the station as a state machine: no sockets, no threads, no clock of its own.

    trigger  trigger_ready -> the PLC raises `trigger` -> trigger_ack -> it lowers `trigger` -> trigger_ack falls
    result   results_valid -> the PLC raises `results_ack` -> results_valid falls -> it lowers `results_ack`

Times are seconds of one clock that only goes forward. Whoever calls does so from one thread at a time. A part is shown
as good while its result is valid and at no other moment, see `shown`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from edge.outputs.modbus_result import PlcResult, worst
from edge.outputs.modbus_signals import Around, Commands, Limits, Shown, Trouble, Wish

MOST_WAITING = 8  # results that wait for the PLC's acknowledgement
MOST_IN_FLIGHT = 8  # triggers without a result
BEAT_S = 0.5  # between changes of the heartbeat bit: slow enough for a PLC that polls


@dataclass
class _Flight:
    """A trigger on its way. cameras: those that have not answered."""

    cameras: set[str]
    since_s: float
    part_id: str | None
    results: list[PlcResult] = field(default_factory=list)


class Handshake:
    """Both sides of it. The PLC gives `command`, the loop `came_round` and `record`; the PLC reads `shown`.

    takes_foreign: the results of triggers that others gave are for the PLC too.
    """

    def __init__(self, limits: Limits, takes_foreign: bool = False) -> None:
        self._limits, self._takes_foreign = limits, takes_foreign
        self._commands = Commands()
        self._ack = False
        self._trigger_id: int | None = None
        self._results = self._rounds = self._missed = self._overruns = self._voided = 0
        self._in_flight: dict[int, _Flight] = {}  # by trigger, the oldest first
        self._waiting: deque[PlcResult] = deque()
        self._read_number: int | None = None  # of the result that was valid when the PLC last read
        self._round_s: float | None = None
        self._beat, self._beat_s = False, float("-inf")
        self._plc_s: float | None = None
        self._is_stalled = False
        self._trouble, self._troubles = Trouble.NONE, set[Trouble]()
        self._news: list[tuple[Trouble, str]] = []

    # --- the PLC

    def command(self, commands: Commands, around: Around, now_s: float) -> list[Wish]:
        """The PLC has written. After the wish `trigger` comes a call of `accepted` or of `missed`."""
        self._advance(now_s)
        risen = commands.risen(self._commands)
        self._commands, self._plc_s = commands, now_s
        self._ack = self._ack and commands.trigger
        if "clear_error" in risen:
            self._trouble, self._troubles = Trouble.NONE, set()
        if "results_ack" in risen and self._waiting and self._waiting[0].number == self._read_number:
            self._waiting.popleft()  # otherwise it means one that a stall has voided: this one was never read
        wishes: list[Wish] = []
        if "set_offline" in risen:
            wishes.append("pause")
        elif "set_online" in risen and not commands.set_offline:
            wishes.append("arm")
        if "trigger" in risen:
            refusal = "set offline with it" if "pause" in wishes else self._refusal(around)
            if refusal is None:
                wishes.append("trigger")
            else:
                self.missed(refusal)
        return wishes

    def accepted(self, trigger_id: int, cameras: Collection[str], part_id: str | None, now_s: float) -> None:
        """The station has taken the trigger; each of these cameras will give one record of it."""
        self._ack, self._trigger_id = self._commands.trigger, trigger_id
        self._in_flight[trigger_id] = _Flight(set(cameras), now_s, part_id)

    def missed(self, why: str) -> None:
        """The station has not taken the trigger."""
        self._missed += 1
        self.fail(Trouble.MISSED, why)

    def shown(self, around: Around, now_s: float) -> Shown:
        """Everything at this moment, for the PLC to read. Without a living loop nothing is ready, valid or good."""
        self._advance(now_s)
        if self._is_valid:
            self._read_number = self._waiting[0].number
        return Shown(
            online=self._is_alive and around.is_armed,
            trigger_ready=self._refusal(around) is None and not self._commands.trigger,
            trigger_ack=self._ack,
            missed_acquisition=Trouble.MISSED in self._troubles,
            system_busy=bool(self._in_flight),
            results_overrun=Trouble.OVERRUN in self._troubles,
            heartbeat=self._beat,
            fault=not self._is_alive or around.has_fault or Trouble.PLC_SILENT in self._troubles,
            trigger_id=self._trigger_id,
            result=self._waiting[0] if self._is_valid else None,
            results_waiting=len(self._waiting),
            trouble=self._trouble,
            rounds=self._rounds,
            missed=self._missed,
            overruns=self._overruns,
            voided=self._voided,
        )

    # --- the loop

    def came_round(self, now_s: float) -> None:
        """The loop lives."""
        self._advance(now_s)
        self._round_s, self._is_stalled = now_s, False
        self._rounds += 1
        if now_s - self._beat_s >= BEAT_S:
            self._beat, self._beat_s = not self._beat, now_s

    def record(self, camera: str, result: PlcResult, now_s: float) -> None:
        """A record of a trigger was written. Of the PLC's triggers only those that are still waited for count."""
        self._advance(now_s)
        if result.is_foreign:
            if self._takes_foreign and self._is_alive:
                self._put(result)
            return
        flight = self._in_flight.get(result.trigger_id or 0)
        if flight is None or camera not in flight.cameras:
            return
        flight.cameras.remove(camera)
        flight.results.append(result)
        if not flight.cameras:
            del self._in_flight[result.trigger_id or 0]
            self._put(worst(flight.results))

    # --- time

    def tick(self, now_s: float) -> list[Wish]:
        """Some time has passed: called several times a second, whatever else happens."""
        self._advance(now_s)
        limit_s = self._limits.plc_timeout_s
        if limit_s is None or self._plc_s is None or now_s - self._plc_s <= limit_s:
            return []
        self._plc_s = None  # once, until it writes again
        self.fail(Trouble.PLC_SILENT)
        return ["pause"]

    def fail(self, trouble: Trouble, why: str = "") -> None:
        """Something went wrong; it stays until the PLC clears it."""
        if trouble not in self._troubles:
            self._news.append((trouble, why))
        self._troubles.add(trouble)
        self._trouble = trouble

    def take_news(self) -> list[tuple[Trouble, str]]:
        """What a person should hear of, and why it was; each once until the PLC clears it."""
        news, self._news = self._news, []
        return news

    # --- inside

    @property
    def _is_alive(self) -> bool:
        return self._round_s is not None and not self._is_stalled

    @property
    def _is_valid(self) -> bool:
        return bool(self._waiting) and not self._commands.results_ack

    def _refusal(self, around: Around) -> str | None:
        """Why a trigger cannot be taken, None when it can.

        A camera in trouble takes triggers: each gets its record, and a dark picture ends with the next one.
        """
        if not self._is_alive:
            return "the loop stands still"
        if not around.is_armed:
            return "the station is paused"
        if not around.takes_triggers:
            return "no camera takes triggers"
        if around.silent_cameras:  # its part of the verdict would be missing
            return f"{', '.join(around.silent_cameras)} takes no triggers: not open yet, or ended"
        if not self._commands.trigger_enable:
            return "trigger_enable is not set"
        return f"{MOST_IN_FLIGHT} triggers are under way" if len(self._in_flight) >= MOST_IN_FLIGHT else None

    def _advance(self, now_s: float) -> None:
        """Bring the state up to `now_s`: a loop that has stalled, triggers that nobody answered."""
        if self._round_s is not None and not self._is_stalled and now_s - self._round_s > self._limits.stall_after_s:
            self._is_stalled = True
            self._void()
            self.fail(Trouble.STALLED)
        while self._in_flight:
            trigger_id, flight = next(iter(self._in_flight.items()))
            if now_s - flight.since_s <= self._limits.answer_within_s:
                return
            del self._in_flight[trigger_id]
            self.fail(Trouble.UNANSWERED, ", ".join(sorted(flight.cameras)))
            waited_ms = (now_s - flight.since_s) * 1e3
            self._put(PlcResult("no_verdict", trigger_id, latency_ms=waited_ms, part_id=flight.part_id))

    def _void(self) -> None:
        """No part from before a stall gets a verdict after it: nobody could say any more which part that was."""
        self._voided += len(self._in_flight) + len(self._waiting)
        self._in_flight.clear()
        self._waiting.clear()

    def _put(self, result: PlcResult) -> None:
        self._results += 1
        has_room = len(self._waiting) < MOST_WAITING
        if has_room:
            self._waiting.append(replace(result, number=self._results))
        if result.is_overrun or not has_room:
            self._overruns += 1
            self.fail(Trouble.OVERRUN)
