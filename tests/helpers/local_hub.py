"""A Hugging Face hub of one machine: as much of its HTTP interface as pushing and loading models needs, repositories in memory.

Private repositories are there only for those who bring TOKEN, as on the real hub; for others they do not exist.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_shop"


@dataclass
class Repository:
    """One repository; its history is only as long as its last commit."""

    files: dict[str, bytes]
    private: bool = False
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


class LocalHub(ThreadingHTTPServer):
    """Serves `repositories`, by `owner/name`, at `endpoint`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[LocalHub]:
    """A hub that answers until the block ends."""
    with LocalHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self) -> None:
        body, path = self.rfile.read(int(self.headers["Content-Length"])), unquote(urlsplit(self.path).path).split("/")
        if not self.allowed:
            return self.refuse(401, "Invalid username or password.")
        if path[2:] == ["repos", "create"]:
            return self.create(json.loads(body))
        name, act = "/".join(path[3:5]), path[5]
        repository = self.server.repositories[name]
        if act == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                repository.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            else:
                repository.messages.append(line["value"]["summary"])
        url = f"{self.server.endpoint}/{name}/commit/{repository.commit}"
        return self.answer({"commitUrl": url, "commitOid": repository.commit, "success": True})

    def create(self, asked: Mapping[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            return self.answer({"error": "You already created this model repo", "url": f"{self.server.endpoint}/{name}"}, 409)
        self.server.repositories[name] = Repository({}, asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.answer({"url": f"{self.server.endpoint}/{name}"})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = path[:2] == ["api", "models"]
        path = path[2:] if api else path
        name, act = "/".join(path[:2]), path[2] if len(path) > 2 else ""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.allowed):
            return self.refuse(401, "Invalid username or password.", "RepoNotFound")
        if api and act == "tree":
            return self.answer([{"type": "file", "path": p, "size": len(c), "oid": _blob(c)} for p, c in repository.files.items()])
        if api:
            siblings = [{"rfilename": path} for path in repository.files]
            return self.answer({"id": name, "sha": repository.commit, "private": repository.private, "siblings": siblings})
        file = repository.files.get("/".join(path[4:]))
        if act != "resolve" or file is None:
            return self.refuse(404, "Entry not found", "EntryNotFound", repository.commit)
        return self.send(200, file, {"ETag": f'"{_blob(file)}"', "X-Repo-Commit": repository.commit})

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, message: str, code: str = "", commit: str = "") -> None:
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.send(status, json.dumps({"error": message}).encode(), {key: value for key, value in headers.items() if value})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
