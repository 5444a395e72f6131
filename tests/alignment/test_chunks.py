"""Tokens are paired one by one where they mean the same, and in chunks of the very same text where they do not."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import tiny_llama, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from muscle_hf.alignment.chunks import PlacedTokens, Span, _bytes_before, find_chunks, place_tokens
from muscle_hf.alignment.vocabulary import Vocabulary
from muscle_hf.alignment.vocabulary_map import VocabularyMap, check_same_vocabulary
from muscle_hf.errors import ModelMismatchError

OTHER_TEXTS = ["zebra crossing the quiet boulevard", "quartz boulders quench quarrels"]


def _check(
    new: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast | None, *, rows: tuple[int, int]
) -> VocabularyMap:
    """Check two models with so many rows of embeddings."""
    models = [tiny_llama(1, tiny_tokenizer(), hidden_size=16, layers=1) for _ in rows]
    for model, size in zip(models, rows, strict=True):
        model.resize_token_embeddings(size, mean_resizing=False)
    return check_same_vocabulary(*models, new, old)


def test_one_tokenizer_on_both_sides_is_paired_as_it_is() -> None:
    tokenizer = tiny_tokenizer()
    pairs = _check(tokenizer, tiny_tokenizer(), rows=(len(tokenizer),) * 2)
    assert pairs.identical and pairs.moved == 0


def test_sizes_alone_decide_where_the_old_tokenizer_is_not_known() -> None:
    tokenizer = tiny_tokenizer()
    assert _check(tokenizer, None, rows=(320, 320)).identical
    with pytest.raises(ModelMismatchError, match="320 token embeddings and the old model 300"):
        _check(tokenizer, None, rows=(320, 300))


def test_tokens_that_moved_are_counted_and_shown_with_both_ids() -> None:
    tokenizer = tiny_tokenizer(vocabulary_size=280)
    other = tiny_tokenizer(OTHER_TEXTS, vocabulary_size=280)
    assert len(tokenizer) == len(other)
    moved = {token for token, number in tokenizer.get_vocab().items() if other.get_vocab().get(token) != number}
    moved |= {token for token, number in other.get_vocab().items() if tokenizer.get_vocab().get(token) != number}
    with pytest.raises(ModelMismatchError, match=rf"differ in {len(moved)} tokens.*id new / id old.*None"):
        _check(tokenizer, other, rows=(280, 280))


def test_another_tokenizer_is_refused_with_the_option_that_can_align_it() -> None:
    with pytest.raises(
        ModelMismatchError, match=r'models or merges differ.*--alignment chunks \(alignment="chunks"\)'
    ):
        _check(tiny_tokenizer(), tiny_tokenizer(OTHER_TEXTS), rows=(320, 320))


def test_padded_rows_are_cut_and_not_taken_for_tokens() -> None:
    tokenizer = tiny_tokenizer()
    pairs = _check(tokenizer, tiny_tokenizer(), rows=(328, 336))
    assert not pairs.identical
    assert pairs.new_ids.tolist() == pairs.old_ids.tolist() == list(range(320))
    assert "Cut: 8 of the new model's rows" in str(pairs) and "Cut: 16 of the old model's rows" in str(pairs)


def test_equal_rows_with_padding_are_left_as_they_are() -> None:
    assert _check(tiny_tokenizer(), tiny_tokenizer(), rows=(328, 328)).identical


def _plain(spans: list[Span | None], meanings: list[int] | None = None) -> PlacedTokens:
    return PlacedTokens(spans, [-1] * len(spans) if meanings is None else meanings, [False] * len(spans))


def _spans_at(cuts: list[int]) -> list[Span | None]:
    return list(itertools.pairwise(cuts))


def _brute_force(new: list[Span | None], old: list[Span | None]) -> set[tuple[int, int]]:
    """Every stretch that both sides cover without a hole, and that no shorter one begins."""

    def covers(spans: list[Span | None], first: int, last: int) -> bool:
        inside = [span for span in spans if span and span[0] < last and span[1] > first]
        return sum(end - begin for begin, end in inside) == last - first and all(
            first <= begin and end <= last for begin, end in inside
        )

    ends = range(max([span[1] for span in [*new, *old] if span], default=0) + 1)
    both = [(a, b) for a, b in itertools.combinations(ends, 2) if covers(new, a, b) and covers(old, a, b)]
    return {(a, b) for a, b in both if not any(a == c and d < b for c, d in both)}


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[list[Span | None], list[Span | None]]:
    """Two ways to cut one text, each with some tokens that are no part of it."""
    length = draw(st.integers(1, 14))
    sides = []
    for _ in range(2):
        cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=8)) if length > 1 else set())
        spans = _spans_at([0, *cuts, length])
        holes = draw(st.sets(st.integers(0, len(spans) - 1), max_size=2))
        sides.append([None if place in holes else span for place, span in enumerate(spans)])
    return sides[0], sides[1]


@given(segmentations())
@settings(deadline=None)
def test_chunks_are_those_that_brute_force_finds(pair: tuple[list[Span | None], list[Span | None]]) -> None:
    new, old = pair
    new_chunks, old_chunks = find_chunks(_plain(new), _plain(old))
    covered = []
    for spans, chunks in ((new, new_chunks), (old, old_chunks)):
        stretches: dict[int, list[Span]] = {}
        for span, number in zip(spans, chunks, strict=True):
            if number >= 0:
                assert span is not None
                stretches.setdefault(number, []).append(span)
        for spans_of_chunk in stretches.values():  # no hole, in order
            assert all(a[1] == b[0] for a, b in itertools.pairwise(spans_of_chunk))
        covered.append([(stretches[n][0][0], stretches[n][-1][1]) for n in sorted(stretches)])
        assert sorted(stretches) == list(range(len(stretches)))
    assert covered[0] == covered[1] == sorted(_brute_force(new, old))


@given(st.sets(st.integers(1, 40)))
@settings(deadline=None)
def test_equal_tokenizations_give_one_chunk_a_token(cuts: set[int]) -> None:
    spans = _spans_at([0, *sorted(cuts)])
    expected = list(range(len(spans)))
    assert find_chunks(_plain(spans), _plain(spans)) == (expected, expected)


def test_tokens_that_share_a_character_are_told_apart_where_both_sides_write_the_same_ones() -> None:
    spans: list[Span | None] = [(0, 1), (1, 4), (1, 4), (4, 5)]
    assert find_chunks(_plain(spans), _plain(spans)) == ([0, 1, 1, 2], [0, 1, 1, 2])
    same = _plain(spans, [7, 3, 4, 7])
    assert find_chunks(same, same) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert find_chunks(same, _plain(spans, [7, 4, 3, 7])) == ([0, 1, 1, 2], [0, 1, 1, 2])


def test_a_special_token_is_never_text_for_the_other_side() -> None:
    spans: list[Span | None] = [(0, 1), (1, 5), (5, 6)]
    special = PlacedTokens(spans, [0, 1, 2], [False, True, False])
    spelled_out = _plain([(0, 1), (1, 3), (3, 5), (5, 6)], [0, -1, -1, 2])
    assert find_chunks(special, spelled_out) == ([0, -1, 1], [0, -1, -1, 1])
    assert find_chunks(special, special) == ([0, 1, 2], [0, 1, 2])
    other = PlacedTokens(spans, [0, 5, 2], [False, True, False])
    assert find_chunks(special, other) == ([0, -1, 1], [0, -1, 1])


def test_contents_that_touch_do_not_merge_into_one_chunk() -> None:
    # Bytes 0 to 2 and 3 to 5 are two contents; a token of the old side across both has no span.
    assert find_chunks(_plain([(0, 2), (3, 5)]), _plain([(0, 1), None, (4, 5)])) == ([-1, -1], [-1, -1, -1])


SPACES = Vocabulary({9: "</s>"}, {}, {}, 9)


def _place(
    text: str, offsets: list[Span], contents: list[Span | None], ids: list[int] | None = None
) -> list[Span | None]:
    starts = [100 * place for place in range(len(contents))]
    return place_tokens(text, ids or [0] * len(offsets), offsets, SPACES, contents, starts)


def test_template_text_and_tokens_across_its_edge_are_no_part_of_a_content() -> None:
    # "user:hi there." with the content "hi there"
    assert _place("user:hi there.", [(0, 4), (4, 6), (6, 7), (7, 13), (13, 14)], [(5, 13)]) == [
        None,
        None,
        (1, 2),
        (2, 8),
        None,
    ]


def test_white_space_of_a_template_in_a_token_of_the_content_does_not_lose_a_short_answer() -> None:
    # "[/INST] A </s>": one token " A" of which the template wrote the space
    assert _place("[/INST] A </s>", [(0, 7), (7, 9), (9, 10), (10, 14)], [(8, 9)], [0, 0, 0, 9]) == [
        None,
        (0, 1),
        None,
        None,
    ]


def test_white_space_that_a_tokenizer_drops_belongs_to_the_token_after_it() -> None:
    assert _place("the  cat ", [(0, 3), (5, 8)], [(0, 9)]) == [(0, 3), (3, 8)]
    # but not across a special token, nor from outside of the content
    assert _place("a </s> b", [(0, 1), (2, 6), (7, 8)], [(0, 8)], [0, 9, 0]) == [(0, 1), (2, 6), (6, 8)]
    assert _place("a\nb", [(0, 1), (2, 3)], [(0, 1), (2, 3)]) == [(0, 1), (100, 101)]


@given(st.text())
@example("\x7f\x80\u07ff\u0800\u0905\u0fff\u1000\uffff\U00010000")
def test_bytes_before_each_character_are_those_of_its_encoding(text: str) -> None:
    assert list(_bytes_before(text)) == [len(text[:end].encode()) for end in range(len(text) + 1)]


def test_spans_count_bytes_and_not_characters() -> None:
    assert _place("é€😀x", [(0, 1), (1, 2), (2, 3), (3, 4)], [(0, 4)]) == [(0, 2), (2, 5), (5, 9), (9, 10)]


def test_tokens_that_split_a_character_without_spelling_it_keep_one_span() -> None:
    # NFKC writes "ﬁ" as "f" and "i", which are not its bytes.
    ligature = Vocabulary({}, {0: b"f", 1: b"i", 2: b"t"}, {}, None)
    placed = place_tokens("ﬁt", [0, 1, 2], [(0, 1), (0, 1), (1, 2)], ligature, [(0, 2)], [0])
    assert placed == [(0, 3), (0, 3), (3, 4)]


def test_a_content_that_was_not_found_has_no_tokens() -> None:
    assert _place("ab", [(0, 1), (1, 2)], [None, (1, 2)]) == [None, (100, 101)]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_a_byte_level_tokenizer_is_placed_to_the_byte_wherever_it_splits_characters(
    text: str, data: st.DataObject
) -> None:
    written = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(written) - 1, 1)), max_size=10)) - {len(written)})
    cuts = [0, *cuts, len(written)]
    # As the tokenizers library does, a token gets every character that it has a byte of.
    character = [place for place, one in enumerate(text) for _ in one.encode()]
    offsets = [(character[a], character[b - 1] + 1) for a, b in itertools.pairwise(cuts)]
    spelled = {place: written[a:b] for place, (a, b) in enumerate(itertools.pairwise(cuts))}
    vocabulary = Vocabulary({}, spelled, {}, None)
    placed = place_tokens(text, list(spelled), offsets, vocabulary, [(0, len(text))], [0])
    assert placed == list(itertools.pairwise(cuts))
