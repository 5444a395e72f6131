"""Large files as hf_xet sends them, which is how they travel wherever that package is installed and not disabled.

The protocol of its storage is not spoken here. hf_xet can keep what it is given in a folder instead, and the Hub here
hands out the address of one: the real client cuts, hashes and deduplicates the real bytes, and reads them back; only
the way over the network is missing, and with it the faults that could be injected there. What is injected for the
token (`xet-write-token`, `xet-read-token`) does take effect. Two clients at once may get in each other's way, because
hf_xet locks the folder.
"""

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .answers import Answer, Request, reply
from .store import Store

_FOLDER = Path("xet", "xorbs")
_HEADER, _ENTRY = 48, 48
_VERIFIED, _EXTENDED = 1 << 31, 1 << 30

# In a process of its own, because hf_xet starts threads that a test process, which may fork, is better off without.
_READ = """
import sys
import hf_xet
folder, digest, size, target = sys.argv[1:]
with hf_xet.XetSession().new_file_download_group(
    endpoint=f"local://{folder}", token="local", token_expiry_unix_secs=1 << 33
) as group:
    group.start_download_file(hf_xet.XetFileInfo(digest, int(size)), target)
"""


def token(request: Request, store: Store, kind: str, name: str, revision: str, *, right: str) -> Answer:
    """Say where the storage is, to who may read or write."""
    if right == "read":
        store.check_read(store.find(kind, name, request.user), request.user)
    elif revision == "None" or revision.startswith("refs/pr/") or request.flag("create_pr"):
        store.find(kind, name, request.user)
        store.check_write(request.user, None, "")
    else:
        store.writable(kind, name, request.user)
    told = {"accessToken": f"xet-{right}", "exp": int(time.time()) + 3600, "casUrl": f"local://{store.xet_folder}"}
    names = {"accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration", "casUrl": "X-Xet-Cas-Url"}
    return reply(told, headers={names[name]: str(value) for name, value in told.items()})


def arrived(store: Store, oid: str) -> tuple[str, bytes] | None:
    """Give what hf_xet calls a file and its content, by its sha256; None where it did not arrive that way."""
    for found, digest, size in _files(store.xet_folder / _FOLDER / "shards"):
        if found == oid:
            return digest, _content(store.xet_folder, digest, size)
    return None


def _files(shards: Path) -> Iterator[tuple[str, str, int]]:
    """Give sha256, xet hash and size of each file that the shards describe; see huggingface.co/docs/xet/shard."""
    for shard in shards.glob("*.mdb"):
        data, place = shard.read_bytes(), _HEADER
        while data[place : place + 32] != b"\xff" * 32:
            digest, (flags, count) = _hex(data[place : place + 32]), struct.unpack_from("<II", data, place + 32)
            place += _ENTRY
            size = sum(struct.unpack_from("<I", data, place + entry * _ENTRY + 36)[0] for entry in range(count))
            place += _ENTRY * count * (2 if flags & _VERIFIED else 1)
            if flags & _EXTENDED:
                yield _hex(data[place : place + 32]), digest, size
                place += _ENTRY


def _hex(digest: bytes) -> str:
    """Write a hash as Xet does: four numbers, each of eight bytes with the lowest first."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def _content(folder: Path, digest: str, size: int) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        # The client that asks for the commit may still hold the lock of the folder.
        copy, target = Path(scratch, "copy"), Path(scratch, "content")
        shutil.copytree(folder, copy)
        command = [sys.executable, "-c", _READ, str(copy), digest, str(size), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # noqa: S603 - our own interpreter
        if done.returncode != 0:
            raise RuntimeError(f"hf_xet cannot read what it wrote: {done.stderr}")
        return target.read_bytes()
