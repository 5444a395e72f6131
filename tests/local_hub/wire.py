"""The HTTP server: reads requests, injects faults, sends answers."""

import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .answers import Answer, Refusal, Request
from .faults import Fault, Faults
from .store import Store

Route = Callable[[Request, Store], Answer]


class _Cut(Exception):  # noqa: N818 - a fault that was asked for
    """The connection is to be closed now, before all was said."""


class _CutOff(_Cut):
    """The connection is to be reset now, before all was heard."""


class Log:
    """What was asked and answered, and what went wrong in the server itself."""

    def __init__(self) -> None:
        """Begin empty."""
        self.requests: list[tuple[str, str, int]] = []
        self.crashes: list[str] = []


class Server(ThreadingHTTPServer):
    """One address of the Hub, on a free port of the loopback interface."""

    def __init__(self, store: Store, faults: Faults, log: Log, route: Route, name_of_hub: str | None = None) -> None:
        """Serve with `route`; `name_of_hub` is the address of the Hub, where that is another one."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store, self.faults, self.log, self.route = store, faults, log, route
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.name_of_hub = name_of_hub or self.address
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing any more."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what a test has to hear of; a client that went away is none of that."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.log.crashes.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""

    def _serve(self) -> None:
        if (self.command, self.path) == ("HEAD", "/"):
            # Whether anybody is here is no request that a test counts, or lets go wrong.
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fault = self.server.faults.take(self.command, self.path)
        try:
            body = self._body(fault)
            hold = None if fault is None else fault.hold
            if hold is not None:
                hold.keep()
            answer = self._faulty(fault) if fault is not None and fault.status is not None else self._answer(body)
            if hold is not None:
                hold.finish()
            if fault is not None and fault.answer_lost:
                raise _Cut
            self._send(answer, fault)
        except _Cut as cut:
            self.server.log.requests.append((self.command, self.path, 0))
            if isinstance(cut, _CutOff):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that the base class looks for

    def _body(self, fault: Fault | None) -> bytes:
        """Read all of it; or up to where the connection is to be cut."""
        found = bytearray()
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                self._read(size, found, fault)
                self.rfile.readline()
            self.rfile.readline()
        else:
            self._read(int(self.headers.get("Content-Length") or 0), found, fault)
        if found and fault is not None and fault.cut_after_bytes is not None:
            raise _CutOff
        return bytes(found)

    def _read(self, size: int, found: bytearray, fault: Fault | None) -> None:
        while size:
            wanted = min(size, 1 << 16)
            if fault is not None and fault.cut_after_bytes is not None:
                wanted = min(wanted, fault.cut_after_bytes - len(found))
                if wanted <= 0:
                    raise _CutOff
            got = self.rfile.read(wanted)
            if not got:
                raise ConnectionResetError("the client went away")
            found += got
            size -= len(got)

    def _answer(self, body: bytes) -> Answer:
        store = self.server.store
        try:
            with store.lock:
                user = store.user_of(self.headers.get("Authorization"))
                return self.server.route(
                    Request(self.command, self.path, self.headers, body, user, self.server.name_of_hub), store
                )
        except Refusal as refusal:
            return refusal.answer()
        except Exception as error:
            self.server.log.crashes.append(traceback.format_exc())
            return Refusal(500, f"the local Hub itself failed: {error!r}").answer()

    def _faulty(self, fault: Fault) -> Answer:
        assert fault.status is not None
        refusal = Refusal(fault.status, fault.words, fault.code)
        if fault.retry_after is not None:
            refusal.headers["Retry-After"] = str(fault.retry_after)
            if fault.status == 429:
                refusal.headers["RateLimit"] = f'"api";r=0;t={fault.retry_after}'
        return refusal.answer()

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        sent = answer.body
        if fault is not None and fault.cut_after_bytes is not None:
            sent = sent[: min(fault.cut_after_bytes, max(len(sent) - 1, 0))]
            if not sent or self.command == "HEAD":
                raise _Cut
        else:
            self.server.log.requests.append((self.command, self.path, answer.status))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
            if len(sent) < len(answer.body):
                raise _Cut
