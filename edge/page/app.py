"""The routes of a station, for people and machines. The only file that imports starlette."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.errors import ControlError, EnrolmentError, OddkindError, UsageError
from edge.notify import Notify, one_line
from edge.outputs.health import OK
from edge.page.admission import LET_IN, Admission, Refusal
from edge.page.enrolment import Enrolment
from edge.page.files import FILES, login_page, page_file
from edge.page.live import VIEWS
from edge.page.rejects import EVIDENCE, Reject
from edge.page.rooms import Rooms
from edge.page.wishes import ConfirmWish, EnrolmentWish, MasterWish, NoWish, PauseWish, TriggerWish, Wish, wish_of

POLL_S = 0.04  # how soon a waiting viewer has a new picture
LONGEST_WAIT_S = 5.0  # then it is told that there is none
BODY_S, LARGEST_BODY_BYTES = 5.0, 65_536
SESSION_S = 30 * 86_400
MOST_TOLD = 20
MOST_DIGITS = 18  # no picture has a longer number
KEEP = {"Cache-Control": "private, max-age=3600, immutable"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, browsers hide whose page a form is
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
T = TypeVar("T")
W = TypeVar("W", bound=Wish)


class PageApp:
    """The application, and the threads that encode for it."""

    def __init__(self, rooms: Rooms, notify: Notify) -> None:
        self._rooms = rooms
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="oddkind-page")
        self._closing = False
        self.asgi = Starlette(
            routes=[*self._for_machines(), *(self._for_people() if rooms.page else [])],
            middleware=[Middleware(_Door, admission=rooms.admission, notify=notify)],
            exception_handlers={
                HTTPException: _http_error,
                ControlError: _conflict,
                EnrolmentError: _conflict,
                UsageError: _wrong,
                OddkindError: _failed,
            },
        )

    def close(self) -> None:
        """Whoever waits for news is let go."""
        self._closing = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _for_machines(self) -> list[Route]:
        return [
            Route("/metrics", self.metrics),
            Route("/health", self.health),
            Route("/login", self.login, methods=["POST"]),
            Route("/api/state", self.state),
            Route("/api/arm", self.arm, methods=["POST"]),
            Route("/api/pause", self.pause, methods=["POST"]),
            Route("/api/trigger", self.trigger, methods=["POST"]),
            Route("/api/master", self.master, methods=["POST"]),
        ]

    def _for_people(self) -> list[Route]:
        return [
            Route("/", self.page),
            *(Route(f"/static/{name}", self.static) for name in FILES),
            Route("/api/events", self.events),
            Route("/api/cameras/{camera:int}/picture.jpg", self.picture),
            Route("/api/rejects", self.rejects),
            Route("/api/rejects/{result_id}", self.reject),
            *(Route(f"/api/rejects/{{result_id}}/{what}.jpg", self.evidence) for what in EVIDENCE),
            Route("/api/enrolment", self.classes),
            Route("/api/enrolment/preview", self.preview, methods=["POST"]),
            Route("/api/enrolment/confirm", self.confirm, methods=["POST"]),
            Route("/api/enrolment/undo", self.undo, methods=["POST"]),
        ]

    # --- for machines

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        content, media_type = await self._in_thread(self._rooms.metrics.text)
        return Response(content, headers={"Content-Type": media_type})

    async def health(self, request: Request) -> Response:
        """200 or 503, and why."""
        r = self._rooms
        report = r.health.report(r.control.status, r.line.loop_age_s)
        return _Json(report, 200 if report["state"] == OK else 503)

    async def login(self, request: Request) -> Response:
        """The right token in a form -> a session cookie."""
        admission = self._rooms.admission
        if not admission.needs_token:
            return RedirectResponse("/", 303)
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        if not (admission.is_right(form.get("token", [""])[0]) or admission.refusal("GET", request.headers) is None):
            return _refused(Refusal(401, "this is not the token"), request.headers)
        response = RedirectResponse("/", 303)
        response.set_cookie(admission.cookie, admission.session, SESSION_S, httponly=True, samesite="strict")
        return response

    async def state(self, request: Request) -> Response:
        """Everything the page shows but the pictures."""
        return _Json(self._rooms.state())

    async def arm(self, request: Request) -> Response:
        """Inspect from now on."""
        await _wish(request, NoWish)
        self._rooms.control.arm("http")
        return self._answer()

    async def pause(self, request: Request) -> Response:
        """Inspect nothing until it is armed."""
        wish = await _wish(request, PauseWish)
        self._rooms.control.pause("http", wish.reason)
        return self._answer()

    async def trigger(self, request: Request) -> Response:
        """Ask for a verdict of each triggered camera, or one of them."""
        wish = await _wish(request, TriggerWish)
        asked = self._rooms.control.trigger("http", wish.camera, wish.part_id)
        return self._answer(trigger_id=asked.trigger_id)

    async def master(self, request: Request) -> Response:
        """A master part is in view."""
        wish = await _wish(request, MasterWish)
        self._rooms.control.show_master_part(wish.name, "http")
        return self._answer()

    # --- for people

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return _file("index.html")

    async def static(self, request: Request) -> Response:
        """What belongs to the page."""
        return _file(request.url.path.rpartition("/")[2])

    async def events(self, request: Request) -> Response:
        """The state, as server-sent events: what is new of the trend, at once, and a heartbeat."""
        return StreamingResponse(self._rooms.events(lambda: self._closing), media_type="text/event-stream")

    async def picture(self, request: Request) -> Response:
        """The newest picture of a camera, or 204 when none newer than `after` comes in time."""
        picture = self._rooms.line.picture(request.path_params["camera"])
        view, after = request.query_params.get("view", "plain"), request.query_params.get("after", "0")
        if picture is None or view not in VIEWS or not _is_number(after):
            raise HTTPException(404, f"expected a camera's number, view={'|'.join(VIEWS)} and a number after=")
        waited_s = 0.0
        while picture.number in (0, int(after)) and waited_s < LONGEST_WAIT_S and not self._closing:
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S
        if picture.number in (0, int(after)):
            return Response(status_code=204)
        await asyncio.sleep(picture.due_in_s(view))  # type: ignore[arg-type]
        encoded = await self._in_thread(lambda: picture.encoded(view))  # type: ignore[arg-type]
        assert encoded
        etag = f'"{encoded.sight.number}-{view}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        said = json.dumps(encoded.sight.said)  # ASCII, as a header must be
        return Response(encoded.jpeg, media_type="image/jpeg", headers={"ETag": etag, "X-Oddkind-Said": said})

    async def rejects(self, request: Request) -> Response:
        """Records of the last rejects, newest first."""
        return _Json({"rejects": [reject.inspection.to_record() for reject in self._rooms.line.rejects.newest_first]})

    async def reject(self, request: Request) -> Response:
        """One record."""
        return _Json(self._kept(request.path_params["result_id"]).inspection.to_record())

    async def evidence(self, request: Request) -> Response:
        """One picture of a reject."""
        reject = self._kept(request.path_params["result_id"])
        what = next(what for what in EVIDENCE if request.url.path.endswith(f"/{what}.jpg"))
        jpeg = await self._in_thread(lambda: reject.jpeg(what))
        return Response(jpeg, media_type="image/jpeg", headers=KEEP)

    async def classes(self, request: Request) -> Response:
        """The enrolled classes, and what can be undone."""
        enrolment = self._enrolment
        return _Json(await self._in_thread(enrolment.classes))

    async def preview(self, request: Request) -> Response:
        """How a class would hold together with these rejects."""
        wish = await _wish(request, EnrolmentWish)
        rejects = [self._kept(result_id) for result_id in dict.fromkeys(wish.result_ids)]
        return await self._enrolled(lambda: self._enrolment.preview(wish.name, rejects))

    async def confirm(self, request: Request) -> Response:
        """Let it count."""
        wish = await _wish(request, ConfirmWish)
        return await self._enrolled(lambda: self._enrolment.confirm(wish.draft_id))

    async def undo(self, request: Request) -> Response:
        """Take the last enrolment back."""
        await _wish(request, NoWish)
        return await self._enrolled(self._enrolment.undo)

    # --- how

    def _answer(self, **more: Any) -> Response:
        status = self._rooms.control.status
        return _Json({"state": status.state, "reason": status.reason, **more})

    def _kept(self, result_id: str) -> Reject:
        reject = self._rooms.line.rejects.get(result_id)
        if reject is None:
            raise HTTPException(404, f"reject {result_id} is not kept any more; the page keeps the newest alone")
        return reject

    @property
    def _enrolment(self) -> Enrolment:
        if self._rooms.enrolment is None:
            raise HTTPException(404, "this station cannot enrol")
        return self._rooms.enrolment

    async def _enrolled(self, work: Callable[[], dict[str, Any]]) -> Response:
        future: Future[dict[str, Any]] = self._enrolment.submit(work)
        return _Json(await asyncio.wrap_future(future))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        executor: Executor = self._executor
        return await asyncio.get_running_loop().run_in_executor(executor, work)


class _Door:
    """Before every route, known or not."""

    def __init__(self, app: ASGIApp, admission: Admission, notify: Notify) -> None:
        self._app, self._admission, self._notify = app, admission, notify
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, has_begun = Request(scope), False
        refusal = self._admission.refusal(request.method, request.headers)
        is_login = refusal and refusal.status == 401 and request.method == "POST" and scope["path"] == "/login"
        app = self._app if refusal is None or is_login else _refused(refusal, request.headers)
        if refusal is None:
            scope["state"][LET_IN]()

        async def with_headers(message: Any) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                names = {name.lower() for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in names]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            await app(scope, receive, with_headers)
        except ClientDisconnect:
            return
        except Exception as exc:  # whatever it is costs this answer and no other
            self._tell(f"http: {request.method} {scope['path']} failed: {one_line(exc)}")
            if not has_begun:
                await _Json({"error": f"this went wrong: {one_line(exc)}"}, 500)(scope, receive, with_headers)

    def _tell(self, text: str) -> None:
        """Once each, and not for ever."""
        if text not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(text)
            self._notify(text)


class _Json(JSONResponse):
    """With a line break, for those who read it in a terminal."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _refused(refusal: Refusal, headers: Mapping[str, str]) -> Response:
    """For people the form that asks for the token, for machines one line."""
    more = {"WWW-Authenticate": 'Bearer realm="oddkind"'} if refusal.status == 401 else {}
    if refusal.status == 401 and "text/html" in headers.get("accept", ""):
        page, policy = login_page(refusal.text if "not the token" in refusal.text else "")
        return Response(page, 401, {**more, "Content-Security-Policy": policy}, "text/html")
    return _Json({"error": refusal.text}, refusal.status, more)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS


async def _wish(request: Request, kind: type[W]) -> W:
    """The body as JSON; UsageError when it is none."""
    return wish_of(await _body(request), kind)


async def _body(request: Request) -> bytes:
    try:
        return await asyncio.wait_for(_read(request), BODY_S)
    except TimeoutError as exc:
        raise HTTPException(408, f"the body did not come within {BODY_S:g} s") from exc


async def _read(request: Request) -> bytes:
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST_BODY_BYTES:
            raise HTTPException(413, f"at most {LARGEST_BODY_BYTES} bytes are read")
    return content


def _file(name: str) -> Response:
    content, media_type = page_file(name)
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _Json({"error": exc.detail}, exc.status_code, dict(exc.headers or {}))


async def _wrong(request: Request, exc: Exception) -> Response:
    return _Json({"error": one_line(exc)}, 400)


async def _conflict(request: Request, exc: Exception) -> Response:
    return _Json({"error": one_line(exc)}, 409)


async def _failed(request: Request, exc: Exception) -> Response:
    return _Json({"error": one_line(exc)}, 500)
