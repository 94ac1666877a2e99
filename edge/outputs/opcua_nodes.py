"""The nodes of the OPC UA server, and who may use them. The only file that uses asyncua.

NodeIds are of our namespace; names that OPC 40100-1 has are browsed under its namespace.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.errors import ControlError, UsageError
from edge.outputs import opcua_space as space
from edge.outputs.credentials import secret_in
from edge.result import Inspection

try:
    from asyncua import Node, Server, ua
    from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
    from asyncua.crypto.uacrypto import der_from_x509, load_certificate, load_private_key, x509
    from asyncua.server.event_generator import EventGenerator
except ImportError as exc:
    raise UsageError("OPC UA needs asyncua, which is not installed; pip install 'oddkind[opcua]'") from exc

if TYPE_CHECKING:
    from edge.outputs.opcua import OpcuaOutput

CLOSE_S = 3.0
APPLICATION_URI = "urn:oddkind:station"  # unless the certificate names another
GOOD_SEVERITY, BAD_SEVERITY = 100, 500
GOOD, DOUBTFUL = ua.StatusCodes.Good, ua.StatusCodes.UncertainLastUsableValue
NO_DATA, WAITING = ua.StatusCodes.BadNoData, ua.StatusCodes.BadWaitingForInitialData
NOT_ACTIVE = ua.StatusCodes.BadStateNotActive
OBJECT_TYPES = {
    space.OBJECT: ua.ObjectIds.BaseObjectType,
    space.FOLDER: ua.ObjectIds.FolderType,
    space.STATE: ua.ObjectIds.StateType,
}
Method = Callable[..., list[Any]]
Names = tuple[ua.NodeId, ua.QualifiedName]


class Nodes:
    """Writes values; one event loop uses it. `build` makes it, `listen` opens the port."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._spaces = {"UA": 0}
        self._nodes: dict[str, Node] = {}
        self._types: dict[str, ua.VariantType] = {}
        self._last: dict[str, tuple[Any, int]] = {}  # value and status of each variable
        self._events: list[EventGenerator] = []
        self._is_doubtful = False

    @classmethod
    async def build(cls, settings: OpcuaOutput, cameras: Sequence[str], methods: dict[str, Method]) -> Nodes:
        """All nodes, without values. UsageError for files that cannot be used."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # stderr is for what a person must know
        nodes = cls(await _server(settings))
        for owner, uri in (("MachineVision", space.MACHINE_VISION_URI), ("oddkind", space.OWN_URI)):
            nodes._spaces[owner] = await nodes._server.register_namespace(uri)
        for place in (*space.FIXED, *(place for camera in cameras for place in space.camera_places(camera))):
            await nodes._add(place, methods)
        await nodes._add_events()
        for camera in cameras:
            for name, _, _ in space.RESULT_VALUES:
                await nodes._write(f"{space.RESULTS}.{camera}.{name}", None, WAITING)
        return nodes

    async def listen(self) -> None:
        """Open the port; OSError when it cannot be had."""
        await self._server.start()

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.wait_for(self._server.stop(), CLOSE_S)

    @property
    def has_subscribers(self) -> bool:
        """Whether a client waits to be told."""
        return bool(self._server.iserver.subscription_service.subscriptions)

    async def set(self, path: str, value: Any, status: int = GOOD) -> None:
        """Write a value, if it is another than before."""
        if self._last[path] != (value, status):
            await self._write(path, value, status)

    async def show_result(self, inspection: Inspection, job_id: str, meas_id: str) -> None:
        """Values of its camera, its counter, and an event."""
        values = space.result_values(inspection, job_id, meas_id)
        here = f"{space.RESULTS}.{inspection.provenance.source}"
        for name, value in values.items():
            await self._write(f"{here}.{name}", value, NO_DATA if value is None else GOOD)
        counter = f"{here}.{space.COUNTERS[inspection.verdict]}"
        await self._write(counter, self._last[counter][0] + 1, GOOD)
        for event in self._events:
            vars(event.event).update(values, SourceName=inspection.provenance.source)
            event.event.Severity = GOOD_SEVERITY if inspection.verdict == "good" else BAD_SEVERITY
            await event.trigger(message=inspection.error or inspection.defect_class or inspection.verdict)

    async def show_state(self, state: str, automatic: str | None) -> None:
        """Both state machines; the inner one has no state while the outer one is not Operational."""
        await self._show(space.MACHINE, state, space.STATE_NUMBERS)
        if automatic:
            await self._show(space.AUTOMATIC, automatic, space.AUTOMATIC_STATE_NUMBERS)
        else:
            for name in ("CurrentState", "CurrentState.Id", "CurrentState.Number"):
                path = f"{space.AUTOMATIC}.{name}"
                await self.set(path, self._last[path][0], NOT_ACTIVE)

    async def doubt(self, is_doubtful: bool) -> None:
        """Mark the results as the last ones known, and none as good, or take that back."""
        if is_doubtful == self._is_doubtful:
            return
        self._is_doubtful = is_doubtful
        for path, (value, status) in list(self._last.items()):
            if path.startswith(space.RESULTS) and status in (GOOD, DOUBTFUL):
                await self._write(path, value, DOUBTFUL if is_doubtful else GOOD)

    async def _show(self, machine: str, state: str, numbers: dict[str, int]) -> None:
        before = self._last[f"{machine}.CurrentState"][0].Text
        await self.set(f"{machine}.CurrentState", ua.LocalizedText(state))
        await self.set(f"{machine}.CurrentState.Id", self._nodes[f"{machine}.{state}"].nodeid)
        await self.set(f"{machine}.CurrentState.Number", numbers[state])
        if before and before != state:
            await self._write(f"{machine}.LastTransition", ua.LocalizedText(f"{before}To{state}"), GOOD)
            await self._write(f"{machine}.LastTransition.TransitionTime", datetime.now(UTC), GOOD)

    async def _write(self, path: str, value: Any, status: int) -> None:
        self._last[path] = (value, status)
        shown = False if status == DOUBTFUL and path.endswith(".IsGood") else value
        variant = None if shown is None else ua.Variant(shown, self._types[path])
        written = ua.DataValue(variant, ua.StatusCode(ua.UInt32(status)), datetime.now(UTC))
        await self._server.write_attribute_value(self._nodes[path].nodeid, written)

    async def _add(self, place: space.Place, methods: dict[str, Method]) -> None:
        parent = self._nodes[place.above] if place.above else self._server.nodes.objects
        names = self._names(place.path, place.name, place.owner)
        if place.type == space.METHOD:
            inputs, outputs = space.ARGUMENTS.get(place.name, ((), ()))
            call = self._answering(methods[place.path], outputs)
            await parent.add_method(
                *names, call, [_argument(*each) for each in inputs], [_argument(*o) for o in outputs]
            )
        elif place.type in OBJECT_TYPES:
            self._nodes[place.path] = node = await parent.add_object(*names, OBJECT_TYPES[place.type])
            if place.type == space.STATE:
                number = {**space.STATE_NUMBERS, **space.AUTOMATIC_STATE_NUMBERS}[place.name]
                await (await node.get_child("0:StateNumber")).write_value(number, ua.VariantType.UInt32)
        else:
            await self._add_variable(parent, place, names)

    async def _add_variable(self, parent: Node, place: space.Place, names: Names) -> None:
        is_array = place.type.endswith("[]")
        kind = self._types[place.path] = ua.VariantType[place.type.removesuffix("[]")]
        value = [] if is_array else ua.get_default_value(kind)
        is_property = place.owner == "UA" and place.above.rpartition(".")[2] in ("CurrentState", "LastTransition")
        add = parent.add_property if is_property else parent.add_variable
        node = await add(*names, ua.Variant(value, kind, is_array=is_array))
        self._nodes[place.path], self._last[place.path] = node, (value, GOOD)

    async def _add_events(self) -> None:
        """Fired at the result management and at the server, where most clients listen; asyncua hands nothing up."""
        base = self._server.get_node(ua.ObjectIds.BaseEventType)
        event = await base.add_object_type(*self._names(space.EVENT_TYPE, space.EVENT_TYPE, "MachineVision"))
        for name, kind, owner in space.RESULT_VALUES:
            is_array, vtype = kind.endswith("[]"), ua.VariantType[kind.removesuffix("[]")]
            value = [] if is_array else ua.get_default_value(vtype)
            path = f"{space.EVENT_TYPE}.{name}"
            await event.add_property(*self._names(path, name, owner), ua.Variant(value, vtype, is_array=is_array))
        for emitter in (self._nodes[f"{space.SYSTEM}.ResultManagement"].nodeid, ua.ObjectIds.Server):
            self._events.append(await self._server.get_event_generator(event, emitter))

    def _answering(self, method: Method, outputs: Sequence[tuple[str, str]]) -> Callable[..., Awaitable[Any]]:
        async def answer(parent: ua.NodeId, *arguments: ua.Variant) -> Any:
            try:
                results = method(*(argument.Value for argument in arguments))
            except ControlError as exc:
                refusal, status = str(exc), ua.StatusCodes.BadInvalidState
            except (TypeError, ValueError) as exc:  # TypeError: too many arguments or too few
                refusal, status = str(exc), ua.StatusCodes.BadInvalidArgument
            else:
                types = [ua.VariantType[kind] for _, kind in outputs]
                return [ua.Variant(result, kind) for result, kind in zip(results, types, strict=True)]
            await self.set(f"{space.SYSTEM}.LastRefusal", refusal)
            return ua.StatusCode(ua.UInt32(status))

        return answer

    def _names(self, path: str, name: str, owner: str) -> Names:
        return ua.NodeId(path, self._spaces["oddkind"]), ua.QualifiedName(name, self._spaces[owner])


class _Users:
    """Whom to let in. A certificate comes from the channel that it opened, so whoever shows it has its key."""

    def __init__(self, settings: OpcuaOutput) -> None:
        s = settings
        self._needs_certificate, self._username = bool(s.cert_file), s.username
        given = s.password.get_secret_value() if s.password else None
        self._password = secret_in(s.password_file) if s.password_file else given
        self.certificates: set[bytes] = set()
        self.is_open = not (s.username or s.clients_folder)

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: bytes | None = None
    ) -> User | None:
        """The rights of this client, None when it is unknown; asyncua looks for this name."""
        if self._needs_certificate and not certificate:
            return None  # asyncua lets everybody open a channel without encryption
        if self.is_open or (username is None and certificate in self.certificates):
            return User(UserRole.User)
        if username is None or self._username is None or self._password is None:
            return None
        same = hmac.compare_digest(username.encode(), self._username.encode())
        return (
            User(UserRole.User)
            if same & hmac.compare_digest((password or "").encode(), self._password.encode())
            else None
        )


async def _server(settings: OpcuaOutput) -> Server:
    users = _Users(settings)
    server = Server(user_manager=users)
    policy, uri = ua.SecurityPolicyType.NoSecurity, APPLICATION_URI
    if settings.cert_file and settings.key_file:
        server.iserver.certificate = await _read(settings.cert_file, load_certificate, "a certificate")
        server.iserver.private_key = await _read(settings.key_file, load_private_key, "a private key without password")
        policy, uri = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, _uri_in(server.iserver.certificate) or uri
    for path in sorted(settings.clients_folder.iterdir()) if settings.clients_folder else ():
        users.certificates.add(der_from_x509(await _read(path, load_certificate, "a certificate")))
    tokens = [ua.UserNameIdentityToken] * bool(settings.username) + [ua.X509IdentityToken] * bool(users.certificates)
    server.set_identity_tokens(tokens or [ua.AnonymousIdentityToken])
    server.set_security_policy([policy], SimpleRoleRuleset())
    server.set_endpoint(settings.endpoint)
    server.set_server_name("oddkind")
    await server.init()
    await server.set_application_uri(uri)
    await server.set_build_info("urn:oddkind", "oddkind", "oddkind", __version__, "", datetime.now(UTC))
    return server


def check_certificate(path: Path) -> None:
    """UsageError when the file holds no certificate, PEM or DER."""
    asyncio.run(_read(path, load_certificate, "a certificate"))


def check_folder(folder: Path) -> None:
    """UsageError when one of its files holds no certificate."""
    for path in sorted(folder.iterdir()):
        check_certificate(path)


def check_key(path: Path) -> None:
    """UsageError when the file holds no private key without password, PEM or DER."""
    asyncio.run(_read(path, load_private_key, "a private key without password"))


async def _read(path: Path, load: Callable[..., Awaitable[Any]], what: str) -> Any:
    """By what is in the file: asyncua would go by the end of its name."""
    try:
        content = path.read_bytes()
        return await load(content, extension="PEM" if b"-----BEGIN" in content else "DER")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except Exception as exc:
        raise UsageError(f"{path}: not {what} in PEM or DER") from exc


def _uri_in(certificate: Any) -> str | None:
    """The application URI that the certificate is for; clients compare it with what the server says."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)


def _argument(name: str, kind: str) -> ua.Argument:
    argument = ua.Argument()
    argument.Name = name
    argument.DataType = ua.NodeId(getattr(ua.ObjectIds, kind.removesuffix("[]")))
    argument.ValueRank = 1 if kind.endswith("[]") else -1
    return argument
