"""Every setting of the service: command-line options over environment variables over a TOML file over defaults."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from laserrec.errors import ConfigError

PREFIX = "LASERREC_SERVE_"
"""How environment variables begin that set something here: `LASERREC_SERVE_PORT=8080`."""
DEFAULT_STORE = "sqlite:///laserrec.db"
CountsAs = Literal["interest", "nothing", "dislike"]


class ServingSettings(BaseModel):
    """What the service does, and how much of it at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; anything but this machine's own needs a key in the store."""
    port: int = Field(8000, ge=0, le=65_535)
    """Port; 0 chooses a free one."""
    store: str = DEFAULT_STORE
    """Database of events and items: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."""
    threads: int = Field(default_factory=lambda: max((os.cpu_count() or 1) - 1, 1), ge=1)
    """Threads that compute. One core is left to answering: on a busy machine a thread too many makes every pass several times slower."""
    store_threads: int = Field(4, ge=1, le=64)
    """Threads, and connections, that wait for the database."""

    text_memory: float | None = Field(None, gt=0, le=2.0**30)
    """GiB of encoded texts that each model keeps in memory; what does not fit is read from the disk. When unset half of the free memory, \
divided by `processes`."""
    processes: int = Field(1, ge=1)
    """Services on this machine, which share its memory."""

    not_interest: tuple[str, ...] = ("impression",)
    """Kinds of events that are kept and are no interest in the item."""
    dislike: tuple[str, ...] = ("dislike",)
    """Kinds of events after which the item is not recommended to that user again."""

    batch_tokens: int = Field(4096, ge=1)
    """Tokens of histories that one pass over the language model reads at most; at least one history is read."""
    queue_requests: int = Field(512, ge=1)
    """Histories that may wait; more are refused with 429."""
    queue_tokens: int = Field(262_144, ge=1)
    """Tokens of histories that may wait; more are refused with 429."""
    deadline: float = Field(5.0, gt=0)
    """Seconds until a request is answered with 504."""
    embeddings: int = Field(20_000, ge=0)
    """Histories whose embeddings are kept, so that the same history costs no pass."""

    body_bytes: int = Field(2 * 2**20, ge=1)
    """Largest body of a request."""
    batch: int = Field(256, ge=1)
    """Most recommendations, events or items that one request holds."""
    history: int = Field(1000, ge=1)
    """Most items or texts of a history in a request, and ids in `only` or `without`."""
    explained_history: int = Field(50, ge=1)
    """Most different items of a history after which scores are explained: it is read once without each of them."""
    stored_history: int = Field(10_000, ge=1)
    """Latest events of a user that are read from the store."""
    list_length: int = Field(200, ge=1)
    """Largest k."""
    text: int = Field(2000, ge=1)
    """Most characters of a text or of an attribute's value."""
    attributes: int = Field(64, ge=1)
    """Most attributes of an item."""

    poll: float = Field(0.25, gt=0)
    """Seconds between two looks for what other replicas changed: items and keys."""
    popularity_seconds: float = Field(60.0, gt=0)
    """Seconds between two counts of how popular items are."""
    drain: float = Field(30.0, gt=0)
    """Seconds that requests have to finish after SIGTERM."""

    @model_validator(mode="after")
    def _a_batch_fits_the_queue(self) -> Self:
        if self.batch > self.queue_requests:
            raise ValueError(f"batch must not exceed queue_requests; received {self.batch} and {self.queue_requests}")
        return self

    @property
    def text_share(self) -> float | None:
        """GiB that a model's encoded texts may take; None where the model decides."""
        if self.text_memory is not None or self.processes == 1:
            return self.text_memory
        from laserrec.system.resources import available_memory  # brings torch, which the commands for keys and backups do without

        return available_memory() / 2 / self.processes / 2**30

    @property
    def no_interest(self) -> list[str]:
        """Kinds of events that are no interest in the item: those of `not_interest` and dislikes."""
        return [*self.not_interest, *self.dislike]

    def counts_as(self, kind: str) -> CountsAs:
        """Return what an event of a kind says of the user."""
        return "dislike" if kind in self.dislike else "nothing" if kind in self.not_interest else "interest"

    @classmethod
    def gather(
        cls, options: Mapping[str, object] | None = None, file: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Put the settings together.

        Args:
            options: settings by name that win over all others; those that are None are left out.
            file: a TOML file with a table `[serve]`; other tables are somebody else's.
            environment: where variables such as `LASERREC_SERVE_PORT` stand; this process's own when unset. Lists are divided by commas.

        Raises:
            ConfigError: the file cannot be read, a name is unknown, or a value is out of range.
        """
        values: dict[str, object] = {} if file is None else _read(file)
        for name, text in (os.environ if environment is None else environment).items():
            if name.startswith(PREFIX):
                setting = name.removeprefix(PREFIX).lower()
                values[setting] = [part for part in text.split(",") if part] if setting in {"not_interest", "dislike"} else text
        values |= {name: value for name, value in (options or {}).items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"The service's settings: {_explain(error)}") from error


def is_loopback(host: str) -> bool:
    """Return whether an address or a name is this machine's own, which no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read the settings in {file}: {error}") from error
    found = tables.get("serve", {})
    if not isinstance(found, dict):
        raise ConfigError(f"{file} must hold a table [serve]; it holds serve = {found!r}.")
    return found


def _explain(error: ValidationError) -> str:
    """Say for each wrong setting what was received and what is allowed."""
    known = ", ".join(ServingSettings.model_fields)
    lines = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name!r}; known are {known}")
        else:
            lines.append(f"{name}: {problem['msg']}" + (f"; received {problem['input']!r}" if name else ""))
    return "; ".join(lines)
