"""Errors as answers: each of ours has a status and a word that programs can tell apart; nothing else leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException

from laserrec.errors import AssetError, CheckpointError, ConfigError, DataError, DeadlineError, LaserrecError, RefusedError, StoreError
from laserrec.serving.conversions import LimitError
from laserrec.serving.core import NotFoundError, NotReadyError
from laserrec.serving.messages import ErrorAnswer
from laserrec.serving.service import Service

SHOWN = 8
"""Wrong fields that one message lists."""


class UnauthorisedError(LaserrecError):
    """No valid key was sent."""


class ForbiddenError(LaserrecError):
    """The key's scope does not allow the request."""


# The status and the word of each error; the first class that fits counts.
PROBLEMS: Sequence[tuple[type[LaserrecError], int, str]] = (
    (LimitError, 422, "invalid"),
    (NotFoundError, 404, "not_found"),
    (UnauthorisedError, 401, "unauthorised"),
    (ForbiddenError, 403, "forbidden"),
    (RefusedError, 429, "too_many_requests"),
    (DeadlineError, 504, "deadline"),
    (NotReadyError, 503, "not_ready"),
    (StoreError, 503, "store"),
    (DataError, 422, "invalid"),
    (AssetError, 422, "invalid"),
    (CheckpointError, 422, "invalid"),
    (ConfigError, 422, "invalid"),
)
WORDS = {400: "invalid", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
IN_WORDS = {"store": "The store does not answer; the service's log says more.", "internal": "The service failed; its log says more."}
"""Messages that are sent in place of those that may hold what is nobody's business."""


def problem(status: int, word: str, message: str, **headers: str) -> JSONResponse:
    """Return an error as an answer."""
    body = ErrorAnswer.model_validate({"error": word, "message": IN_WORDS.get(word, message)})
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def handle_problems(app: FastAPI) -> None:
    """Let an application answer errors as `problem` writes them."""
    app.add_exception_handler(LaserrecError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    service: Service = request.app.state.service
    fitting = ((status, word) for kind, status, word in PROBLEMS if isinstance(error, kind))
    status, word = next(fitting, (500, "internal"))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, RefusedError):
        headers = {"Retry-After": str(error.retry_after)}
        if error.cause == "closing":
            status, word = 503, "not_ready"
    if isinstance(error, NotReadyError):
        headers = {"Retry-After": "1"}
    service.core.metrics.refused.labels(error.cause if isinstance(error, RefusedError) else word).inc()
    request.scope["laserrec.error"] = str(error) if word in IN_WORDS else word
    return problem(status, word, str(error), **headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say which fields are wrong, and why; what was in them is not repeated, since it need not be text that can be sent."""
    assert isinstance(error, RequestValidationError)
    found = [f"{_place(problem)}: {_reason(request, problem)}" for problem in error.errors()]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    message = "; ".join(found[:SHOWN]) + more
    return problem(422, "invalid", message.encode("utf-8", "replace").decode())


def _place(found: dict[str, Any]) -> str:
    return ".".join(map(str, found["loc"]))


def _reason(request: Request, found: dict[str, Any]) -> str:
    """Return what is wrong with a field; of one that nobody knows, which ones are known beside it."""
    if found["type"] != "extra_forbidden":
        return str(found["msg"])
    message = _message_in(getattr(getattr(request.scope["route"], "body_field", None), "field_info", None))
    for step in found["loc"][1:-1]:  # "body", then fields, places in lists and keys, then the unknown one
        if message is not None and step in message.model_fields:
            message = _message_in(message.model_fields[step])
    return "unknown field" + (f"; known are {', '.join(message.model_fields)}" if message is not None else "")


def _message_in(annotation: object) -> type[BaseModel] | None:
    """Return the kind of message that a field, or a list or a mapping of them, holds."""
    inner = annotation.annotation if isinstance(annotation, FieldInfo) else annotation
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return inner
    return next((found for part in get_args(inner) if (found := _message_in(part)) is not None), None)


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    word = WORDS.get(error.status_code, "invalid" if error.status_code < 500 else "internal")
    return problem(error.status_code, word, str(error.detail), **dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "internal", "")
