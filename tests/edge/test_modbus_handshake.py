"""The handshake with a PLC, by hand and by hypothesis, without a socket or a clock."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.outputs.modbus_handshake import BEAT_S, MOST_IN_FLIGHT, MOST_WAITING, Handshake
from edge.outputs.modbus_result import PlcResult, worst
from edge.outputs.modbus_signals import Around, Commands, Limits, Shown, Trouble
from edge.result import Verdict

AROUND = Around()
LIMITS = Limits(stall_after_s=1.0, answer_within_s=10.0, plc_timeout_s=3.0)


class Line:
    """A PLC and a station around a handshake, on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.handshake, self.now_s, self.commands, self.triggers = Handshake(LIMITS), 100.0, Commands(), 0
        self.around = AROUND
        self.round()

    def round(self, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.handshake.came_round(self.now_s)

    def wait(self, seconds: float) -> None:
        """Time passes and the loop lives."""
        for _ in range(round(seconds / 0.5)):
            self.round(0.5)

    def plc(self, **bits: bool) -> list[str]:
        """Write some commands; a trigger that is wished for is taken."""
        self.commands = replace(self.commands, **bits)
        wishes = self.handshake.command(self.commands, self.around, self.now_s)
        if "trigger" in wishes:
            self.triggers += 1
            self.handshake.accepted(self.triggers, ["camera"], f"part {self.triggers}", self.now_s)
        return list(wishes)

    def part(self, verdict: Verdict = "good") -> None:
        """A trigger, taken and answered."""
        self.plc(trigger=True)
        self.plc(trigger=False)
        self.judge(self.triggers, verdict)

    def judge(self, trigger_id: int, verdict: Verdict = "good", camera: str = "camera") -> None:
        self.handshake.record(camera, PlcResult(verdict, trigger_id), self.now_s)

    @property
    def seen(self) -> Shown:
        return self.handshake.shown(self.around, self.now_s)

    def acknowledge(self) -> PlcResult:
        result = self.seen.result
        assert result
        self.plc(results_ack=True)
        assert not self.seen.results_valid
        self.plc(results_ack=False)
        return result


@pytest.fixture
def line() -> Line:
    line = Line()
    line.plc(trigger_enable=True)
    return line


# --- trigger and result


def test_a_part_goes_through_step_by_step(line: Line) -> None:
    assert (line.seen.online, line.seen.trigger_ready, line.seen.trigger_ack) == (True, True, False)
    assert line.plc(trigger=True) == ["trigger"]
    assert (line.seen.trigger_ready, line.seen.trigger_ack, line.seen.system_busy) == (False, True, True)
    assert line.seen.trigger_id == 1
    line.plc(trigger=False)
    assert (line.seen.trigger_ready, line.seen.trigger_ack, line.seen.system_busy) == (True, False, True)
    assert not line.seen.results_valid
    line.judge(1)
    assert line.seen.result == PlcResult("good", 1, number=1)
    assert not line.seen.system_busy
    line.plc(results_ack=True)
    assert not line.seen.results_valid
    line.plc(results_ack=False)
    assert not line.seen.results_valid
    assert line.seen.trouble is Trouble.NONE


def test_a_result_waits_until_the_acknowledgement_of_the_one_before_is_taken_back(line: Line) -> None:
    line.part()
    line.part("defect")
    assert line.seen.results_valid
    line.plc(results_ack=True)
    assert (line.seen.result, line.seen.results_waiting) == (None, 1)
    line.plc(results_ack=False)
    assert line.seen.result == PlcResult("defect", 2, number=2)


def test_an_acknowledgement_of_nothing_takes_nothing(line: Line) -> None:
    line.plc(results_ack=True)
    line.part()
    assert (line.seen.result, line.seen.results_waiting) == (None, 1)
    line.plc(results_ack=False)
    assert line.seen.results_valid


def test_an_acknowledgement_of_a_result_that_was_not_read_takes_nothing(line: Line) -> None:
    line.part("defect")
    line.plc(results_ack=True)
    assert (line.seen.result, line.seen.results_waiting) == (None, 1)
    line.plc(results_ack=False)
    assert line.acknowledge().verdict == "defect"
    assert line.seen.results_waiting == 0


def test_a_result_may_come_while_the_trigger_is_still_up(line: Line) -> None:
    line.plc(trigger=True)
    line.judge(1)
    assert (line.seen.trigger_ack, line.seen.results_valid) == (True, True)


def test_records_of_other_triggers_and_of_other_cameras_are_not_taken(line: Line) -> None:
    line.plc(trigger=True)
    line.judge(7)
    line.judge(1, camera="other")
    line.handshake.record("camera", PlcResult("good"), line.now_s)  # runs freely
    assert (line.seen.results_valid, line.seen.system_busy) == (False, True)
    line.judge(1, "defect")
    line.judge(1, "good")  # twice
    assert (line.seen.results_waiting, line.seen.result) == (1, PlcResult("defect", 1, number=1))


def test_results_of_triggers_that_others_gave_are_for_the_plc_when_it_wants_them() -> None:
    for takes_foreign in (False, True):
        handshake = Handshake(LIMITS, takes_foreign)
        foreign = PlcResult("good", 5, is_foreign=True)
        handshake.record("camera", foreign, 99.0)  # the loop has not come round
        handshake.came_round(100.0)
        assert not handshake.shown(AROUND, 100.0).results_valid
        handshake.record("camera", foreign, 100.1)
        assert handshake.shown(AROUND, 100.1).result == (replace(foreign, number=1) if takes_foreign else None)
        handshake.record("camera", replace(foreign, trigger_id=6), 101.2)  # it hung meanwhile
        handshake.came_round(101.2)
        assert not handshake.shown(AROUND, 101.2).results_valid


def test_of_several_cameras_the_worst_verdict_counts_once_all_have_answered(line: Line) -> None:
    line.plc(trigger=True)
    line.handshake.accepted(9, ["left", "right"], None, line.now_s)
    line.judge(9, "good", "left")
    assert not line.seen.results_valid
    line.judge(9, "defect", "right")
    assert line.seen.result and line.seen.result.verdict == "defect"


def test_the_worst_of_several_is_the_one_that_is_furthest_above_its_threshold() -> None:
    good, mild = PlcResult("good", 1, None, 0.9, 1.0, latency_ms=80.0), PlcResult("defect", 1, "dent", 1.2, 1.0)
    strong = PlcResult("defect", 1, "hole", 4.0, 2.0, latency_ms=50.0)
    assert worst([good, good]) == good
    assert worst([good, mild, strong]) == replace(strong, latency_ms=80.0)
    nothing = PlcResult("no_verdict", 1, is_overrun=True)
    assert worst([strong, nothing, good]) == replace(nothing, latency_ms=80.0)


# --- triggers that cannot be taken


@pytest.mark.parametrize(
    ("around", "bits", "why"),
    [
        (Around(is_armed=False), {}, "the station is paused"),
        (Around(takes_triggers=False), {}, "no camera takes triggers"),
        (Around(silent_cameras=("left",)), {}, "left takes no triggers: not open yet, or ended"),
        (AROUND, {"trigger_enable": False}, "trigger_enable is not set"),
        (AROUND, {"set_offline": True}, "set offline with it"),
    ],
    ids=["paused", "no camera", "one of two cameras", "not enabled", "set offline with it"],
)
def test_a_trigger_while_not_ready_is_missed_and_stays_so_until_it_is_cleared(
    line: Line, around: Around, bits: dict[str, bool], why: str
) -> None:
    line.around = around
    assert "trigger" not in line.plc(trigger=True, **bits)
    assert (line.seen.trigger_ack, line.seen.missed_acquisition, line.seen.missed) == (False, True, 1)
    assert line.seen.trouble is Trouble.MISSED
    assert line.handshake.take_news() == [(Trouble.MISSED, why)]
    line.plc(trigger=False)
    assert line.seen.missed_acquisition
    line.plc(clear_error=True)
    assert (line.seen.missed_acquisition, line.seen.trouble, line.seen.missed) == (False, Trouble.NONE, 1)


def test_too_many_triggers_under_way_are_missed(line: Line) -> None:
    for _ in range(MOST_IN_FLIGHT):
        assert line.seen.trigger_ready
        line.plc(trigger=True)
        line.plc(trigger=False)
    assert not line.seen.trigger_ready
    line.plc(trigger=True)
    assert line.seen.missed == 1
    line.judge(1)
    line.plc(trigger=False)
    assert line.seen.trigger_ready


def test_a_camera_in_trouble_still_takes_triggers_and_the_plc_sees_a_fault(line: Line) -> None:
    line.around = Around(has_fault=True)
    assert (line.seen.fault, line.seen.trigger_ready) == (True, True)


def test_offline_and_online_are_wishes_of_rising_bits_and_offline_wins(line: Line) -> None:
    assert line.plc(set_offline=True) == ["pause"]
    assert line.plc(set_online=True) == []
    assert line.plc(set_offline=False) == []
    assert line.plc(set_online=False) == []
    assert line.plc(set_online=True) == ["arm"]


# --- overrun


def test_the_ninth_result_is_an_overrun_and_is_never_shown(line: Line) -> None:
    for number in range(MOST_WAITING):
        line.part("defect" if number == 3 else "good")
    assert not line.seen.results_overrun
    line.part("good")
    assert (line.seen.results_overrun, line.seen.overruns, line.seen.results_waiting) == (True, 1, MOST_WAITING)
    assert line.seen.trouble is Trouble.OVERRUN
    shown = [line.acknowledge() for _ in range(MOST_WAITING)]
    assert [result.trigger_id for result in shown] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [result.verdict for result in shown] == ["good"] * 3 + ["defect"] + ["good"] * 4
    assert line.seen.results_overrun  # until it is cleared
    line.part()
    line.plc(clear_error=True)
    assert not line.seen.results_overrun
    assert line.acknowledge() == PlcResult("good", 10, number=10)  # the gap in the numbers tells too


def test_a_trigger_that_found_the_queue_of_the_camera_full_is_an_overrun_with_a_result(line: Line) -> None:
    line.plc(trigger=True)
    line.handshake.record("camera", PlcResult("no_verdict", 1, is_overrun=True), line.now_s)
    assert (line.seen.results_overrun, line.seen.overruns) == (True, 1)
    assert line.acknowledge().verdict == "no_verdict"


# --- a loop that stalls


def test_before_the_first_round_nothing_is_ready_and_there_is_a_fault_but_no_error() -> None:
    seen = Handshake(LIMITS).shown(AROUND, 5.0)
    assert (seen.online, seen.trigger_ready, seen.fault, seen.trouble) == (False, False, True, Trouble.NONE)
    assert (seen.result, seen.heartbeat) == (None, False)


def test_a_stall_clears_the_result_and_voids_what_is_under_way(line: Line) -> None:
    line.part("good")
    line.plc(trigger=True)
    line.now_s += 1.01
    seen = line.seen
    assert (seen.result, seen.fault, seen.online, seen.trigger_ready) == (None, True, False, False)
    assert (seen.trouble, seen.voided, seen.system_busy) == (Trouble.STALLED, 2, False)
    line.judge(2)  # the loop goes on, and comes with it
    assert line.seen.result is None
    line.round()
    assert (line.seen.fault, line.seen.online, line.seen.results_waiting) == (False, True, 0)
    assert line.seen.trouble is Trouble.STALLED  # until it is cleared
    line.plc(trigger=False)
    line.part("good")
    assert line.seen.result == PlcResult("good", 3, number=2)


def test_an_acknowledgement_during_a_stall_takes_no_later_result(line: Line) -> None:
    line.part()
    line.now_s += 2
    line.plc(results_ack=True)
    line.round()
    line.plc(results_ack=False)
    line.part("defect")
    assert line.acknowledge().trigger_id == 2


def test_an_acknowledgement_of_a_result_from_before_a_stall_takes_no_later_one(line: Line) -> None:
    """The PLC read the good one; before its acknowledgement comes, that is void and a defect waits."""
    line.part("good")
    assert line.seen.results_valid
    line.now_s += 2
    line.round()
    line.part("defect")
    line.plc(results_ack=True)
    assert (line.seen.result, line.seen.results_waiting) == (None, 1)
    line.plc(results_ack=False)
    assert line.acknowledge().verdict == "defect"


def test_the_heartbeat_follows_the_rounds_and_nothing_else(line: Line) -> None:
    beats, rounds = [], line.seen.rounds
    for _ in range(20):
        line.round(0.1)
        beats.append(line.seen.heartbeat)
    assert line.seen.rounds == rounds + 20
    assert 3 <= sum(a != b for a, b in pairwise(beats)) <= 2.0 / BEAT_S
    before = (line.seen.heartbeat, line.seen.rounds)
    for _ in range(50):
        line.now_s += 0.1
        line.handshake.tick(line.now_s)
        line.plc(plc_heartbeat=not line.commands.plc_heartbeat)
        line.judge(99)
    assert (line.seen.heartbeat, line.seen.rounds) == before


# --- nobody answers


def test_a_trigger_without_a_record_gets_no_verdict_after_a_while(line: Line) -> None:
    line.plc(trigger=True)
    line.wait(10)
    assert not line.seen.results_valid
    line.wait(0.5)
    result = line.seen.result
    assert result and (result.verdict, result.trigger_id, result.part_id) == ("no_verdict", 1, "part 1")
    assert (line.seen.trouble, line.seen.system_busy) == (Trouble.UNANSWERED, False)
    assert line.handshake.take_news() == [(Trouble.UNANSWERED, "camera")]
    line.judge(1)  # too late
    assert line.seen.results_waiting == 1


def test_a_silent_plc_pauses_the_station_once_until_it_writes_again(line: Line) -> None:
    line.wait(3)
    assert line.handshake.tick(line.now_s) == []
    line.wait(0.5)
    assert line.handshake.tick(line.now_s) == ["pause"]
    line.wait(5)
    assert line.handshake.tick(line.now_s) == []
    assert (line.seen.fault, line.seen.trouble) == (True, Trouble.PLC_SILENT)
    line.plc(plc_heartbeat=True)
    assert line.seen.fault
    line.plc(clear_error=True)
    assert not line.seen.fault
    line.wait(3.5)
    assert line.handshake.tick(line.now_s) == ["pause"]


def test_a_plc_that_never_came_is_not_missed() -> None:
    line = Line()
    line.wait(60)
    assert line.handshake.tick(line.now_s) == []


def test_news_come_once_until_they_are_cleared(line: Line) -> None:
    line.plc(trigger_enable=False)
    for _ in range(3):
        line.plc(trigger=True)
        line.plc(trigger=False)
    assert line.handshake.take_news() == [(Trouble.MISSED, "trigger_enable is not set")]
    assert line.handshake.take_news() == []
    line.plc(clear_error=True)
    line.plc(trigger=True)
    assert line.handshake.take_news() == [(Trouble.MISSED, "trigger_enable is not set")]


# --- whatever happens


class AnyLine(RuleBasedStateMachine):
    """A PLC that may do anything at any time, a loop that stalls, cameras that answer or not, in order."""

    @initialize()
    def begin(self) -> None:
        self.line = Line()
        self.edges = self.accepted = self.acknowledged = self.lost = 0
        self.open: list[int] = []  # triggers without a record, the oldest first
        self.said: dict[int, Verdict] = {}
        self.gone: set[int] = set()  # acknowledged, or shown no more
        self.last_shown: int | None = None

    @rule(bits=st.dictionaries(st.sampled_from([*Commands.__dataclass_fields__]), st.booleans(), max_size=3))
    def plc_writes(self, bits: dict[str, bool]) -> None:
        before, seen, ready = self.line.commands, self.line.seen, self.line.seen.trigger_ready
        wishes = self.line.plc(**bits)
        edge = bits.get("trigger", False) and not before.trigger
        self.edges += edge
        if "trigger" in wishes:
            assert edge and (ready or bits.get("trigger_enable"))
            self.accepted += 1
            self.open.append(self.line.triggers)
        if seen.result and self.line.commands.results_ack:
            self.acknowledged += 1
            self.gone.add(seen.result.trigger_id or 0)

    @rule(seconds=st.sampled_from([0.05, 0.4, 0.9, 1.1, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.line.now_s += seconds
        self.line.handshake.tick(self.line.now_s)

    @rule()
    def loop_comes_round(self) -> None:
        self.line.round()

    @rule(around=st.builds(Around, st.booleans(), st.just(True), st.booleans()))
    def station_changes(self, around: Around) -> None:
        self.line.around = around

    @precondition(lambda self: self.open)
    @rule(verdict=st.sampled_from(["good", "defect", "no_verdict"]))
    def camera_answers(self, verdict: Verdict) -> None:
        trigger_id = self.open.pop(0)
        self.said[trigger_id] = verdict
        self.line.judge(trigger_id, verdict)

    @invariant()
    def what_is_shown_holds_together(self) -> None:
        seen = self.line.seen
        assert not (seen.trigger_ack and not self.line.commands.trigger)
        assert not (seen.trigger_ready and (self.line.commands.trigger or not seen.online))
        assert not (seen.results_valid and self.line.commands.results_ack)
        assert seen.results_waiting <= MOST_WAITING
        if self.line.now_s - self.line.handshake._round_s > LIMITS.stall_after_s:  # type: ignore[operator]
            assert (seen.result, seen.fault, seen.online, seen.results_waiting) == (None, True, False, 0)

    @invariant()
    def a_good_result_is_that_of_its_own_record(self) -> None:
        result = self.line.seen.result
        if result is None:
            return
        assert result.trigger_id not in self.gone
        assert result.trigger_id is not None and (self.last_shown or 0) <= result.trigger_id
        self.last_shown = result.trigger_id
        expected = self.said.get(result.trigger_id, "no_verdict")
        assert result.verdict == expected or (result.verdict, result.latency_ms is None) == ("no_verdict", False)

    @invariant()
    def every_trigger_is_accounted_for(self) -> None:
        seen, h = self.line.seen, self.line.handshake
        assert self.edges == self.accepted + seen.missed
        under_way = len(h._in_flight) + seen.results_waiting
        assert self.accepted == under_way + self.acknowledged + seen.overruns + seen.voided


AnyLine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyLine = AnyLine.TestCase
