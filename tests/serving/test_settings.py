"""Options over environment over file over defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from laserrec.errors import ConfigError
from laserrec.serving.settings import ServingSettings


def test_options_win_over_the_environment_that_over_a_file_and_that_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "laser.toml"
    file.write_text('[serve]\nport = 1\nbatch = 2\nqueue_requests = 3\nnot_interest = ["seen"]\n\n[stage1]\nepochs = 9\n')
    environment = {"LASERREC_SERVE_PORT": "10", "LASERREC_SERVE_BATCH": "1", "LASERREC_CACHE": "x", "LASERREC_SERVE_DISLIKE": "no,never"}
    found = ServingSettings.gather({"port": 100, "host": None}, file, environment)
    assert (found.port, found.batch, found.queue_requests, found.host) == (100, 1, 3, "127.0.0.1")
    assert (found.not_interest, found.dislike) == (("seen",), ("no", "never"))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PROT", "1", "unknown setting 'prot'; known are host, port"),
        ("PORT", "70000", "port: .*65535; received '70000'"),
        ("DEADLINE", "nan", "deadline: .*finite"),
        ("BATCH", "1000", "batch must not exceed queue_requests; received 1000 and 512"),
    ],
)
def test_what_is_wrong_is_said(name: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        ServingSettings.gather(environment={f"LASERREC_SERVE_{name}": value})


@pytest.mark.parametrize("text", ["serve = 3", "serve = [", "\x00"])
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "laser.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"laser\.toml"):
        ServingSettings.gather(file=file, environment={})
    with pytest.raises(ConfigError, match="Cannot read"):
        ServingSettings.gather(file=tmp_path / "absent.toml", environment={})


def test_processes_share_the_memory_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.system.resources.available_memory", lambda: 24 * 2**30)
    assert ServingSettings().text_share is None
    assert ServingSettings(processes=3).text_share == 4
    assert ServingSettings(processes=3, text_memory=1.5).text_share == 1.5
