"""All repositories of the Hub, and who may do what to which."""

import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from .accounts import User
from .answers import Refusal
from .repository import Blob, Repository

KINDS = ("model", "dataset", "space")

# What a new repository keeps in the large file storage, by name.
_PATTERNS = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx "
    "*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip "
    "*.zst *tfevents*"
)
_LARGE = _PATTERNS.split()

GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LARGE).encode()
"""The one file of a new repository."""


class Store:
    """The Hub's state. Its lock is held while a request is answered, so that a commit is there as a whole or not."""

    def __init__(self, tokens: Mapping[str, User]) -> None:
        """Make an empty Hub that knows some tokens."""
        self.tokens = dict(tokens)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        """Large files, by their sha256."""
        self.storage = ""
        """The address of the large file storage."""
        self.xet_folder = Path()
        """Where hf_xet keeps large files."""
        self.xet_hashes: dict[str, str] = {}
        """What hf_xet calls large files that came that way, by their sha256."""
        self.page_size = 1000
        self.lock = threading.RLock()

    def user_of(self, authorization: str | None) -> User | None:
        """Who sent a request; a token that the Hub does not know is refused, even where none is needed."""
        if not authorization:
            return None
        user = self.tokens.get(authorization.removeprefix("Bearer ").strip())
        if user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def create(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        author: str = "system",
        private: bool = False,
        gated: str | bool = False,
    ) -> Repository:
        """Make a repository with one commit."""
        made = Repository(kind, name, private=private, gated=gated)
        made.branches["main"] = made.add(self.blobs(made, files), "initial commit", author, None).sha
        self.repositories[kind, name] = made
        return made

    def blobs(self, repository: Repository, files: Mapping[str, bytes]) -> dict[str, Blob]:
        """Give files as a repository keeps them, the large ones in the storage, as if they had been uploaded."""
        found = {path: Blob(content, is_large(path, content)) for path, content in files.items()}
        for blob in found.values():
            if blob.lfs:
                self.objects[blob.sha256] = blob.content
                repository.uploaded.add(blob.sha256)
        return found

    def find(self, kind: str, name: str, user: User | None) -> Repository:
        """Find a repository that the user may see.

        For the real Hub, one that is not there and one that is private are the same: 404 for who is logged in, 401
        for who is not. The client takes that 401 for "not found" by its address, which begins with https there; here
        the error code says it.
        """
        found = self.repositories.get((kind, name))
        if found is not None and found.sees(user):
            return found
        if user is None:
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")

    def writable(self, kind: str, name: str, user: User | None) -> Repository:
        """Find a repository that the user may change."""
        found = self.find(kind, name, user)
        self.check_write(user, found.namespace, f'You don\'t have the rights to write to "{name}".')
        return found

    def check_write(self, user: User | None, namespace: str | None, message: str) -> User:
        """Refuse who is not logged in, whose token only reads, and who does not own the namespace, if one is given."""
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if not user.can_write:
            raise Refusal(403, "Forbidden: you must use a write token to do this.")
        if namespace is not None and not user.owns(namespace):
            raise Refusal(403, f"Forbidden: {message}")
        return user

    def check_read(self, repository: Repository, user: User | None) -> None:
        """Refuse the files of a gated repository to who has not accepted its conditions."""
        if not repository.gated or (user and (user.owns(repository.namespace) or user.name in repository.accepted)):
            return
        name = repository.name
        if user is None:
            raise Refusal(
                401,
                f"Access to {repository.kind} {name} is restricted. You must have access to it and be authenticated "
                "to access it. Please log in.",
                "GatedRepo",
            )
        raise Refusal(
            403,
            f"Access to {repository.kind} {name} is restricted and you are not in the authorized list. Visit "
            f"https://huggingface.co/{repository.address} to ask for access.",
            "GatedRepo",
        )


def is_large(path: str, content: bytes, size: int | None = None) -> bool:
    """Say whether the Hub keeps a file in the large file storage: by its name, its size, or as it is no text."""
    name = path.rpartition("/")[2]
    if any(fnmatchcase(name, pattern) for pattern in _LARGE) or (size or len(content)) > 10_000_000:
        return True
    try:
        return "\0" in content.decode()
    except UnicodeDecodeError as error:
        # A sample may end in the middle of a character.
        return error.start < len(content) - 3
