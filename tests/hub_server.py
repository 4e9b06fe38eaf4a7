"""A small Hugging Face Hub on 127.0.0.1: what `huggingface_hub` asks for, and faults on demand.

It speaks the revision, tree and resolve endpoints of dataset repositories, sends LFS files by a
redirect to a storage address, as the hub does, and answers byte ranges. Faults are real: stalls,
reset connections, short or wrong bodies.
"""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_PAGE = 3  # entries in a page of a listing, few so that following pages is tried
_FLIPPED = bytes(byte ^ 1 for byte in range(256))
_STALL_S = 20.0  # longest a stall can last


class Fault(NamedTuple):
    """What goes wrong with a request, once."""

    kind: str
    """`status`, `stall`, `reset`, `truncate`, `short`, `wrong` or `loop`."""
    match: str
    """Part of the address."""
    status: int = 500
    retry_after: int | str | None = None


class Request(NamedTuple):
    """A request that came, for tests to look at."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Repo:
    """A repository: commits with their files, and names for commits."""

    commits: dict[str, dict[str, bytes]]
    names: dict[str, str]
    gated: bool = False
    token: str | None = None
    """The token that opens a gated repository."""

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, a tag or itself."""
        return self.names.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the server serves, and what it was asked."""

    endpoint: str
    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    listed_extra_bytes: int = 0
    """Added to every size in listings."""
    stall_at: int | None = None
    """Bodies go no further than about so many bytes until this is None, to be interrupted there."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, path: str) -> Fault | None:
        """The first fault that is meant for this address; it happens once."""
        with self.lock:
            for fault in self.faults:
                if fault.match in path:
                    self.faults.remove(fault)
                    return fault
        return None

    def bytes_asked(self, match: str) -> list[str | None]:
        """The Range of every request for a body whose address has `match`."""
        return [r.range for r in self.requests if match in r.path and r.method == "GET"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith((".parquet", ".gz", ".zst"))


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        """Close; the usual polite end of a connection would turn a reset into an end."""
        self.close_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        get = self.headers.get
        self.hub.requests.append(
            Request(self.command, self.path, get("Range"), get("Authorization"))
        )
        self.fault = self.hub.take_fault(self.path)
        try:
            if self.fault is not None and self.fault.kind == "stall":
                self.hub.closing.wait(_STALL_S)
                self.close_connection = True
            elif self.fault is not None and self.fault.kind == "status":
                extra = self.fault.retry_after
                headers = {} if extra is None else {"Retry-After": str(extra)}
                self._send(self.fault.status, b"injected", headers)
            elif self.fault is not None and self.fault.kind == "loop":
                self._send(302, b"", {"Location": self.hub.endpoint + self.path})
            else:
                self._route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "storage":
            self._storage(parts[1])
        elif parts[:2] in (["api", "datasets"], ["api", "models"]):
            self._with_repo(parts[2:], self._api)
        elif parts[0] == "datasets":
            self._with_repo(parts[1:], self._resolve)
        elif parts[2:3] == ["resolve"]:
            self._with_repo(parts, self._resolve)
        else:
            self._send(404, b"", {})

    def _with_repo(self, parts: list[str], answer: Any) -> None:
        name = "/".join(parts[:2])
        repo = self.hub.repos.get(name)
        if repo is None:
            self._send(401, b"Invalid username or password.", {"X-Error-Code": "RepoNotFound"})
        elif repo.gated and self.headers.get("Authorization") != f"Bearer {repo.token}":
            status = 403 if self.headers.get("Authorization") else 401
            self._send(status, b"gated", {"X-Error-Code": "GatedRepo"})
        else:
            answer(name, repo, parts[2:])

    def _api(self, name: str, repo: Repo, rest: list[str]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        commit = repo.commit(revision)
        if commit is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif rest[:1] == ["tree"]:
            self._tree(repo.commits[commit], "/".join(rest[2:]))
        else:
            self._json({"_id": "1", "id": name, "sha": commit})

    def _tree(self, files: dict[str, bytes], folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        entries = [self._entry(p, c) for p, c in files.items() if p.startswith(prefix)]
        if not entries:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        parts = urlsplit(self.path)
        start = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        headers = {}
        if start + _PAGE < len(entries):
            following = f"{self.hub.endpoint}{parts.path}?recursive=True&cursor={start + _PAGE}"
            headers["Link"] = f'<{following}>; rel="next"'
        self._json(entries[start : start + _PAGE], headers)

    def _entry(self, path: str, content: bytes) -> dict[str, Any]:
        size = len(content) + self.hub.listed_extra_bytes
        entry = {"type": "file", "path": path, "size": size, "oid": git_sha1(content)}
        if is_lfs(path):
            entry["lfs"] = {"oid": sha256(content), "size": size, "pointerSize": 134}
        return entry

    def _resolve(self, name: str, repo: Repo, rest: list[str]) -> None:
        commit, path = repo.commit(rest[1]), "/".join(rest[2:])
        if commit is None or path not in repo.commits[commit]:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            self._send(404, b"", {"X-Error-Code": code})
            return
        content = repo.commits[commit][path]
        headers = {"X-Repo-Commit": commit}
        if is_lfs(path):
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256(content)}"'}
            storage = self.hub.endpoint.replace("127.0.0.1", "localhost")  # another host
            headers["Location"] = f"{storage}/storage/{sha256(content)}"
            self._send(302, b"", headers)
        else:
            self._body(content, headers | {"ETag": f'"{git_sha1(content)}"'})

    def _storage(self, digest: str) -> None:
        commits = (c for repo in self.hub.repos.values() for c in repo.commits.values())
        contents = {sha256(content): content for files in commits for content in files.values()}
        self._body(contents[digest], {"ETag": f'"{digest}"'})

    def _body(self, content: bytes, headers: dict[str, str]) -> None:
        status, size, start = 200, len(content), 0
        asked = self.headers.get("Range")
        if asked is not None:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= size:
                self._send(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
        body = content[start:]
        kind = "" if self.fault is None else self.fault.kind
        if kind == "wrong":
            body = body.translate(_FLIPPED)
        if kind == "short":
            body = body[: len(body) // 2]
        length = len(body)
        if kind in ("reset", "truncate"):
            body = body[: len(body) // 2]
        self._send(status, body, headers | {"Accept-Ranges": "bytes"}, length)
        if kind in ("reset", "truncate"):
            self._hang_up(kind)

    def _hang_up(self, kind: str) -> None:
        self.wfile.flush()
        self.close_connection = True
        if kind == "reset":  # close with a reset instead of an end; what was sent is read first
            self.hub.closing.wait(0.3)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(
            200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), 1 << 16):
            while self.hub.stall_at is not None and start >= self.hub.stall_at:
                if self.hub.closing.wait(0.01):
                    return
            self.wfile.write(body[start : start + (1 << 16)])
