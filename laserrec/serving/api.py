"""The routes: what is asked under which address, with which scope, and what is answered.

The OpenAPI document at /openapi.json is made from this file and `messages`; a test holds every answer against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from laserrec import __version__
from laserrec.serving.access import allows, scope_of
from laserrec.serving.core import Phases
from laserrec.serving.guard import Guard
from laserrec.serving.item_map import written
from laserrec.serving.messages import (
    LONGEST_ID,
    BatchAnswer,
    Erased,
    ErrorAnswer,
    EventsRequest,
    Id,
    ItemAnswer,
    ItemBody,
    ItemPatch,
    ItemsAnswer,
    ItemsRequest,
    MapAnswer,
    ModelsAnswer,
    NewModel,
    NewModelAnswer,
    PathId,
    Readiness,
    Receipt,
    RecommendationAnswer,
    RecommendationBatch,
    RecommendationRequest,
    SimilarAnswer,
    UserHistory,
    UsersAnswer,
)
from laserrec.serving.problems import ForbiddenError, UnauthorisedError, handle_problems
from laserrec.serving.service import Service
from laserrec.serving.store import Scope

PAGE = Path(__file__).parent / "page"
"""Files of the page, served as they are."""
SUMMARIES = {
    400: "The body is no JSON.",
    401: "A key is needed, and none that is valid was sent.",
    403: "The key's scope does not allow this.",
    404: "There is no such thing.",
    413: "The body is too large.",
    422: "The request is wrong; the message says what was received and what is allowed.",
    429: "Too much is waiting; ask again after `Retry-After` seconds.",
    500: "The service failed.",
    503: "The service is starting or closing, or its store does not answer.",
    504: "The request took longer than its deadline.",
}
ALWAYS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": SUMMARIES[status]} for status in (400, 401, 403, 413, 422, 429, 500, 503, 504)
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer, "description": SUMMARIES[404]}}

bearer = HTTPBearer(auto_error=False, description="A key that `laserrec serve keys create` showed.")


def service_of(request: Request) -> Service:
    """Return the service that the application belongs to."""
    found: Service = request.app.state.service
    return found


def phases_of(request: Request) -> Phases:
    """Return where a request's phases are noted; `Guard` sends them as `Server-Timing`."""
    found: Phases = request.scope["laserrec.phases"]
    return found


TheService = Annotated[Service, Depends(service_of)]
ThePhases = Annotated[Phases, Depends(phases_of)]


