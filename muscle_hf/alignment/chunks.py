"""How the tokens of two models correspond: one by one, or, where the tokenizers differ, in chunks of text.

A chunk is the smallest stretch of text at whose ends both tokenizations have a boundary. One sentence, two tokenizers:

    new      | the| free|ze|  ed| lake|          spans count bytes of the text that the user gave, so both
    old      | the| fr|ee|zeed  | lake|          sides count alike whatever stands around it
    chunks   |  0 |      1      |  2  |

Likelihoods of whole chunks can be compared (ALM, arXiv 2503.20083, section 3: "aligned token chunks"), and where a
chunk is the same single token on both sides, so can the distributions that the token was drawn from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .vocabulary import Vocabulary

Span = tuple[int, int]


@dataclass(frozen=True)
class PlacedTokens:
    """The tokens of one text on one side, and where they stand in it.

    Args:
        spans: For each token its first and its last byte plus one, or None for a token that is no part of the text.
            Ascending. Tokens that no boundary separates, such as those of one character, have the same span.
        meanings: For each token a number that tokens of both sides share where they stand for the same; -1 for one
            without a counterpart.
        special: For each token whether it is a special token, which is never text.
    """

    spans: list[Span | None]
    meanings: list[int]
    special: list[bool]


def place_tokens(
    text: str,
    ids: Sequence[int],
    offsets: Sequence[Span],
    vocabulary: Vocabulary,
    contents: Sequence[Span | None],
    starts: Sequence[int],
) -> list[Span | None]:
    """Give each token's span in the contents of a text, in bytes.

    White space that a tokenizer drops belongs to the token after it. White space around a content that one of its
    tokens takes along, such as the space in "▁A" for "[/INST] A", is not counted. Tokens that split a character are
    told apart by the bytes they spell, where these are the character's bytes; otherwise they keep one span together.

    Args:
        text: What was tokenized: a text, or a conversation as its chat template writes it.
        ids: The tokens.
        offsets: For each token its first and its last character plus one in `text`, with white space untrimmed.
        vocabulary: What the tokens stand for.
        contents: For each content its first and its last character plus one in `text`, ascending; None for one that
            was not found in it.
        starts: For each content the number of its first byte, which both sides have to give alike.

    Returns:
        For each token its span, or None for one that has other text than that of one content.

    Example:
        >>> vocabulary = Vocabulary({}, {0: b"a", 1: bytes([0xC3]), 2: bytes([0xA9])}, {}, None)
        >>> place_tokens("<aé>", [0, 1, 2], [(1, 2), (2, 3), (2, 3)], vocabulary, [(1, 3)], [10])
        [(10, 11), (11, 12), (12, 13)]
    """
    spans: list[Span | None] = [None] * len(ids)
    before = _bytes_before(text)
    places = [(content, start) for content, start in zip(contents, starts, strict=True) if content is not None]
    at = 0
    for tokens, low, high, dropped_from in _groups(ids, offsets, vocabulary):
        while at < len(places) and places[at][0][1] <= low:
            at += 1
        if at == len(places) or high <= places[at][0][0]:
            continue
        (first, last), start = places[at]
        base = start - before[first]
        if len(tokens) == 1 and first <= low and high <= last:
            begin = low
            if dropped_from < low and ids[tokens[0]] not in vocabulary.special:
                begin = max(first, dropped_from)
            spans[tokens[0]] = base + before[begin], base + before[high]
            continue
        outside = text[low:first] + text[last:high]
        special = any(ids[token] in vocabulary.special for token in tokens)
        if outside and (special or not outside.isspace()):
            continue
        cuts = _cuts([vocabulary.spelled.get(ids[token]) for token in tokens], text[low:high])
        edges = [before[low] + cut for cut in cuts] if cuts else [before[low], before[high]]
        if not special:
            edges[0] = min(edges[0], before[dropped_from])
        edges = [base + min(max(edge, before[first]), before[last]) for edge in edges]
        for place, token in enumerate(tokens):
            left, right = edges[place : place + 2] if cuts else edges
            if left < right:
                spans[token] = left, right
    return spans


def find_chunks(
    new: PlacedTokens, old: PlacedTokens, unfinished: Mapping[int, int] | None = None
) -> tuple[list[int], list[int]]:
    """Number the chunks in which two tokenizations of one text meet: for each token its chunk, from 0, or -1.

    Both sides of a chunk cover exactly the same bytes, without a hole, and no shorter stretch does. A special token is
    in a chunk only alone, and against one that stands for the same. Where both sides write a chunk with the same
    tokens one after the other, such as the bytes of a character, each pair is a chunk.

    `unfinished` are bytes at which no chunk may end, each with the byte that has to come next: what begins there is
    taken along, special or not. Where nothing does, there is no chunk.

    Example:
        >>> new = PlacedTokens([(0, 4), (4, 9), (9, 11)], [0, -1, 1], [False] * 3)
        >>> old = PlacedTokens([(0, 4), (4, 7), (7, 9), None, (9, 11)], [0, -1, -1, -1, 1], [False] * 5)
        >>> find_chunks(new, old)
        ([0, 1, 2], [0, 1, 1, -1, 2])
        >>> find_chunks(new, old, {4: 4})
        ([0, 0, 1], [0, 0, 0, -1, 1])
    """
    new_chunks, old_chunks = [-1] * len(new.spans), [-1] * len(old.spans)
    number = 0
    waiting: tuple[list[int], list[int]] = [], []
    needed: int | None = None  # where what is waiting has to go on
    for begin, end, new_tokens, old_tokens in _meetings(_segments(new.spans), _segments(old.spans)):
        same = len(new_tokens) == len(old_tokens) and all(
            new.meanings[i] == old.meanings[j] != -1 for i, j in zip(new_tokens, old_tokens, strict=True)
        )
        if needed is not None and needed != begin:
            waiting, needed = ([], []), None
        if not same and (any(new.special[i] for i in new_tokens) or any(old.special[j] for j in old_tokens)):
            continue
        step = 1 if same and needed is None else 0
        new_tokens, old_tokens = [*waiting[0], *new_tokens], [*waiting[1], *old_tokens]
        needed = (unfinished or {}).get(end)
        waiting = ([], []) if needed is None else (new_tokens, old_tokens)
        if needed is not None:
            continue
        for chunks, tokens in ((new_chunks, new_tokens), (old_chunks, old_tokens)):
            for place, token in enumerate(tokens):
                chunks[token] = number + step * place
        number += len(new_tokens) if step else 1
    return new_chunks, old_chunks


def _bytes_before(text: str) -> Sequence[int]:
    """For each character, and for the end, how many bytes stand before it."""
    if text.isascii():
        return range(len(text) + 1)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    lengths = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    return [0, *np.cumsum(lengths).tolist()]


def _groups(
    ids: Sequence[int], offsets: Sequence[Span], vocabulary: Vocabulary
) -> list[tuple[list[int], int, int, int]]:
    """The tokens between which there is a boundary of characters: tokens, first and last character, and what was
    covered before them."""
    groups: list[tuple[list[int], int, int, int]] = []
    waiting: list[int] = []
    reached = 0
    for token, (first, last) in enumerate(offsets):
        if first == last:
            # A special token that the tokenizer adds stands nowhere; a prefix of no width belongs to what follows.
            if ids[token] not in vocabulary.special:
                waiting.append(token)
            continue
        if groups and first < groups[-1][2]:
            tokens, low, high, before = groups[-1]
            tokens += [*waiting, token]
            groups[-1] = tokens, min(low, first), max(high, last), before
        else:
            groups.append(([*waiting, token], first, last, reached))
        waiting = []
        reached = max(reached, last)
    return groups


def _cuts(spelled: list[bytes | None], text: str) -> list[int] | None:
    """Where the tokens of a group begin and end, in bytes of its text; None where their bytes do not tell."""
    if len(spelled) == 1:
        return [0, len(text.encode())]
    if None in spelled:
        return None
    parts = [part for part in spelled if part is not None]
    joined, written = b"".join(parts), text.encode()
    # SentencePiece writes a space before a text that has none there.
    added = 1 if joined == b" " + written else 0
    if joined[added:] != written or len(parts[0]) <= added:
        return None
    cuts = [0]
    for part in parts:
        cuts.append(cuts[-1] + len(part))
    return [max(cut - added, 0) for cut in cuts]


def _segments(spans: Sequence[Span | None]) -> list[tuple[int, int, list[int]]]:
    """Tokens with one span together, in the order of the text: first byte, last byte plus one, tokens."""
    segments: list[tuple[int, int, list[int]]] = []
    for token, span in enumerate(spans):
        if span is None:
            continue
        if segments and span == segments[-1][:2]:
            segments[-1][2].append(token)
        else:
            segments.append((*span, [token]))
    return segments


def _meetings(
    new: list[tuple[int, int, list[int]]], old: list[tuple[int, int, list[int]]]
) -> list[tuple[int, int, list[int], list[int]]]:
    """First byte, last byte plus one and both sides' tokens of each stretch: two pointers that only move on."""
    meetings = []
    i = j = 0
    while i < len(new) and j < len(old):
        if new[i][0] != old[j][0]:
            i, j = (i + 1, j) if new[i][0] < old[j][0] else (i, j + 1)
            continue
        begin, new_end, new_tokens = new[i][0], new[i][1], [*new[i][2]]
        old_end, old_tokens = old[j][1], [*old[j][2]]
        while new_end != old_end:
            # The side that is behind goes on, as long as it goes on without a hole.
            if new_end < old_end and i + 1 < len(new) and new[i + 1][0] == new_end:
                i += 1
                new_end = new[i][1]
                new_tokens += new[i][2]
            elif old_end < new_end and j + 1 < len(old) and old[j + 1][0] == old_end:
                j += 1
                old_end = old[j][1]
                old_tokens += old[j][2]
            else:
                break
        if new_end == old_end:
            meetings.append((begin, new_end, new_tokens, old_tokens))
        i, j = i + 1, j + 1
    return meetings
