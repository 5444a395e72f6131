"""A Hub on this machine, for the real clients of the Hugging Face libraries.

It speaks the part of the Hub's HTTP API that huggingface_hub 2.4 (and with it transformers, peft, datasets, evaluate)
uses to make repositories, to upload, to list and to download: accounts and tokens, models, data sets and Spaces,
private and gated ones, commits with regular and large files, branches, tags and pull requests. Large files lie at a
second address, as they do at the real Hub. What it does not know is 404 with a message that says so.

    with local_hub.hub(tokens={"token-of-ann": User("ann", orgs=("acme",))}) as hub:
        hub.create("acme/base", files={"config.json": b"{}"})
        done = run_client("from huggingface_hub import HfApi; print(HfApi().whoami()['name'])", hub,
                          token="token-of-ann", home=tmp_path)
"""

from .accounts import User
from .client import run_client
from .faults import Fault, Hold
from .repository import PullRequest
from .serving import Hub, hub, serve

__all__ = ["Fault", "Hold", "Hub", "PullRequest", "User", "hub", "run_client", "serve"]
