"""What the tokens of a tokenizer stand for, and which tokens of two tokenizers stand for the same."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..errors import ConfigurationError

_METASPACE = "▁"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# These change how a text is written, not which text it is: a token behind them still spells what it looks like.
_FAITHFUL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Strip", "ByteLevel"}


@dataclass(frozen=True)
class Vocabulary:
    """What the tokens of one tokenizer stand for.

    Args:
        special: Special tokens by id, the one for unknown text among them: they are never text.
        spelled: For every other token, by id, the UTF-8 bytes of its text. Tokens that do not spell their text, such
            as those of WordPiece or behind lower-casing, are left out.
        meanings: Token ids by what they stand for. Equal keys of two vocabularies stand for the same.
        end: Id of the token that ends a text, or None.
    """

    special: dict[int, str]
    spelled: dict[int, bytes]
    meanings: dict[tuple[str, ...] | bytes, int]
    end: int | None


def read_vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Read what the tokens of a tokenizer stand for.

    "Ġthe" of a byte-level BPE and "▁the" of SentencePiece are both the text " the". A tokenizer whose tokens do not
    spell their text (WordPiece drops white space, lower-casing drops case) shares tokens only with one of the same
    rules. The token for unknown text stands for whatever its vocabulary cannot say, so it is shared only by equal
    tokenizers.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(models.BPE({"Ġ": 0, "t": 1, "Ġt": 2, "<end>": 3}, [("Ġ", "t")]))
        >>> words.pre_tokenizer = pre_tokenizers.ByteLevel()
        >>> vocabulary = read_vocabulary(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>"))
        >>> vocabulary.spelled, vocabulary.special
        ({0: b' ', 1: b't', 2: b' t'}, {3: '<end>'})
    """
    state = read_rules(tokenizer)
    added = tokenizer.added_tokens_decoder
    special = {number: token.content for number, token in added.items() if token.special}
    special |= {number: str(tokenizer.convert_ids_to_tokens(number)) for number in tokenizer.all_special_ids}
    literal = {number: token.content for number, token in added.items() if number not in special}
    spell = _spelling(state)
    spelled, rest, fallback = {}, {}, {}
    vocabulary = tokenizer.get_vocab()
    for token, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        if number in special:
            continue
        if spell is None:
            rest[number] = token
        elif number in literal:
            spelled[number] = token.encode()
        elif _falls_back_to_bytes(state) and (byte := _BYTE_TOKEN.fullmatch(token)):
            spelled[number] = bytes.fromhex(byte[1])
            fallback[number] = token
        elif (text := spell(token)) is not None:
            spelled[number] = text
    meanings: dict[tuple[str, ...] | bytes, int] = {}
    for number, text in spelled.items():
        if number not in fallback:
            meanings.setdefault(text, number)
    for number, token in fallback.items():
        # Where a proper token spells the same byte, that one is what the tokenizer uses.
        if meanings.setdefault(spelled[number], number) != number:
            meanings[("byte", token)] = number
    rules = json.dumps([state["normalizer"], state["pre_tokenizer"], without_tokens(state["model"])], sort_keys=True)
    meanings |= {("piece", rules, token): number for number, token in rest.items()}
    for number, token in special.items():
        unknown = number == tokenizer.unk_token_id
        meanings[("unknown", rules, *sorted(vocabulary)) if unknown else ("special", token)] = number
    return Vocabulary(special, spelled, meanings, tokenizer.eos_token_id)


