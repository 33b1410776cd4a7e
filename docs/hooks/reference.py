"""Generate the reference from the code: settings, command line, Python, HTTP, baselines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

import laserrec
from laserrec.baselines.collection import baselines_table
from laserrec.cli import app
from laserrec.config import LaserConfig
from laserrec.serving.api import create_app
from laserrec.serving.service import Service
from laserrec.serving.settings import PREFIX, ServingSettings

PYTHON = {
    "Laser": ["laserrec.recommender.Laser"],
    "Data": [
        "laserrec.data.dataset.Dataset",
        "laserrec.data.prepare.prepare",
        "laserrec.data.prepare.PrepareOptions",
        "laserrec.data.options.ReadOptions",
        "laserrec.data.reading.memory.Tables",
    ],
    "What calls return": [
        "laserrec.laser.ranking_requests.Recommendation",
        "laserrec.laser.explanation.Explanation",
        "laserrec.evaluation.metrics.Evaluation",
        "laserrec.data.prepare.PrepareSummary",
    ],
    "All users at once": ["laserrec.runs.batch.recommend_users"],
    "Vectors": ["laserrec.runs.vectors.item_frame", "laserrec.runs.vectors.user_frames", "laserrec.runs.vectors.export_vectors"],
    "Errors": ["laserrec.errors"],
}
"""What the page on Python describes, under its headings."""

SHOWN_LIMIT = 2**53
"""Limits beyond which no float tells neighbours apart say nothing to a reader."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    for name, content in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def pages() -> dict[str, str]:
    """Return every generated page by its name."""
    return {
        "command-line": command_line(),
        "settings": settings(),
        "service-settings": service_settings(),
        "baselines": f"# Baselines\n\nNames that `laserrec baseline` and `laserrec tune` know.\n\n{baselines_table()}",
        "python": python(),
        "http": http(),
    }


def command_line() -> str:
    """Return the help of every command."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="laserrec"), name="laserrec")
    return "# Command line\n" + text.replace("\n* `--help`: Show this message and exit.", "").partition("\n")[2]


def settings() -> str:
    """Return a table of settings a section, with the paper's value wherever it differs."""
    paper = LaserConfig.preset("paper")
    usual = LaserConfig()
    lines = [
        "# Settings",
        "",
        "Set them in a TOML file (`--config laser.toml`), on the command line (`--set stage1.epochs=3`) or in Python",
        '(`LaserConfig.build("default", {"stage1": {"epochs": 3}}, "mine")`).',
        "`--preset paper` starts from the paper's values, shown where they differ.",
        "",
        "## Top level",
        "",
        *settings_table(usual, paper),
    ]
    for name, field in LaserConfig.model_fields.items():
        section = getattr(usual, name)
        if isinstance(section, BaseModel):
            about = field.description or type(section).__doc__ or ""
            lines += ["", f"## {name}", "", about, "", *settings_table(section, getattr(paper, name))]
    return "\n".join(lines) + "\n"


def settings_table(usual: BaseModel, paper: BaseModel) -> Iterator[str]:
    """Yield the rows of a section's settings."""
    yield from ("| setting | default | paper | meaning |", "|---|---|---|---|")
    for name, field in type(usual).model_fields.items():
        value = getattr(usual, name)
        if not isinstance(value, BaseModel):
            papers = shown(getattr(paper, name)) if getattr(paper, name) != value else ""
            yield f"| `{name}` | {shown(value)} | {papers} | {cell(field.description or '')}{bounds(field)} |"


def bounds(field: FieldInfo) -> str:
    """Return the limits of a number as text in brackets, empty where there are none."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [(sign, getattr(limit, name)) for limit in field.metadata for name, sign in signs.items() if hasattr(limit, name)]
    found = [f"{sign} {value:g}" for sign, value in limits if value < SHOWN_LIMIT]
    return f" ({', '.join(found)})" if found else ""


def shown(value: object) -> str:
    """Return a value as TOML writes it."""
    return "unset" if value is None else f"`{cell(json.dumps(value, ensure_ascii=False))}`"


def cell(text: str) -> str:
    """Return text as it may stand in a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def service_settings() -> str:
    """Return the table of the service's settings."""
    lines = [
        "# Service settings",
        "",
        f"Give them as `--set NAME=VALUE`, as a variable such as `{PREFIX}DEADLINE`, or in a table `[serve]` of the TOML file of",
        "`--config`. The first of them wins.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in ServingSettings.model_fields.items():
        default = "all cores but one" if field.default_factory else shown(field.default)
        lines.append(f"| `{name}` | {default} | {cell(field.description or '')}{bounds(field)} |")
    return "\n".join(lines) + "\n"


def python() -> str:
    """Return the page on which mkdocstrings writes the docstrings of what is public."""
    lines = ["# Python", "", f"`laserrec` itself exports {', '.join(f'`{name}`' for name in laserrec.__all__ if name[0] != '_')}."]
    for heading, names in PYTHON.items():
        lines += ["", f"## {heading}"]
        for name in names:
            lines += ["", f"::: {name}"]
    return "\n".join(lines) + "\n"


def http() -> str:
    """Return every route of the service, from the document that it serves at `/openapi.json`."""
    document = create_app(cast(Service, None)).openapi()
    lines = ["# HTTP", "", "The service serves this as OpenAPI at `/openapi.json`. Bodies and answers are JSON."]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", operation.get("description", operation["summary"]), ""]
            lines += parameters(operation.get("parameters", []))
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
            lines += [f"{what}: {kind(schema)}.\n" for what, schema in (("Body", body), ("Answer", answer)) if schema]
    lines += ["", "## Bodies and answers"]
    for name, schema in document["components"]["schemas"].items():
        if schema.get("properties"):
            lines += ["", f"### {name}", "", schema.get("description", ""), "", *properties(schema)]
    return "\n".join(lines) + "\n"


def parameters(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a list of what stands in a route's path and query."""
    return [f"- `{each['name']}` ({each['in']}): {kind(each['schema'])}. {each.get('description', '')}" for each in found] + [""]


def properties(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rows of a body's fields."""
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for name, each in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else shown(each.get("default"))
        yield f"| `{name}` | {cell(kind(each))} | {default} | {cell(each.get('description', ''))} |"


def kind(schema: Mapping[str, Any]) -> str:
    """Return a schema's type in words, with a link to those that are described on the page."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[several] if each.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if schema.get("items") else "list"
    return str(schema.get("type", "any"))
