"""Who `muscle-hf predict` asks: an adapter in this process, one in vLLM, or the model of an endpoint."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, InputError
from ..launched import is_one_of_several

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..prediction.engines.interface import Engine

ENGINES = ("transformers", "vllm", "openai")
# Options of one engine alone, with their values where they are not given.
_OF_ADAPTERS = {"revision": None, "base_model": None, "base_revision": None, "dtype": "auto"}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "transformers": {**_OF_ADAPTERS, "trust_remote_code": False, "device_map": None, "batch_size": None},
    "vllm": {**_OF_ADAPTERS, "trust_remote_code": False},
    "openai": {"base_url": None, "api_key_env": None, "concurrency": None},
}
_BATCH_SIZE, _CONCURRENCY = 32, 8


@dataclass(frozen=True)
class Asked:
    """Whoever is asked, before anything is loaded."""

    name: str  # for the last line
    identity: Mapping[str, Any]  # what decides the answers, beside the questions
    tokenizer: "PreTrainedTokenizerBase | None"  # None where nobody here knows it
    load: "Callable[[], Engine]"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who is asked."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="transformers",
        help="what runs the model: transformers, vllm (where installed), or openai for any server with OpenAI's "
        "interface (default: transformers)",
    )
    model = parser.add_argument_group("the model (--engine transformers or vllm)")
    model.add_argument("--revision", help="branch, tag or commit of the adapter")
    model.add_argument("--base-model", metavar="MODEL", help="id or folder (default: what the adapter names)")
    model.add_argument("--base-revision", metavar="REVISION", help="(default: what the adapter was trained on)")
    model.add_argument("--dtype", default="auto", help="such as bfloat16 (default: the one it is saved in)")
    model.add_argument("--device-map", metavar="WHERE", help="such as auto or cuda:1 (default: the GPU, if there)")
    model.add_argument("--trust-remote-code", action="store_true", help="run code that the base's repository brings")
    endpoint = parser.add_argument_group("the endpoint (--engine openai)")
    endpoint.add_argument("--base-url", metavar="URL", help="address of the server, such as http://localhost:8000/v1")
    endpoint.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key (default: OPENAI_API_KEY, where it is set)",
    )
    endpoint.add_argument("--concurrency", type=int, metavar="N", help="requests at once (default: 8)")


def check(arguments: argparse.Namespace) -> None:
    """Refuse, before anything is loaded, what the engine has no use for or lacks."""
    engine = arguments.engine
    for other, options in _OPTIONS.items():
        for name, default in options.items():
            if name not in _OPTIONS[engine] and getattr(arguments, name) != default:
                raise ConfigurationError(
                    f"--{name.replace('_', '-')} would do nothing with --engine {engine}; leave it out, or ask with "
                    f"--engine {other}."
                )
    if is_one_of_several() and engine == "vllm":
        raise ConfigurationError("--engine vllm takes GPUs by itself; start it as one process.")
    if is_one_of_several() and arguments.device_map is not None:
        raise ConfigurationError(
            f"--device-map {arguments.device_map} would place the models of all processes alike. Leave it out: each "
            "takes the GPU of its number."
        )
    if engine == "openai" and arguments.base_url is None:
        raise ConfigurationError("--engine openai needs --base-url, such as http://localhost:8000/v1.")


def asked(arguments: argparse.Namespace) -> Asked:
    """Find out who is asked; models are loaded later."""
    return _endpoint(arguments) if arguments.engine == "openai" else _adapter(arguments)


def _endpoint(arguments: argparse.Namespace) -> Asked:
    from ..prediction.engines.endpoint import OpenAIEngine
    from ..prediction.questions import quoted

    engine = OpenAIEngine(
        arguments.base_url,
        arguments.adapter,
        api_key_env=arguments.api_key_env,
        concurrency=arguments.concurrency or _CONCURRENCY,
    )
    return Asked(f"{quoted(engine.model)} at {quoted(engine.address.url)}", engine.identity, None, lambda: engine)


def _adapter(arguments: argparse.Namespace) -> Asked:
    from ..models.load import find_files, load_files, load_tokenizer
    from ..models.placement import check_placing
    from ..models.splitting import is_told_to_split, split_to_ask
    from ..prediction.answer_file import identity_of
    from ..prediction.engines.in_process import TransformersEngine
    from ..prediction.engines.offline import VLLMEngine, library
    from ..prediction.questions import quoted

    is_vllm = arguments.engine == "vllm"
    if is_vllm:
        library()
    check_placing(arguments.dtype, arguments.device_map)
    files, base = find_files(
        arguments.adapter, arguments.revision, arguments.base_model, arguments.base_revision, None
    )
    if files.task == "SEQ_2_SEQ_LM" and is_vllm:
        raise InputError(
            f"{arguments.adapter} belongs to an encoder-decoder, which vLLM does not ask here. Leave --engine out."
        )
    if files.task not in ("CAUSAL_LM", "SEQ_2_SEQ_LM"):
        raise InputError(
            f"{arguments.adapter} is a classifier (task_type={files.task}); predict asks language models. In Python, "
            "muscle_hf.load_adapter loads it."
        )
    options = {
        "dtype": arguments.dtype,
        "device_map": arguments.device_map or (None if is_told_to_split() else _device()),
        "trust_remote_code": arguments.trust_remote_code,
        "token": None,
    }
    tokenizer = load_tokenizer(files, base, options)

    def load() -> "Engine":
        if is_vllm:
            more = {"dtype": arguments.dtype, "trust_remote_code": arguments.trust_remote_code}
            return VLLMEngine(base.name, files.folder, tokenizer, revision=base.commit, **more)
        model = split_to_ask(load_files(files, base, options), _device() or "cpu")
        return TransformersEngine(model, tokenizer, arguments.batch_size or _BATCH_SIZE)

    identity = identity_of(files, base, tokenizer, arguments.dtype, runs_in="vllm" if is_vllm else "torch")
    names = [quoted(of.name) + (f" ({of.commit[:12]})" if of.commit else "") for of in (files, base)]
    return Asked(f"{names[0]} on {names[1]}", identity, tokenizer, load)


def _device() -> str | None:
    import torch

    if is_one_of_several():
        return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else None
    return "cuda" if torch.cuda.is_available() else None
