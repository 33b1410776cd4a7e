"""The service as a process: where it listens, what it logs, how it ends."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import torch
import uvicorn

from laserrec.errors import ConfigError
from laserrec.serving.api import create_app
from laserrec.serving.service import Service
from laserrec.serving.settings import ServingSettings

SWITCH_SECONDS = 0.001
"""How long Python lets one thread go on while another waits: the event loop must not wait for the engine's small steps."""


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def serve(make: Callable[[], Service], settings: ServingSettings, on_start: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C; what was taken by then is answered.

    Args:
        make: loads the model and opens the store, once the address is known to be free.
        settings: where to listen, and the rest.
        on_start: called with the address, `http://127.0.0.1:8000`, when it listens.

    Raises:
        ConfigError: the address is taken or not this machine's.
    """
    log_json_lines()
    torch.set_num_threads(settings.threads)
    sys.setswitchinterval(SWITCH_SECONDS)
    with _listen(settings) as listener:
        service = make()
        config = uvicorn.Config(
            create_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.drain),
        )
        host, port = listener.getsockname()[:2]
        on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


def log_json_lines() -> None:
    """Send this process's log to stderr, one line of JSON a record."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("laserrec").setLevel(logging.INFO)


def _listen(settings: ServingSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}, port {settings.port}"
        reason = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"Cannot listen on {where}: {reason}. Choose another host or port.") from error
