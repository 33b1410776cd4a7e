"""The OpenAPI document and the answers agree: Schemathesis sends what the document allows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import Served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="session")
def document(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of a service that runs."""
    folder = tmp_path_factory.mktemp("documented")
    served = Served(model_folder, f"sqlite:///{folder / 'store.db'}", folder)
    served.start()
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")
    served.kill()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_documented_and_none_is_a_failure(document: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) == 19
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=15, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        def ask(case: Case) -> None:
            case.call_and_validate(checks=CHECKS, timeout=20)

        try:
            ask()
        except Unsatisfiable:  # nothing that is wrong can be sent where nothing is sent
            assert mode is GenerationMode.NEGATIVE
            assert operation.path in {"/livez", "/readyz", "/metrics"}
