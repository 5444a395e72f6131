"""How files are spoiled, and how they are written otherwise without meaning anything else; for `fuzz.py`."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Json = Any

# Values where another was: of another type, too large, no number, empty, deep, odd letters.
_HOSTILE: tuple[Json, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 5e-324, math.nan, math.inf, -math.inf, 2**53 + 1, 2**63),
    *(10**40, -(10**80), "", " ", "0", "1.0", "nan", "None", "true", "\0", "a\nb", "\t", "\ufeff", "\ud800", "\udfff"),
    *("e\u0301", "\u00e9", "\u202ea", "\U0001f600", "\uff21", "x" * 3000, "9" * 5000, "1e999", "[", "{}", "=1+1"),
    *([], {}, [[]], [None], [[], {}], {"": None}, [1, "1"], ["A", None], [True, 1.5], {"a": {"b": [0]}}),
)
# The same in letters, where Python would not write it.
_TOKENS = (
    *("NaN", "-Infinity", "1e999", "-1e999", "9" * 5000, "1" + "0" * 400 + ".0", "[" * 3000, "[" * 3000 + "]" * 3000),
    *('{"a":' * 3000, "nul", "True", "'A'", '"\\ud83d"', '"\\u12"', '"\\x41"', "0x10", "01", "1.", ".5", "+1", "--1"),
    *("", ",", '"', "{", "}", "]", ":", '"a" "b"', "/* */ 1", "\\", '"\t"', '"\n"', "\u00a01", "\u2028"),
)
_BYTES = (
    *(
        b"\0",
        b"\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b'"',
        b"'",
    ),
    *(
        b",",
        b";",
        b"\t",
        b"|",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"PAR1",
        b"\x28\xb5\x2f\xfd",
    ),
    *(b"version https://git-lfs.github.com/spec/v1\n", b"<<<<<<< HEAD\n", b"=======\n", b"\x1a", b"\x7f", b"\x80"),
)


def spoil_bytes(random: Random, content: bytes) -> bytes:
    """Change some bytes: flips, cuts, insertions, doubled and moved parts, lines in another order."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        content = random.choice(_OF_BYTES)(random, content)
    return content


def _flip(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 16)) if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, content: bytes) -> bytes:
    place = random.randrange(len(content) + 1)
    return random.choice((content[:place], content[:place], content[place:]))


def _span(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.choice((1, 2, 4, 16, 64, 400)))


def _remove(random: Random, content: bytes) -> bytes:
    start, end = _span(random, content)
    return content[:start] + content[end:]


def _double(random: Random, content: bytes) -> bytes:
    start, end = _span(random, content)
    return content[:end] * random.choice((1, 1, 2)) + content[start:]


def _move(random: Random, content: bytes) -> bytes:
    start, end = _span(random, content)
    rest = content[:start] + content[end:]
    place = random.randrange(len(rest) + 1)
    return rest[:place] + content[start:end] + rest[place:]


def _insert(random: Random, content: bytes) -> bytes:
    place = random.randrange(len(content) + 1)
    return content[:place] + random.choice((*_BYTES, random.randbytes(4))) + content[place:]


def _lines(random: Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return _insert(random, content)
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    way = random.randrange(4)
    if way == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif way == 1:
        lines.insert(first, lines[second])
    elif way == 2:
        del lines[first]
    else:
        lines[first] = lines[first].rstrip(b"\r\n")
    return b"".join(lines)


_OF_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (*(_flip, _cut, _remove, _double, _move, _insert, _lines),)


def spoil_json(random: Random, value: Json) -> Json:
    """Change parts of a JSON value, which stays JSON: other values, fields taken out, renamed, doubled, moved."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        if not places:
            return random.choice(_HOSTILE)
        holder, key = random.choice(places)
        other, other_key = random.choice(places)
        way = random.randrange(8)
        if way <= 1:
            holder[key] = copy.deepcopy(random.choice(_HOSTILE))
        elif way <= 3:
            holder[key] = _near(random, holder[key])
        elif way == 4:
            del holder[key]
        elif way == 5:
            holder[key] = copy.deepcopy(other[other_key])
        elif isinstance(holder, dict):
            # A null or a line break as the name of a field is a text like others.
            name = random.choice((f"{key}_", str(key).upper(), "", "\ud800", str(other_key), "id", "type"))
            holder[name] = holder.pop(key)
        else:
            holder.insert(key, copy.deepcopy(holder[key]))
    return value


def _near(random: Random, value: Json) -> Json:
    """Give a value as another program might have written it."""
    if isinstance(value, bool):
        return random.choice((int(value), float(value), str(value), str(value).lower(), not value, None))
    if isinstance(value, int | float):
        return random.choice((value + 1, -value, value / 2, str(value), float(value), value == 1, [value], None))
    if isinstance(value, str):
        texts = (value + " ", value.upper(), "\n" + value, value[:-1], value * 2, f'"{value}"', value + "\u0301")
        return random.choice((*texts, [value], {"text": value}, None, len(value)))
    if isinstance(value, list):
        return random.choice(
            (value[:1], value[1:], value * 2, value[::-1], [value], dict(enumerate(value)), str(value))
        )
    if value is None:
        return random.choice((0, "", "None", "null", False))
    return random.choice(
        (list(value.values()), [value], str(value), {str(key).upper(): item for key, item in value.items()})
    )


def _holders(value: Json) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(held for item in value.values() for held in _holders(item))]
    if isinstance(value, list):
        return [value, *(held for item in value for held in _holders(item))]
    return []


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def spoil_text(random: Random, text: str) -> str:
    """Put letters into JSON that Python would not write: a name twice, numbers of thousands of digits, depth."""
    marks = [place for place, letter in enumerate(text) if letter == ":"]
    if not marks:
        return random.choice(_TOKENS)
    place = random.choice(marks)
    if random.random() < 0.3:
        start = text.rfind('"', 0, text.rfind('"', 0, place))
        if start >= 0 and text[:start].rstrip()[-1:] in ("{", ","):
            return f"{text[:start]}{text[start:place]}: {random.choice(('null', '1', '[]'))}, {text[start:]}"
    start = place + 1
    while start < len(text) and text[start] in " \n":
        start += 1
    end = start
    while end < len(text) and text[end] not in ",}]\n":
        end += 1
    return text[:start] + random.choice(_TOKENS) + text[end:]


def shuffled(random: Random, items: Sequence[Any]) -> list[Any]:
    """Give the same in another order."""
    return random.sample(list(items), len(items))


def reordered(random: Random, value: Json) -> Json:
    """Give the same JSON value with the fields of every object in another order."""
    if isinstance(value, dict):
        return {key: reordered(random, value[key]) for key in shuffled(random, list(value))}
    return [reordered(random, item) for item in value] if isinstance(value, list) else value


def dumped(random: Random, value: Json, *, one_line: bool) -> str:
    """Write a JSON value in one of the ways that mean the same."""
    indent = None if one_line else random.choice((None, 0, 1, 2, 4, "\t"))
    separators = random.choice(((",", ":"), (", ", ": "), (" , ", " : ")))
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=random.random() < 0.5)
