"""What surrounds every request: its size, who may send it, headers that keep browsers safe, one line in the log, its time."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laserrec.serving.problems import problem
from laserrec.serving.service import Service
from laserrec.serving.settings import is_loopback

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d+)?")
SAFE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOG = logging.getLogger("laserrec.requests")


class Guard:
    """Stands between the server and the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        """Guard an application."""
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500
        phases = scope["laserrec.phases"] = {}
        # Routes are found by the path as it was sent, where an id is one segment whatever it holds; `messages.PathId` decodes it.
        scope["path"] = scope["raw_path"].decode("ascii", "replace")

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(SAFE_HEADERS)
                times = {**phases, "total": time.monotonic() - begun}
                headers["Server-Timing"] = ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in times.items())
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(headers)
        try:
            if refusal is not None:
                await refusal(scope, receive, answer)
            else:
                await self._app(scope, self._bounded(receive), answer)
        finally:
            self._note(scope, status, time.monotonic() - begun, phases)

    def _refusal(self, headers: Headers) -> Any:  # noqa: ANN401 - an ASGI application or None
        """Return what answers a request that goes no further."""
        host = headers.get("host", "")
        if not self._service.locked and not is_loopback(_name_of(host)):
            # Else a page of the web could have its own name resolve to this machine, and ask in the browser of whoever looks at it.
            return problem(403, "forbidden", "Without keys only this machine is answered, under the names localhost and 127.0.0.1.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return problem(403, "forbidden", "Requests from pages of other origins are refused.")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._service.core.settings.body_bytes:
            return problem(413, "too_large", self._too_large)
        return None

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._service.core.settings.body_bytes} bytes; send fewer or shorter entries."

    def _bounded(self, receive: Receive) -> Receive:
        """Return a way to receive a body that stops where it becomes too large, whatever its headers said."""
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._service.core.settings.body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return bounded

    def _note(self, scope: Scope, status: int, seconds: float, phases: dict[str, float]) -> None:
        # The route as it is written, not the path: paths hold ids of users.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "none"
        self._service.core.metrics.requests.labels(method, route, str(status)).observe(seconds)
        for phase, taken in phases.items():
            self._service.core.metrics.phases.labels(phase).observe(taken)
        fields: dict[str, Any] = {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        fields |= {f"{phase}_ms": round(taken * 1000, 1) for phase, taken in phases.items()}
        if "laserrec.error" in scope:
            fields["error"] = scope["laserrec.error"]
        LOG.info("request", extra={"fields": fields})


def _name_of(host: str) -> str:
    """Return a Host header without its port; empty where it is none."""
    found = HOST.fullmatch(host)
    return "" if found is None else found[1].strip("[]")
