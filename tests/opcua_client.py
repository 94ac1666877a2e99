"""A real OPC UA client, for tests: reads values with their status, calls methods, keeps what a subscription sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asyncua import Client, ua

from edge.outputs import opcua_space as space

T = TypeVar("T")


class Visitor:
    """One session. `events` and `changes` are in the order in which they came."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[Any] = []
        self.changes: list[tuple[str, Any]] = []

    async def node(self, path: str) -> Any:
        """The node of a path of `opcua_space`."""
        index = await self.client.get_namespace_index(space.OWN_URI)
        return self.client.get_node(ua.NodeId(path, index))

    async def read(self, path: str) -> tuple[Any, str]:
        """Value and name of its status."""
        seen = await (await self.node(path)).read_data_value(raise_on_bad_status=False)
        value = seen.Value.Value if seen.Value else None
        return getattr(value, "Text", value), seen.StatusCode.name

    async def call(self, path: str, *arguments: Any) -> Any:
        """What a method answers; ua.UaStatusCodeError when it refuses."""
        above, _, _ = path.rpartition(".")
        return await (await self.node(above)).call_method(await self.node(path), *arguments)

    async def subscribe_to_results(self, emitter: str | None = None) -> None:
        """From the server, or from a node."""
        index = await self.client.get_namespace_index(space.MACHINE_VISION_URI)
        kind = await self.client.nodes.base_event_type.get_child(f"{index}:{space.EVENT_TYPE}")
        subscription = await self.client.create_subscription(20, self)
        await subscription.subscribe_events(await self.node(emitter) if emitter else self.client.nodes.server, kind)

    async def subscribe_to(self, *paths: str) -> None:
        """Every change of these variables."""
        subscription = await self.client.create_subscription(20, self)
        for path in paths:
            await subscription.subscribe_data_change(await self.node(path), queuesize=100)

    def event_notification(self, event: Any) -> None:
        """Asyncua looks for this name."""
        self.events.append(event)

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """This one too."""
        self.changes.append((node.nodeid.Identifier, getattr(value, "Text", value)))


def visit(endpoint: str, what: Callable[[Visitor], Awaitable[T]], **login: Any) -> T:
    """Do `what` in a session. login: username, password, certificate and key; security, as asyncua writes it."""

    async def session() -> T:
        client = Client(endpoint, timeout=5)
        if "security" in login:
            await client.set_security_string(login["security"])
        if "username" in login:
            client.set_user(login["username"])
            client.set_password(login["password"])
        if "certificate" in login:
            await client.load_client_certificate(login["certificate"])
            await client.load_private_key(login["key"])
        async with client:
            return await what(Visitor(client))

    return asyncio.run(session())


async def until(what: Callable[[], Awaitable[Any]], timeout_s: float = 10.0) -> Any:
    """What `what` gives once it is true."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while not (seen := await what()):
        assert asyncio.get_running_loop().time() < deadline_s, "it did not happen"
        await asyncio.sleep(0.02)
    return seen
