"""What an adapter's config may ask of whoever loads it: nothing but its own weights, and no more than they hold.

PEFT does what a config says before it looks at the weights: it makes room for ranks, copies layers, tries patterns on
the name of every layer. So a config is checked against the weights' shapes first.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from peft.utils.other import get_pattern_key

from ..errors import InputError, UnsupportedAdapterError
from ..text import printable

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""How PEFT's files begin the names of the base's layers."""

# These read nothing but their own two files. A list of what is known, since a new type may open anything.
_KNOWN = {
    *("ADALORA", "ADAMSS", "ADAPTION_PROMPT", "BEFT", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA"),
    *("GRALORA", "HIRA", "HRA", "IA3", "LILY", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT"),
    *("POLY", "PSOFT", "PVERA", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS", "UNILORA"),
    *("VBLORA", "VERA", "WAVEFT"),
}
_REFUSED = {
    **dict.fromkeys(
        ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"),
        "puts learned tokens before the text instead of changing weights",
    ),
    "XLORA": "is made of further adapters, which its own files do not hold",
    "SHADOW": "loads a further model, which may be a pickle",
}
# A repetition without an end: *, + or {2,}.
_REPEATED = re.compile(r"[*+]|\{\d*,\}")


def check_config(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], shown: str) -> str:
    """Refuse a config that asks for more than its weights hold, and return the adapter's type.

    `shapes` are those of the weights, by name; `shown` is what the adapter is called in messages.
    """
    kind = _kind_of(config, shown)
    _check_patterns(config, shown)
    _check_ranks(config, kind, shapes, shown)
    _check_copies(config, shapes, shown)
    alpha = config.get("lora_alpha")
    if isinstance(alpha, float) and not math.isfinite(alpha):
        raise InputError(f"the {CONFIG} of {shown} has lora_alpha={alpha}; a finite number is needed.")
    return kind


def text_of(config: Mapping[str, Any], key: str, shown: str) -> str | None:
    """Return a field that has to be text, None where there is none."""
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"the {CONFIG} of {shown} has {printable(repr(value))[:80]} as {key}; a text is needed.")
    return value or None


def _kind_of(config: Mapping[str, Any], shown: str) -> str:
    kind = text_of(config, "peft_type", shown)
    if kind is None:
        raise InputError(f"the {CONFIG} of {shown} has no peft_type, so PEFT cannot load it.")
    if kind in _REFUSED:
        raise UnsupportedAdapterError(
            f"{shown} is of type {kind}, which {_REFUSED[kind]}; use an adapter on the weights, such as LoRA."
        )
    if kind not in _KNOWN:
        raise UnsupportedAdapterError(
            f"{shown} is of type {printable(kind)[:80]}, of which it is not known whether it loads its own two files "
            "alone; use a known one, such as LoRA. Where you trust it, PeftModel.from_pretrained(base, adapter) of "
            "peft may load it."
        )
    return kind


def _check_ranks(config: Mapping[str, Any], kind: str, shapes: Mapping[str, tuple[int, ...]], shown: str) -> None:
    """Refuse a rank that the weights do not have: PEFT would make room for it before it compares them."""
    if kind not in ("LORA", "ADALORA"):
        return
    largest = max((max(shape) for shape in shapes.values() if shape and 0 not in shape), default=0)
    pattern = config.get("rank_pattern") if kind == "LORA" else None
    patterns = pattern if isinstance(pattern, dict) else {}
    # AdaLoRA does not use r.
    used = "r" if kind == "LORA" else "init_r"
    named = {used: config.get(used)} | {f"rank_pattern[{key!r}]": rank for key, rank in patterns.items()}
    for name, rank in named.items():
        # Also for layers that have no weights at all in the file.
        if isinstance(rank, int) and rank > largest:
            raise _wrong_rank(shown, name, rank, f"no side of a weight is longer than {largest}")
    if kind != "LORA" or (patterns and config.get("target_parameters")):
        return  # AdaLoRA leaves out rows of what it has made, and patterns name parameters in another way.
    for key, shape in shapes.items():
        layer, middle, _ = key.removeprefix(PREFIX).partition(".lora_")
        if not middle or not key.removesuffix(".weight").endswith(("lora_A", "lora_embedding_A")) or not shape:
            continue
        try:
            matched = get_pattern_key(tuple(patterns), layer)
        except re.error as error:
            raise InputError(
                f"the {CONFIG} of {shown} has a rank_pattern that is no regular expression: {printable(str(error))}."
            ) from error
        rank = patterns.get(matched, config.get("r", 8))
        # One that is too small takes no room, and PEFT tells it. Adapted parameters have rank times experts rows.
        if isinstance(rank, int) and rank > shape[0]:
            name = f"rank_pattern[{matched!r}]" if matched in patterns else "r"
            raise _wrong_rank(shown, name, rank, f"{printable(key)[:200]} has the rank {shape[0]}")


def _wrong_rank(shown: str, name: str, rank: int, but: str) -> InputError:
    # A number may have thousands of digits.
    number = str(rank) if abs(rank) < 10**18 else "more than 10**18"
    return InputError(
        f"the {CONFIG} of {shown} has {printable(name)[:200]}={number}, but in {WEIGHTS} {but}; these two files do "
        "not belong together."
    )


def _check_patterns(config: Mapping[str, Any], shown: str) -> None:
    """Refuse a pattern with a repetition inside a repetition, on which Python's matching may take for ever."""
    for name, pattern in _patterns(config):
        if _repeats_a_repetition(pattern):
            raise InputError(
                f"the {CONFIG} of {shown} has {name}={printable(pattern)[:200]!r}, which repeats what is repeated "
                "inside it already; trying that on the names of layers may take for ever. Write it without, or as a "
                "list of names."
            )


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give every regular expression of a config, with the field that it stands in."""
    for name in ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"):
        value = config.get(name)
        # A list of names is compared with the ends of names, but for layers_pattern; a dictionary's keys are patterns.
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, dict) or (name == "layers_pattern" and isinstance(value, list)):
            yield from ((name, pattern) for pattern in value if isinstance(pattern, str))


def _repeats_a_repetition(pattern: str) -> bool:
    """Tell whether a group that holds a repetition without an end is itself repeated without one."""
    plain = re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    open_groups = [False]
    for place, sign in enumerate(plain):
        if sign == "(":
            open_groups.append(False)
        elif sign == ")" and len(open_groups) > 1:
            holds_repetition = open_groups.pop()
            if holds_repetition and _REPEATED.match(plain, place + 1):
                return True
            open_groups[-1] |= holds_repetition
        elif _REPEATED.match(plain, place):
            open_groups[-1] = True
    return False


def _check_copies(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], shown: str) -> None:
    """Refuse more copies of layers than there are weights for: PEFT would make them all first."""
    copies = config.get("layer_replication")
    if not copies:
        return
    ranges = [tuple(part) for part in copies if isinstance(part, list | tuple)] if isinstance(copies, list) else []
    if not ranges or any(len(part) != 2 or not all(type(end) is int for end in part) for part in ranges):
        raise InputError(
            f"the {CONFIG} of {shown} has layer_replication={printable(repr(copies))[:80]}; it takes pairs of numbers."
        )
    numbers = [int(number) for key in shapes for number in re.findall(r"\.(\d{1,9})\.", key)]
    wanted, largest = sum(end - start for start, end in ranges), max(numbers, default=-1) + 1
    if wanted > largest or max(end for _, end in ranges) > largest:
        raise InputError(
            f"the {CONFIG} of {shown} makes {wanted} layers of others (layer_replication), but {WEIGHTS} has weights "
            f"for {largest} layers; these two files do not belong together."
        )
