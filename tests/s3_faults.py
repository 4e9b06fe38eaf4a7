"""A proxy before an S3 server that does to requests what networks and storages do."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Storage:
    """A server with faults that can be set while it runs."""

    endpoint: str
    refuse: set[str] = field(default_factory=set)
    """Methods that are answered with 403, which no client repeats by itself."""
    damage: list[str] = field(default_factory=list)
    """Parts of addresses; the next body sent to each arrives with a byte changed."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each."""


@contextmanager
def faulty(endpoint: str) -> Iterator[Storage]:
    """Serve what `endpoint` serves, at another address."""
    upstream = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            storage.requests.append((self.command, self.path))
            if self.command in storage.refuse:
                self._answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
                return
            for match in storage.damage if self.command == "PUT" else []:
                if match in self.path:
                    storage.damage.remove(match)
                    body = bytes([body[0] ^ 1]) + body[1:]
                    break
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())
            connection.close()

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            length = headers.get("Content-Length", headers.get("content-length"))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD" and length is not None
            self.send_header("Content-Length", str(length) if is_head else str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if is_head else body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

        def log_message(self, *args: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    storage = Storage(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        server.server_close()
