"""The large file storage: a second address, as the real one is, that knows signed addresses and no tokens."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

from .answers import Answer, Refusal, Request
from .store import Store

_KEY = secrets.token_bytes(16)


def download_address(store: Store, oid: str) -> str:
    """Give the address from which a large file can be read."""
    return f"{store.storage}/objects/{oid}?signature={_sign('GET', oid)}"


def upload_address(store: Store, kind: str, name: str, oid: str, size: int) -> str:
    """Give the address to which a large file can be sent, for one repository."""
    place = f"{kind}/{name}/{oid}/{size}"
    return f"{store.storage}/upload/{place}?signature={_sign('PUT', place)}"


def ranged(content: bytes, tag: str, asked: str | None, headers: Mapping[str, str]) -> Answer:
    """Give bytes, or the range of them that is asked for."""
    headers = {
        **headers,
        "Content-Type": "application/octet-stream",
        "ETag": f'"{tag}"',
        "Accept-Ranges": "bytes",
    }
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if match is None or match[0] == "bytes=-":
        return Answer(200, content, headers)
    size = len(content)
    first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Answer(206, content[first : last + 1], headers)


def _sign(method: str, place: str) -> str:
    return hmac.new(_KEY, f"{method} {place}".encode(), hashlib.sha256).hexdigest()


def _check(request: Request, place: str) -> None:
    if request.headers.get("Authorization"):
        # A token that leaves the Hub is a mistake of the client, and the real storage refuses it as well.
        raise Refusal(400, "Only one auth mechanism allowed: the address is signed, and a token was sent as well.")
    method = "GET" if request.method == "HEAD" else request.method
    if not hmac.compare_digest(request.asked("signature") or "", _sign(method, place)):
        raise Refusal(403, "SignatureDoesNotMatch")


def stored(request: Request, store: Store) -> Answer:
    """Answer a request to the storage."""
    match request.parts:
        case ["objects", oid] if request.method in ("GET", "HEAD"):
            _check(request, oid)
            return ranged(store.objects[oid], oid, request.headers.get("Range"), {})
        case ["upload", kind, *name, oid, size] if request.method == "PUT":
            _check(request, "/".join([kind, *name, oid, size]))
            if len(request.body) != int(size) or hashlib.sha256(request.body).hexdigest() != oid:
                raise Refusal(400, f"BadDigest: {len(request.body)} bytes arrived, and they are not {oid} of {size}")
            store.objects[oid] = request.body
            store.repositories[kind, "/".join(name)].uploaded.add(oid)
            return Answer(200, b"", {"ETag": f'"{oid}"'})
    raise Refusal(404, f"{request.method} {request.path} is not served")