def needs(scope: Scope) -> Any:  # noqa: ANN401 - FastAPI's own marker
    """Return a dependency that refuses requests without a key of a scope, where there are keys."""

    async def check(service: TheService, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if not service.locked:
            return  # the service then listens on this machine alone
        held = None if credentials is None else scope_of(credentials.credentials, service.keys)
        if held is None:
            raise UnauthorisedError("Send a key: 'Authorization: Bearer lr_…'. One is made by: laserrec serve keys create")
        if not allows(held, scope):
            raise ForbiddenError(f"The key's scope is {held!r}; this needs {scope!r}.")

    return Depends(check)


reading = APIRouter(prefix="/v1", dependencies=[needs("read")], responses=ALWAYS)
writing = APIRouter(prefix="/v1", dependencies=[needs("write")], responses=ALWAYS)
managing = APIRouter(prefix="/v1", dependencies=[needs("admin")], responses=ALWAYS)
operating = APIRouter()


@reading.post("/recommendations", tags=["recommendations"])
async def recommend(body: RecommendationRequest, service: TheService, phases: ThePhases) -> RecommendationAnswer:
    """Recommend items after a user's stored history, a history of items, or texts."""
    return (await service.recommending.recommend([body], phases))[0]


@reading.post("/recommendations/batch", tags=["recommendations"])
async def recommend_batch(body: RecommendationBatch, service: TheService, phases: ThePhases) -> BatchAnswer:
    """Recommend after several histories at once."""
    return BatchAnswer(answers=await service.recommending.recommend(body.requests, phases))


@writing.post("/events", tags=["events"])
async def add_events(body: EventsRequest, service: TheService, phases: ThePhases) -> Receipt:
    """Keep events. What the receipt counts as accepted is durable, and the next recommendation sees it."""
    return await service.users.add_events(body.events, phases)


@reading.get("/users", tags=["users"])
async def latest_users(
    service: TheService,
    phases: ThePhases,
    query: Annotated[str, Query(max_length=LONGEST_ID, description="How their ids begin.")] = "",
    k: Annotated[int, Query(ge=1)] = 10,
) -> UsersAnswer:
    """Return users among the latest events, the latest first."""
    return await service.users.latest(query, k, phases)


@reading.get("/users/{user_id}/history", tags=["users"])
async def history(user_id: PathId, service: TheService, phases: ThePhases, limit: Annotated[int, Query(ge=1)] = 100) -> UserHistory:
    """Return a user's latest events, oldest first; a user without events has an empty history."""
    return await service.users.history(user_id, limit, phases)


@writing.delete("/users/{user_id}", tags=["users"])
async def erase(user_id: PathId, service: TheService, phases: ThePhases) -> Erased:
    """Erase everything that is kept of a user."""
    return await service.users.erase(user_id, phases)


@reading.get("/items", tags=["items"])
async def search(
    service: TheService,
    phases: ThePhases,
    query: Annotated[str, Query(min_length=1, pattern=r"^[^\x00]*\S[^\x00]*$", description="Words of a title, or any text.")],
    by: Annotated[Literal["title", "meaning"], Query(description="Whether titles must hold the words, or be near in meaning.")] = "title",
    k: Annotated[int, Query(ge=1)] = 10,
) -> ItemsAnswer:
    """Find items by title or by meaning."""
    return ItemsAnswer(items=await service.recommending.search(query, by, k, phases))


@reading.get("/items/{item_id}", tags=["items"], responses=MISSING)
async def item(item_id: PathId, service: TheService) -> ItemAnswer:
    """Return an item."""
    return service.items.get(item_id)


@reading.get("/items/{item_id}/similar", tags=["items"], responses=MISSING)
async def similar(item_id: PathId, service: TheService, phases: ThePhases, k: Annotated[int, Query(ge=1)] = 10) -> SimilarAnswer:
    """Return the items most similar to one."""
    return await service.recommending.similar(item_id, k, phases)


@writing.post("/items", tags=["items"])
async def put_items(body: ItemsRequest, service: TheService, phases: ThePhases) -> ItemsAnswer:
    """Add or replace items, all or none; the next request may be answered with them."""
    return ItemsAnswer(items=await service.items.put([(new.item_id, new) for new in body.items], phases))


@writing.put("/items/{item_id}", tags=["items"])
async def put_item(item_id: PathId, body: ItemBody, service: TheService, phases: ThePhases) -> ItemAnswer:
    """Add or replace an item; the next request may be answered with it."""
    return (await service.items.put([(item_id, body)], phases))[0]


@writing.patch("/items/{item_id}", tags=["items"], responses=MISSING)
async def patch_item(item_id: PathId, body: ItemPatch, service: TheService, phases: ThePhases) -> ItemAnswer:
    """Change a part of an item."""
    return await service.items.patch(item_id, body, phases)


@writing.delete("/items/{item_id}", tags=["items"], responses=MISSING)
async def delete_item(item_id: PathId, service: TheService, phases: ThePhases) -> ItemAnswer:
    """Delete an item; returns what it was."""
    return await service.items.delete(item_id, phases)


@reading.get("/map", tags=["items"], response_class=Response, responses={200: {"model": MapAnswer, "description": "The map."}})
async def item_map(
    service: TheService,
    model: Annotated[Id | None, Query(description="Name of the model that compares; the first one when unset.")] = None,
) -> Response:
    """Return the items in two dimensions, as a model compares them; of more than 100,000 items evenly spread ones."""
    body = await asyncio.to_thread(written, await service.recommending.item_map(model))
    return Response(body, media_type="application/json")


@reading.get("/models", tags=["models"])
async def models(service: TheService) -> ModelsAnswer:
    """Return the models that answer, with what followed from their answers."""
    return await service.list_models()


@managing.post("/models", tags=["models"])
async def add_model(body: NewModel, service: TheService) -> NewModelAnswer:
    """Load a model, beside the others or in place of the one of the same name; requests are answered all the while.

    The answer tests it against the running one, paired, where both were evaluated on the same cases, and says why where they were not.
    It counts for this process until it ends; what is loaded at the next start is what the command line names.
    """
    return await service.add_model(body)


@operating.get("/livez", tags=["operation"])
async def live() -> dict[str, bool]:
    """Return that the process answers."""
    return {"live": True}


@operating.get("/readyz", tags=["operation"], responses={503: {"model": Readiness, "description": "Not ready; `missing` says why."}})
async def ready(service: TheService, response: Response) -> Readiness:
    """Return whether requests are answered, and what is missing."""
    missing = await service.check()
    response.status_code = 503 if missing else 200
    return Readiness(ready=not missing, missing=missing)


@operating.get(
    "/metrics",
    tags=["operation"],
    dependencies=[needs("read")],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: ALWAYS[401], 403: ALWAYS[403]},
)
async def metrics(service: TheService) -> Response:
    """Return what Prometheus reads."""
    service.observe()
    return Response(generate_latest(service.core.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


@operating.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Return the page; its other files are below /page."""
    return FileResponse(PAGE / "index.html")


def create_app(service: Service) -> FastAPI:
    """Return the application over a service; while it runs, so does the service."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(service.start())
        yield
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.stop()

    app = FastAPI(
        title="laserrec",
        version=__version__,
        summary="Recommendations from a frozen language model, and the events and items behind them.",
        lifespan=running,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        default_response_class=JSONResponse,
    )
    app.state.service = service
    for router in (reading, writing, managing, operating):
        app.include_router(router)
    handle_problems(app)
    app.mount("/page", StaticFiles(directory=PAGE))  # not at /: there it would answer for every method that a route does not have
    app.add_middleware(Guard, service=service)
    return app
