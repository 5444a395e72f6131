"""Whether a file is on the Hub already, told without fetching it."""

import hashlib

from huggingface_hub import CommitOperationAdd
from huggingface_hub.hf_api import RepoFile


def is_same(addition: CommitOperationAdd, there: RepoFile) -> bool:
    """Tell whether a file of the Hub has the content that is to go there.

    Git names small files by their SHA-1, and the storage names large ones by their SHA-256.

    Args:
        addition: What is to go there.
        there: What the Hub says of the file.
    """
    info = addition.upload_info
    if info.size != there.size:
        return False
    if there.lfs is not None:
        return info.sha256.hex() == there.lfs.sha256
    digest = hashlib.sha1(b"blob %d\0" % info.size, usedforsecurity=False)
    with addition.as_file() as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == there.blob_id
