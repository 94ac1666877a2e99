"""A Modbus/TCP server in a thread of its own. The only file that imports pymodbus.

What is read and written lies elsewhere, see `Memory`: each request is answered from one call of it, so that a PLC never
sees a half of two moments, and each write is acted on before it is answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic
from typing import Any, Protocol

from pymodbus import ModbusDeviceIdentification
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from edge import __version__
from edge.errors import OutputError
from edge.notify import Notify
from edge.outputs.modbus_map import HOLDING_COUNT, INPUT_COUNT, MIRROR

MOST_CONNECTIONS = 16
TICK_S = 0.1
BITS = 16
HEADER_BYTES, SHORTEST_BYTES, LONGEST_BYTES = 6, 8, 260  # of a request; the header says how much follows
MOST_BYTES = 64 * LONGEST_BYTES  # that wait for their turn
_COILS, _DISCRETE, _HOLDING, _INPUT = range(4)
_TABLES = {1: _COILS, 5: _COILS, 15: _COILS, 2: _DISCRETE, 4: _INPUT}  # by function code; all others: holding registers

Network = IPv4Network | IPv6Network


class Memory(Protocol):
    """What stands behind the addresses; called by the server's thread alone, and must not wait."""

    def inputs(self) -> list[int]:
        """Every input register at this moment; the first one is the discrete inputs. Called only when they are read."""

    def holdings(self) -> list[int]:
        """Every holding register that can be written; the first one is the coils."""

    def write_holdings(self, holdings: list[int]) -> None:
        """They have been written: all of them, as they are from now on."""

    def tick(self) -> None:
        """Called every TICK_S."""


class ModbusServer:
    """Serves `memory` until it is closed. allowed: who may connect, empty for everybody who can.

    OutputError when the port cannot be had.
    """

    def __init__(self, host: str, port: int, allowed: Sequence[Network], memory: Memory, notify: Notify) -> None:
        logging.getLogger("pymodbus").addHandler(logging.NullHandler())  # what clients send is no news on stderr
        self._memory, self._notify = memory, notify
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started: threading.Event = threading.Event()
        self._failure: Exception | None = None
        run = self._run(host, port, allowed, started)
        self._thread = threading.Thread(target=self._live, args=(run, started), name="oddkind-modbus", daemon=True)
        self._thread.start()
        started.wait()
        if self._failure:
            self._thread.join()
            number = getattr(self._failure, "errno", None)  # asyncio's own words are long
            why = os.strerror(number) if isinstance(number, int) and number > 0 else self._failure
            hint = "ports below 1024 need a right, see docs/modbus.md; " if port < 1024 else ""
            text = f"modbus: {host}:{port} cannot be listened on ({why}); {hint}choose another port or host"
            raise OutputError(text) from self._failure

    def close(self) -> None:
        """Close the port and every connection; safe to call twice."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _live(self, run: Any, started: threading.Event) -> None:
        try:
            self._loop.run_until_complete(run)
        except Exception as exc:
            if started.is_set():
                self._notify(
                    f"modbus: the server has ended ({type(exc).__name__}: {exc}); PLCs see no station any more"
                )
            self._failure = exc
        finally:
            self._loop.close()
            started.set()

    async def _run(self, host: str, port: int, allowed: Sequence[Network], started: threading.Event) -> None:
        server = _Server(_device(self._memory), lambda peer: _may(peer, allowed), self._notify)
        listener = await self._loop.create_server(server.handle_new_connection, host, port)
        started.set()
        try:
            while not self._stop.is_set():
                self._memory.tick()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TICK_S)
        finally:
            listener.close()
            for connection in list(server.active_connections.values()):
                connection.close()
            await asyncio.sleep(0)  # their transports close in the next round


class _Server(ModbusTcpServer):
    """Knows its connections and who may open one."""

    def __init__(self, device: SimDevice, may: Callable[[str], bool], notify: Notify) -> None:
        names = {"VendorName": "oddkind", "ProductCode": "station", "MajorMinorRevision": __version__}
        identity = ModbusDeviceIdentification(info_name=names)  # type: ignore[no-untyped-call]
        super().__init__(device, identity=identity)
        self.may, self._notify = may, notify
        self._refused: set[str] = set()

    def callback_new_connection(self) -> ServerRequestHandler:
        """One connection."""
        return _Connection(self, None, None, None)  # type: ignore[no-untyped-call]

    def refuse(self, peer: str) -> None:
        """Tell of it, once for each of a few addresses."""
        if peer not in self._refused and len(self._refused) < MOST_CONNECTIONS:
            self._refused.add(peer)
            self._notify(f"modbus: a client at {peer} was refused; it is not in 'allow'")

    def make_room(self, newest: _Connection) -> None:
        """Of too many connections the one that has been silent for the longest ends: it may be a PLC's old one."""
        others = [each for each in self.active_connections.values() if each is not newest]
        if len(others) >= MOST_CONNECTIONS:
            min((each for each in others if isinstance(each, _Connection)), key=lambda each: each.heard_s).close()


