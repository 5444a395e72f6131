"""A read-only Hub on this machine: data sets in memory, over HTTP, for the real clients of the Hugging Face libraries.

It answers what datasets 5.2 and huggingface_hub 2.4 ask for to load a data set of plain files: what a revision is, its
tree of files, and the files. Everything else is 404, as it is for a repository that is not there.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

Repositories = Mapping[str, Mapping[str, Mapping[str, bytes]]]
"""Id of a data set -> revision -> path in it -> content. The revision that "main" means is called "main"."""


@contextmanager
def serve(repositories: Repositories) -> Iterator[str]:
    """Serve some data sets on a free port of the loopback interface.

    Args:
        repositories: The data sets.

    Yields:
        The address, for HF_ENDPOINT.
    """

    class Handler(_Handler):
        contents = repositories

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit(name: str, revision: str, files: Mapping[str, bytes]) -> str:
    """Give the commit hash of a revision: of other content, another one."""
    state = hashlib.sha1(f"{name}@{revision}".encode(), usedforsecurity=False)
    for path, content in sorted(files.items()):
        state.update(path.encode() + b"\0" + content)
    return state.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    contents: ClassVar[Repositories]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes = b"") -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["api", "datasets", owner, name]:
                self._info(f"{owner}/{name}", "main")
            case ["api", "datasets", owner, name, "revision", revision]:
                self._info(f"{owner}/{name}", revision)
            case ["api", "datasets", owner, name, "tree", revision, *folder]:
                self._tree(f"{owner}/{name}", revision, "/".join(folder))
            case ["api", "datasets", owner, name, "paths-info", revision]:
                self._paths(f"{owner}/{name}", revision, body)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._file(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self._refuse("EntryNotFound", f"{self.command} {self.path} is not served")

    def _find(self, name: str, revision: str) -> tuple[str, Mapping[str, bytes]] | None:
        """Give commit hash and files, by name of the revision or by its hash; answer 404 where there are none."""
        for known, files in self.contents.get(name, {}).items():
            found = commit(name, known, files)
            if revision in (known, found):
                return found, files
        if name in self.contents:
            self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            self._refuse("RepoNotFound", "Repository not found")
        return None

    def _info(self, name: str, revision: str) -> None:
        if found := self._find(name, revision):
            sha, files = found
            self._json(
                {
                    "_id": hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:24],
                    "id": name,
                    "author": name.partition("/")[0],
                    "sha": sha,
                    "lastModified": "2026-01-02T03:04:05.000Z",
                    "createdAt": "2026-01-02T03:04:05.000Z",
                    "private": False,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "siblings": [{"rfilename": path} for path in sorted(files)],
                }
            )

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}

    def _tree(self, name: str, revision: str, folder: str) -> None:
        if not (found := self._find(name, revision)):
            return
        _, files = found
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["False"])[0].lower() in ("true", "1")
        prefix, entries, folders = f"{folder}/" if folder else "", [], set()
        for path, content in sorted(files.items()):
            rest = path.removeprefix(prefix)
            if not path.startswith(prefix):
                continue
            above = rest.split("/")[:-1]
            folders |= {prefix + "/".join(above[:depth]) for depth in range(1, len(above) + 1 if recursive else 2)
                        if above}  # fmt: skip
            if recursive or not above:
                entries.append(self._entry(path, content))
        if folder and not entries and not folders:
            self._refuse("EntryNotFound", f"{folder} does not exist")
            return
        made = [
            {"type": "directory", "path": path, "size": 0, "oid": _blob(path.encode())} for path in sorted(folders)
        ]
        self._json(made + entries)

    def _paths(self, name: str, revision: str, body: bytes) -> None:
        if found := self._find(name, revision):
            _, files = found
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            self._json([self._entry(path, files[path]) for path in asked if path in files])

    def _file(self, name: str, revision: str, path: str) -> None:
        if not (found := self._find(name, revision)):
            return
        sha, files = found
        if path not in files:
            self._refuse("EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
            return
        content = files[path]
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{_blob(content)}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        status, unit = 200, self.headers.get("Range", "")
        if unit.startswith("bytes="):
            first, _, last = unit.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            status, content = 206, content[start : end + 1]
        self._send(status, content, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _refuse(self, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        kind = {"Content-Type": "application/json", "X-Error-Code": code, "X-Error-Message": message}
        self._send(404, body, kind | dict(headers or {}))

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blob(content: bytes) -> str:
    """Hash a file as git does."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
