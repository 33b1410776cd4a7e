"""The tutorial of the first service and the page that continues it run, on a small shop and a tiny language model."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from csv_shop import write_llm, write_shop
from served import Served

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("tutorial/first-service.md", "how-to/run-a-service.md")
TEXT = "".join((REPOSITORY / "docs" / page).read_text() for page in PAGES)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]


def test_the_commands_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from laserrec.assets import ASSETS
    from laserrec.cli import main
    from laserrec.llm.gguf import converted_folder

    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "shop").mkdir()
    write_shop(tmp_path / "shop")
    write_llm(converted_folder(ASSETS[0]))
    served = Served(tmp_path / "runs" / "shop", f"sqlite:///{tmp_path / 'laserrec.db'}", tmp_path)
    done: list[str] = []
    try:
        for line in LINES:
            program, *words = shlex.split(line)
            here = [word.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}") for word in words]
            here = [word.replace('"runs/shop"', json.dumps(str(tmp_path / "runs" / "shop"))) for word in here]
            done.append(program)
            if line == "laserrec serve runs/shop":
                served.start()
            elif program == "laserrec":
                monkeypatch.setattr(sys, "argv", [program, *words])
                with pytest.raises(SystemExit) as end:
                    main()
                assert not end.value.code, line
                assert capfd.readouterr().out.strip(), line
            elif program == "curl":
                answer = json.loads(subprocess.run([program, *here], check=True, capture_output=True).stdout)
                assert "error" not in answer, (line, answer)
            elif program == "python":
                script = [sys.executable, REPOSITORY / here[0], *here[1:]]
                shown = subprocess.run(script, check=True, capture_output=True, text=True).stdout
                assert shown.startswith("{'accepted': 1")
                assert len(shown.splitlines()) == 4
            else:
                assert words[:3] == ["install", "-c", "constraints.txt"]
    finally:
        if served.process is not None:
            served.kill()
    assert (done.count("laserrec"), done.count("curl")) == (6, 18)
