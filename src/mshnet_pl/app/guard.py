"""What stands between the network and the page: hosts, origins, routes and sizes of requests; all else is refused."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mshnet_pl.app.files import Workspace
from mshnet_pl.errors import DataError

_API = "/gradio_api"
_PAGE, _FILE, _UPLOAD, _JOIN = "/", f"{_API}/file=", f"{_API}/upload", f"{_API}/queue/join"
_GET = re.compile(
    rf"/|/theme\.css|/favicon\.ico|/(assets|static)/.+|{_API}/(file=.+|heartbeat/\w+|queue/data|upload_progress)"
)
"""What the page reads; and what it sends to is ``_UPLOAD`` and ``_JOIN``."""
_MAX_EVENT = 2**18
"""Bytes of an event's JSON."""
_MAX_UPLOAD_FILES = 20
"""Of the largest size, in one upload."""
_PATIENCE = 30.0
"""Seconds without a byte after which a sender is given up."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_CONFIRMATION = 0.1
"""Seconds by which an event is confirmed later. When a visitor's last event ends, Gradio's server closes the stream of
answers. An event that comes in at that moment needs a new stream, which Gradio's page opens only where it has seen the old
one close before its event was confirmed; otherwise nobody hears of the event again."""
_HEADERS = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Guard:
    """ASGI middleware around Gradio's application.

    A page of another site can make a browser send requests here, also under a name of its own that leads to this machine's
    address (DNS rebinding). So only known host names are served, and a request that a browser made on behalf of another
    origin is refused. Of Gradio's routes only those are reachable that the page uses.

    Args:
        app: what is guarded.
        hosts: further host names under which the page is served; may be added to later. Always served are the address
            that a connection came in at, and the names of the loopback address where it came in there.
        workspace: where uploads go, and the only place that files are served from.
        max_upload_mb: the largest file that may be uploaded, in MiB.
    """

    def __init__(self, app: ASGIApp, hosts: set[str], workspace: Workspace, max_upload_mb: int) -> None:
        self._app, self.hosts, self._workspace = app, hosts, workspace
        self._max_upload = _MAX_UPLOAD_FILES * max_upload_mb * 2**20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            try:
                await self._serve(scope, receive, send)
            except _Refused as refused:
                await PlainTextResponse(str(refused), refused.status, _HEADERS)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._check_source(scope, headers)
        self._check_route(scope["method"], scope["path"])
        room: Any = nullcontext()
        if scope["method"] == "POST":
            length = _length(headers, _MAX_EVENT if scope["path"] == _JOIN else self._max_upload)
            receive = _patient(receive)
            if scope["path"] == _UPLOAD:
                room = self._workspace.room(length)
            else:
                receive, send = await self._event(receive), _later(send)
        try:
            with room:
                await self._app(scope, receive, _with_headers(send))
        except DataError as error:
            raise _Refused(503, str(error)) from error

    def _check_source(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._served(_name(host), (scope["server"] or ("",))[0]):
            raise _Refused(421, "This page is not served under that host name; mshnet-app's setting hosts can add it.")
        site, page = headers.get("sec-fetch-site", "none"), scope["method"] == "GET" and scope["path"] == _PAGE
        linked = page and headers.get("sec-fetch-dest", "document") == "document"
        if any(urlsplit(origin).netloc != host for origin in headers.getlist("origin")) or (
            site not in ("same-origin", "none") and not linked
        ):
            raise _Refused(403, "Other sites may not use this page.")

    def _served(self, name: str, address: str) -> bool:
        return name in self.hosts or name == address or (name in _LOCAL and _is_loopback(address))

    def _check_route(self, method: str, path: str) -> None:
        known = path in (_UPLOAD, _JOIN) if method == "POST" else method in ("GET", "HEAD") and _GET.fullmatch(path)
        if not known or (path.startswith(_FILE) and not self._workspace.holds(path.removeprefix(_FILE))):
            raise _Refused(404, "There is nothing here.")

    async def _event(self, receive: Receive) -> Receive:
        """Read an event whole and look through it: it may name no file outside of the workspace, and no address."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        try:
            event = json.loads(body)
            named = [path for path in _paths(event) if not (isinstance(path, str) and self._workspace.holds(path))]
            if named or not re.fullmatch(r"\w{1,64}", event["session_hash"]):
                raise ValueError("a file that is not this page's, or no session")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _Refused(400, "This is no event of this page.") from error
        whole = iter([{"type": "http.request", "body": body}])

        async def again() -> Message:
            return next(whole, None) or await receive()

        return again


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _name(host: str) -> str:
    """A Host header without its port and the brackets of IPv6."""
    return re.sub(r":\d+$", "", host).removeprefix("[").removesuffix("]").lower()


def _is_loopback(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:  # a socket file's
        return False
    return ((isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip).is_loopback


def _length(headers: Headers, most: int) -> int:
    length = headers.get("content-length", "")
    if not re.fullmatch(r"\d{1,18}", length):
        raise _Refused(411, "Say how long the request is.")
    if int(length) > most:
        raise _Refused(413, f"This exceeds the maximum allowed size of {most // 2**10} KiB.")
    return int(length)


def _paths(event: object) -> Iterator[object]:
    """What every object in an event's JSON names as ``path``."""
    rest = [event]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            rest += value.values()
        elif isinstance(value, list):
            rest += value


def _patient(receive: Receive) -> Receive:
    async def wait() -> Message:
        try:
            return await asyncio.wait_for(receive(), _PATIENCE)
        except TimeoutError:
            return {"type": "http.disconnect"}

    return wait


def _later(send: Send) -> Send:
    async def wait(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(_CONFIRMATION)
        await send(message)

    return wait


def _with_headers(send: Send) -> Callable[[Message], Any]:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return add