class _Connection(ServerRequestHandler):
    """One client. pymodbus answers the newest request alone: they are handed to it one after another."""

    heard_s = 0.0
    _received = b""
    _is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio; a client that may not come in is cut off before it is heard."""
        super().connection_made(transport)
        self.heard_s = monotonic()
        peer = str((transport.get_extra_info("peername") or ("?",))[0])
        if not self.server.may(peer):
            self.server.refuse(peer)
            self.close()
        else:
            self.server.make_room(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self.heard_s = monotonic()
        self._received += data
        self._hand_over()

    def server_send(self, pdu: Any, addr: Any) -> None:
        """Called by pymodbus with the answer to the request it was given."""
        super().server_send(pdu, addr)  # type: ignore[no-untyped-call]
        if self.last_pdu is not None:  # otherwise it comes from within `_hand_over`
            self._is_answering = False
            self._hand_over()

    def _hand_over(self) -> None:
        while not self._is_answering and (request := self._next_request()):
            self._is_answering = True
            super().data_received(request)
            self._is_answering = self.last_pdu is not None  # None: there is nothing to be answered any more

    def _next_request(self) -> bytes:
        """A whole one, nothing as long as there is none. A client that does not speak Modbus is cut off."""
        header = self._received[:HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            return b""
        size = HEADER_BYTES + int.from_bytes(header[4:6], "big")
        if header[2:4] != b"\0\0" or not SHORTEST_BYTES <= size <= LONGEST_BYTES or len(self._received) > MOST_BYTES:
            self._received = b""
            self.close()
        if len(self._received) < size:
            return b""
        request, self._received = self._received[:size], self._received[size:]
        return request


def _may(peer: str, allowed: Sequence[Network]) -> bool:
    if not allowed:
        return True
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((plain or address) in network for network in allowed)


def _device(memory: Memory) -> SimDevice:
    """The layout. Values are not kept here: before each answer they are taken from `memory`."""

    async def action(
        function: int, start: int, address: int, count: int, current: list[int], values: list[Any] | None
    ) -> ExcCodes | None:
        table = _TABLES.get(function, _HOLDING)
        if values is None:
            words = _words(memory, table, address + count)
            current[: len(words)] = words
        else:
            memory.write_holdings(_written(memory.holdings(), table, address, values))
        return None

    bits = [SimData(0, values=[False] * BITS, datatype=DataType.BITS)]
    mirror = SimData(MIRROR, count=INPUT_COUNT, datatype=DataType.REGISTERS, readonly=True)
    holding = [SimData(0, count=HOLDING_COUNT, datatype=DataType.REGISTERS), mirror]
    inputs = [SimData(0, count=INPUT_COUNT, datatype=DataType.REGISTERS)]
    return SimDevice(0, (list(bits), list(bits), holding, inputs), action=action)  # 0: whatever unit a client names


def _words(memory: Memory, table: int, end: int) -> list[int]:
    """What stands in the table, at least up to the address `end`."""
    if table == _COILS:
        return memory.holdings()[:1]
    if table == _HOLDING and end <= MIRROR:
        return memory.holdings()
    if table == _HOLDING:
        return [*memory.holdings(), *([0] * (MIRROR - HOLDING_COUNT)), *memory.inputs()]
    return memory.inputs()[: 1 if table == _DISCRETE else INPUT_COUNT]


def _written(holdings: list[int], table: int, address: int, values: Sequence[Any]) -> list[int]:
    """The holding registers after a write of bits or of registers."""
    if table == _HOLDING:
        holdings[address : address + len(values)] = values
        return holdings
    for number, value in enumerate(values, start=address):
        holdings[0] = holdings[0] | 1 << number if value else holdings[0] & ~(1 << number)
    return holdings
