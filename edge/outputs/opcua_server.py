"""The thread of the OPC UA server: results and states in, wishes of clients out."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from edge.errors import OutputError
from edge.notify import Notify, is_worth_telling, one_line
from edge.outputs import opcua_space as space
from edge.outputs.opcua_nodes import Nodes
from edge.outputs.opcua_states import VisionStates
from edge.result import Inspection
from edge.station.control import LONGEST_PART_ID, Control

if TYPE_CHECKING:
    from edge.outputs.opcua import OpcuaOutput

QUEUED_RESULTS = 1000
POLL_S = 0.02  # how soon results, states and the end are noticed
LINGER_S = 0.5  # for subscriptions to publish the last results; few clients ask for a longer interval
CLOSE_S = 5.0
NO_ERROR = 0


class OpcuaServer(threading.Thread):
    """Listens from the start. OutputError when it cannot, UsageError for files that cannot be used.

    Results wait in a queue of QUEUED_RESULTS; when it is full the oldest is lost, which is counted and told.
    """

    def __init__(self, settings: OpcuaOutput, cameras: Sequence[str], notify: Notify, control: Control) -> None:
        super().__init__(name="oddkind-opcua", daemon=True)
        self._settings, self._cameras, self._notify, self._control = settings, cameras, notify, control
        self._states = VisionStates(control)
        self._queue: deque[Inspection] = deque()
        self._round_at_s: float | None = None
        self._rounds = self._lost = 0
        self._is_closing, self._is_ready = False, threading.Event()
        self._failure: Exception | None = None
        self.start()
        self._is_ready.wait()
        if self._failure:
            raise self._failure

    def put(self, inspection: Inspection) -> None:
        """Queue one result; never waits."""
        if len(self._queue) >= QUEUED_RESULTS:
            with suppress(IndexError):  # the server may have taken it meanwhile
                self._queue.popleft()
                self._lose("it is too slow")
        self._queue.append(inspection)  # nobody is woken: the server would take the interpreter from the loop at once

    def came_round(self) -> None:
        """The loop is alive."""
        self._round_at_s = monotonic()
        self._rounds += 1

    def close(self) -> None:
        """Publish what waits, for CLOSE_S at most, and stop listening; safe to call twice."""
        self._is_closing = True
        self.join(CLOSE_S)

    def run(self) -> None:
        """Serve until closed."""
        try:
            asyncio.run(self._serve())
        except Exception as exc:
            self._failure = _told(exc, self._settings)
            if self._is_ready.is_set():
                self._notify(f"OPC UA has ended: {one_line(exc)}")
        finally:
            self._is_ready.set()

    def _lose(self, why: str) -> None:
        self._lost += 1
        if is_worth_telling(self._lost):
            self._notify(f"OPC UA does not show every result: {why}; lost so far: {self._lost}")

    async def _serve(self) -> None:
        nodes = await Nodes.build(self._settings, self._cameras, self._methods())
        await self._show_state(nodes)
        await nodes.listen()
        self._is_ready.set()
        try:
            while not self._is_closing:
                await self._one_turn(nodes)
            await self._publish(nodes)
            if nodes.has_subscribers:
                await asyncio.sleep(LINGER_S)
        finally:
            await nodes.close()

    async def _one_turn(self, nodes: Nodes) -> None:
        """Whatever goes wrong with one result must not end the server."""
        await asyncio.sleep(POLL_S)
        try:
            await self._publish(nodes)
            await self._show_state(nodes)
        except Exception as exc:
            self._lose(one_line(exc))

    async def _publish(self, nodes: Nodes) -> None:
        while self._queue:
            inspection = self._queue.popleft()
            await nodes.show_result(inspection, *self._states.settle(inspection))
            await asyncio.sleep(0)  # clients have their turn between results

    async def _show_state(self, nodes: Nodes) -> None:
        at_s, limit_s = self._round_at_s, self._settings.stall_after_s
        is_alive = at_s is not None and monotonic() - at_s <= limit_s
        if at_s is None:
            reason = "the station starts"
        elif not is_alive:
            reason = f"the loop that inspects has not come round for {limit_s:g} s"
        else:
            reason = self._control.status.reason or ""
        await nodes.doubt(at_s is not None and not is_alive)
        await nodes.show_state(*self._states.current(is_alive, at_s is not None))
        await nodes.set(f"{space.SYSTEM}.Reason", reason)
        await nodes.set(f"{space.SYSTEM}.Heartbeat", self._rounds % 2**32)
        await nodes.set(f"{space.SYSTEM}.LostResults", self._lost)

    def _methods(self) -> dict[str, Callable[..., list[Any]]]:
        states = self._states
        plain = {
            f"{space.MACHINE}.Halt": states.halt,
            f"{space.MACHINE}.Reset": states.reset,
            f"{space.AUTOMATIC}.Stop": states.stop,
        }
        with_error = {
            f"{space.MACHINE}.SelectModeAutomatic": states.select_mode_automatic,
            f"{space.AUTOMATIC}.StartContinuous": states.start_continuous,
        }
        return {
            **{path: _saying(wish, []) for path, wish in plain.items()},
            **{path: _saying(wish, [NO_ERROR]) for path, wish in with_error.items()},
            f"{space.AUTOMATIC}.StartSingleJob": self._start_single_job,
        }

    def _start_single_job(
        self, meas_id: str, part_id: str, recipe_id: str, product_id: str, parameters: Sequence[str] | None
    ) -> list[Any]:
        """Id of the job, and 0 for no error. ValueError for what we cannot honour."""
        if recipe_id or product_id:
            raise ValueError("expected an empty RecipeId and ProductId: the bundle of the station is its only recipe")
        if parameters and len(parameters) > 1:
            raise ValueError("expected no Parameters, or the name of one camera")
        if len(meas_id or "") > LONGEST_PART_ID:
            raise ValueError(f"expected a MeasId of {LONGEST_PART_ID} characters at most")
        camera = parameters[0] if parameters else None
        return [self._states.start_single_job(meas_id or "", part_id or "", camera), NO_ERROR]


def _saying(wish: Callable[[], None], outputs: list[Any]) -> Callable[[], list[Any]]:
    def call() -> list[Any]:
        wish()
        return outputs

    return call


def _told(exc: Exception, settings: OpcuaOutput) -> Exception:
    if not isinstance(exc, OSError):
        return exc
    why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc  # asyncio's own words are a long line
    return OutputError(f"opcua: {settings.endpoint} cannot be listened on ({why}); choose another port or host")