def shared_tokens(
    new_tokenizer: PreTrainedTokenizerBase,
    old_tokenizer: PreTrainedTokenizerBase,
    *,
    new_size: int | None = None,
    old_size: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair the tokens that stand for the same on both sides: one text, one special token, or the end of a text.

    Tokens beyond the size of a model's logits are left out. Returns the new and the old ids of the pairs, (shared,),
    ascending in the new id; no id occurs twice.
    """
    new, old = read_vocabulary(new_tokenizer), read_vocabulary(old_tokenizer)
    rows = paired_meanings(new, old, write_numbers_alike(new, old))
    for column, size in enumerate((new_size, old_size)):
        if size is not None:
            rows = rows[rows[:, column] < size]
    return rows[:, 0], rows[:, 1]


def paired_meanings(new: Vocabulary, old: Vocabulary, numbers_are_alike: bool) -> NDArray[np.int64]:
    """Pair the tokens of two vocabularies: new and old id, (shared, 2), ascending in the new id.

    Where numbers are written differently, digits are left out: "2" is a whole number to a tokenizer that also has "20"
    as a token, and its beginning to one that has not.
    """
    pairs = {number: old.meanings[meaning] for meaning, number in new.meanings.items() if meaning in old.meanings}
    if not numbers_are_alike:
        pairs = {
            number: other for number, other in pairs.items() if not new.spelled.get(number, b"").strip().isdigit()
        }
    if new.end is not None and old.end is not None and new.end not in pairs and old.end not in pairs.values():
        pairs[new.end] = old.end
    return np.array(sorted(pairs.items()), dtype=np.int64).reshape(-1, 2)


def write_numbers_alike(new: Vocabulary, old: Vocabulary) -> bool:
    """Tell whether two vocabularies have the same tokens of two digits or more."""
    return _longer_numbers(new) == _longer_numbers(old)


def _longer_numbers(vocabulary: Vocabulary) -> set[bytes]:
    pieces = [meaning[2] for meaning in vocabulary.meanings if isinstance(meaning, tuple) and meaning[0] == "piece"]
    written = [piece.removeprefix("##").removesuffix("</w>").strip(_METASPACE).encode() for piece in pieces]
    texts = (text.strip() for text in (*vocabulary.spelled.values(), *written))
    return {text for text in texts if len(text) > 1 and text.isdigit()}


def read_rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the rules of a fast tokenizer, as its tokenizer.json has them."""
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which does not say where its tokens stand in a text. "
            "Load the fast one (a tokenizer.json beside the model, AutoTokenizer with use_fast=True)."
        )
    return dict(json.loads(tokenizer.backend_tokenizer.to_str()))


def without_tokens(model: dict[str, Any]) -> dict[str, Any]:
    """Return the options and merges of a tokenizer's model, without its tokens and their ids."""
    options = {key: value for key, value in model.items() if key not in ("vocab", "unk_id")}
    if model.get("unk_id") is not None:
        options["unk_token"] = model["vocab"][model["unk_id"]][0]
    return options


def _components(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    if component is None:
        return []
    for inner in ("normalizers", "pretokenizers", "decoders"):
        if inner in component:
            return [piece for part in component[inner] for piece in _components(part)]
    return [component]


def _falls_back_to_bytes(state: dict[str, Any]) -> bool:
    return bool(state["model"].get("byte_fallback"))


def _spelling(state: dict[str, Any]) -> Callable[[str], bytes | None] | None:
    """A function from a token to its bytes (None if it spells none), or None where tokens do not spell their text."""
    model = state["model"]
    normalizers = _components(state["normalizer"])
    faithful = all(
        part["type"] in _FAITHFUL_NORMALIZERS or (part["type"] == "Replace" and part["content"] == _METASPACE)
        for part in normalizers
    )
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] not in ("BPE", "Unigram") or not faithful or affixes:
        return None
    components = [*normalizers, *_components(state["pre_tokenizer"]), *_components(state["decoder"])]
    if any(part["type"] == "ByteLevel" for part in components):
        alphabet = _byte_alphabet()
        return lambda token: bytes(map(alphabet.__getitem__, token)) if alphabet.keys() >= set(token) else None
    if any(part["type"] == "Metaspace" or part.get("content") == _METASPACE for part in components):
        return lambda token: token.replace(_METASPACE, " ").encode()
    return None


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in a byte-level BPE: printable ones for themselves, others from 256 up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
