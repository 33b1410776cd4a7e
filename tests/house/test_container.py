"""Dockerfile and compose.yaml name commands, settings, files and routes that exist; the image itself is built elsewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from laserrec.cli import app
from laserrec.serving import api
from laserrec.serving.settings import PREFIX, ServingSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
KNOWN = {"LASERREC_CACHE", "OMP_WAIT_POLICY", *(PREFIX + name.upper() for name in ServingSettings.model_fields)}


def test_every_variable_is_a_setting() -> None:
    (line,) = re.findall(r"^ENV (.*)$", TEXT, flags=re.MULTILINE)
    environment = dict(word.split("=", 1) for word in shlex.split(line))
    assert environment.keys() <= KNOWN
    service = COMPOSE["services"]["service"]["environment"]
    assert service.keys() <= KNOWN
    given = {name: value for name, value in {**environment, **service}.items() if name.startswith(PREFIX)}
    settings = ServingSettings.gather(environment=given)
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.store.startswith("postgresql://laserrec:")


def test_every_command_is_one() -> None:
    root: Any = typer.main.get_command(app)
    commands = [re.findall(r"\"([^\"]+)\"", line) for line in re.findall(r"^CMD (.*)$", TEXT, flags=re.MULTILINE)]
    commands += [COMPOSE["services"]["service"]["command"]]
    commands += [
        line.split("service ", 1)[1].split("   ")[0].split()
        for line in (ROOT / "compose.yaml").read_text().splitlines()
        if "run --rm service" in line
    ]
    assert len(commands) == 3
    for first, second, *_ in commands:
        assert first in root.commands
        assert second in root.commands[first].commands or second == "/data/run"
    assert [route for route in api.operating.routes if getattr(route, "path", "") == "/livez"]
    assert "/livez" in TEXT


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if line.startswith("COPY")])
def test_what_is_copied_exists_and_is_not_ignored(line: str) -> None:
    allowed = {name[1:] for name in (ROOT / ".dockerignore").read_text().splitlines() if name.startswith("!")}
    for name in line.split()[1:-1]:
        assert (ROOT / name).exists()
        assert name in allowed


def test_it_is_not_root_and_the_database_is_not_published() -> None:
    assert re.search(r"^USER laserrec$", TEXT, flags=re.MULTILINE)
    assert TEXT.index("USER laserrec") < TEXT.index("ENTRYPOINT")
    assert "ports" not in COMPOSE["services"]["store"]
    assert COMPOSE["services"]["service"]["ports"] == ["127.0.0.1:8000:8000"]
