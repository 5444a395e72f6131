"""The loss in chunks is the loss in tokens where tokenizers are equal, and worked out by hand where they are not."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every torch code base uses
from hypothesis import given, settings
from hypothesis import strategies as st
from other_tokenizers import sentencepiece_tokenizer
from tiny_models import END, TEXTS, tiny_llama, tiny_tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muscle_hf.alignment.divergences import chunk_likelihood_divergence, shared_vocabulary_kl
from muscle_hf.alignment.encoding import ChunkEncoder
from muscle_hf.alignment.loss import OldLogits, chunk_compatibility_loss, validate_for_chunks
from muscle_hf.alignment.scores import ChunkScores, chunk_log_likelihoods, chunk_right
from muscle_hf.alignment.vocabulary import shared_tokens
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.compatibility import CompatibilityLoss, compatibility_loss
from muscle_hf.losses.divergences import forward_kl, jensen_shannon_divergence, kl_divergence, reverse_kl
from muscle_hf.losses.logits import next_token_labels
from muscle_hf.losses.masks import MASKS, Scores, StoredScores
from muscle_hf.losses.strategy import Strategy

BATCH, LENGTH, VOCABULARY = 3, 7, 11
OPTIONS = {option.name for option in fields(Strategy)}


def _loss(**batch: Any) -> CompatibilityLoss:
    """The old side's tensors come in one object."""
    old = OldLogits(*(batch.pop(f"old_{name}") for name in ("logits", "input_ids", "chunk_ids")))
    options = {name: batch.pop(name) for name in OPTIONS & batch.keys()}
    return chunk_compatibility_loss(old=old, strategy=Strategy(**options), **batch)


def _random(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _equal_tokenizers(seed: int = 0) -> dict[str, Tensor]:
    """A batch of one tokenizer, each token a chunk: rows of 7, 5 and 2 tokens, some not trained on."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=generator)
    lengths = torch.tensor([7, 5, 2])
    padding = torch.arange(LENGTH) >= lengths[:, None]
    labels = ids.masked_fill(padding, -100)
    labels[0, :3] = -100
    chunk_ids = torch.arange(LENGTH).expand(BATCH, LENGTH).masked_fill(padding, -1)
    permutation = torch.randperm(VOCABULARY, generator=generator)
    return {
        "student_logits": _random(BATCH, LENGTH, VOCABULARY, seed=seed + 1).requires_grad_(),
        "old_logits": _random(BATCH, LENGTH, VOCABULARY, seed=seed + 2),
        "new_logits": _random(BATCH, LENGTH, VOCABULARY, seed=seed + 3),
        "labels": labels,
        "old_input_ids": ids,
        "chunk_ids": chunk_ids,
        "old_chunk_ids": chunk_ids,
        "shared_new_ids": permutation,
        "shared_old_ids": permutation,
    }


def _assert_equal_to_the_token_path(batch: dict[str, Tensor], rows: dict[str, Tensor], **options: Any) -> None:
    chunks = _loss(**batch, **rows, **options)
    chunks.loss.backward()
    gradient = batch["student_logits"].grad
    batch["student_logits"].grad = None
    names = ("student_logits", "old_logits", "new_logits")
    positions = {name: row[:, None].expand(BATCH, LENGTH) for name, row in rows.items()}
    tokens = compatibility_loss(
        *(batch[name] for name in names), next_token_labels(batch["labels"]), **positions, **options
    )
    tokens.loss.backward()
    torch.testing.assert_close(gradient, batch["student_logits"].grad, rtol=1e-6, atol=1e-9)
    for name in vars(tokens):
        torch.testing.assert_close(getattr(chunks, name), getattr(tokens, name), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_equal_tokenizers_agree_with_the_token_path_in_value_and_gradient(mask: str, divergence: str) -> None:
    _assert_equal_to_the_token_path(_equal_tokenizers(), {}, mask=mask, divergence=divergence)


@pytest.mark.parametrize(
    "options",
    [
        {"cross_entropy_weight": 0.3},
        {"temperature": 1.0, "normalizer": 40.0},
        {"scale_by_temperature_squared": True, "temperature": 3.0},
        {"mask": "none", "focal_beta": 5.0, "focal_alpha": 0.5},
        {"mask": "none", "teacher": "new"},
        {"mask": lambda scores: scores.student.log_likelihood < scores.new.log_likelihood},
    ],
)
def test_every_option_means_the_same_as_on_the_token_path(options: dict[str, Any]) -> None:
    _assert_equal_to_the_token_path(_equal_tokenizers(7), {}, **options)


def test_weights_and_given_teachers_of_rows_mean_the_same_as_on_the_token_path() -> None:
    weights = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    _assert_equal_to_the_token_path(_equal_tokenizers(3), {"weights": weights}, cross_entropy_weight=0.5)
    _assert_equal_to_the_token_path(_equal_tokenizers(3), {"given_teachers": torch.tensor([1, 0, 2])})
    _assert_equal_to_the_token_path(_equal_tokenizers(3), {"given_teachers": torch.tensor([2, 1, 1])})


def _two_tokenizers() -> dict[str, Tensor]:
    """One row, five new tokens and six old ones.

    new  | 0: first | 1      | 2   3  | 4 |     chunks  -1  0  1 1  2
    old  | 0: first | 1   2  | 3   4  | 5 |             -1  0 0  1 1  2
    """
    return {
        "student_logits": _random(1, 5, 6, seed=1).requires_grad_(),
        "old_logits": _random(1, 6, 5, seed=2),
        "new_logits": _random(1, 5, 6, seed=3),
        "labels": torch.tensor([[0, 1, 2, 3, 4]]),
        "old_input_ids": torch.tensor([[0, 1, 2, 3, 4, 2]]),
        "chunk_ids": torch.tensor([[-1, 0, 1, 1, 2]]),
        "old_chunk_ids": torch.tensor([[-1, 0, 0, 1, 1, 2]]),
        "shared_new_ids": torch.tensor([4, 0, 1]),  # the last chunk is one token, 4 / 2, on both sides
        "shared_old_ids": torch.tensor([2, 0, 4]),
    }


def _scores(logits: Tensor, tokens: Tensor, chunk_ids: Tensor, number: int) -> ChunkScores:
    return ChunkScores(logits.__getitem__, tokens, chunk_ids, number)


def _scores_of_one_row(batch: dict[str, Tensor], number: int) -> StoredScores:
    """What a cache holds of a batch of one row."""
    row = batch["old_logits"][0, :-1], batch["old_input_ids"][0, 1:], batch["old_chunk_ids"][0, 1:]
    scores = _scores(*row, number)
    return StoredScores(scores.right[None], scores.log_likelihood[None])


def _bernoulli_kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_two_tokenizers_by_hand_with_every_chunk_learning_from_the_old_model() -> None:
    batch = _two_tokenizers()
    result = _loss(**batch, mask="none", temperature=2.0, cross_entropy_weight=0.25)
    student = batch["student_logits"].detach()[0].softmax(-1).tolist()
    old = batch["old_logits"][0].softmax(-1).tolist()
    # What stands at a token predicts the next one.
    likelihoods = [
        (old[0][1] * old[1][2], student[0][1]),
        (old[2][3] * old[3][4], student[1][2] * student[2][3]),
    ]
    expected = sum(_bernoulli_kl(math.sqrt(p), math.sqrt(q)) for p, q in likelihoods)
    p, q = (batch["old_logits"][0, 4] / 2).softmax(-1), (batch["student_logits"].detach()[0, 3] / 2).softmax(-1)
    classes = [(p[a], q[b]) for a, b in ((2, 4), (0, 0), (4, 1))] + [(p[1] + p[3], q[2] + q[3] + q[5])]
    expected += sum(float(a * (a / b).log()) for a, b in classes)
    cross_entropy = -sum(math.log(student[place][place + 1]) for place in range(4))
    assert result.divergence_to_old.item() == pytest.approx(expected)
    assert result.loss.item() == pytest.approx((0.75 * expected + 0.25 * cross_entropy) / 4)
    assert (result.tokens.item(), result.tokens_to_old.item()) == (4, 4)
    assert result.divergence_to_new.item() == 0


def test_a_chunk_is_wrong_if_any_token_of_it_is_and_counts_once() -> None:
    batch = _two_tokenizers()
    student = torch.zeros(1, 5, 6, dtype=torch.float64)
    for place, token in enumerate([1, 2, 3, 4]):  # right everywhere
        student[0, place, token] = 3.0
    right = _loss(**batch | {"student_logits": student})
    assert right.tokens_to_old.item() == 0 and right.correct_tokens.item() == 4
    student[0, 2] = 0
    student[0, 2, 5] = 3.0  # the second of the two tokens of chunk 1
    wrong = _loss(**batch | {"student_logits": student})
    assert wrong.tokens_to_old.item() == 2 and wrong.correct_tokens.item() == 3
    scores = _scores(student[0, :-1], torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 1, 2]), 3)
    assert scores.right.tolist() == [True, False, True]
    old = _scores(batch["old_logits"][0, :-1], batch["old_input_ids"][0, 1:], torch.tensor([0, 0, 1, 1, 2]), 3)
    expected = chunk_likelihood_divergence(old.log_likelihood[1:2], scores.log_likelihood[1:2], 2.0)
    torch.testing.assert_close(wrong.divergence_to_old, expected[0])
    # The others are held at the new model.
    held = forward_kl(batch["new_logits"][0, [0, 3]], student[0, [0, 3]], 2.0)
    torch.testing.assert_close(wrong.divergence_to_new, held.sum())


@pytest.mark.parametrize(
    ("change", "tokens_to_old"),
    [
        ({}, 4),
        ({"labels": torch.tensor([[0, 1, -100, 3, 4]])}, 2),  # half of chunk 1 is not trained on
        ({"chunk_ids": torch.tensor([[0, 0, 1, 1, 2]])}, 3),  # nothing predicts the first token
        ({"old_chunk_ids": torch.tensor([[0, 0, 0, 1, 1, 2]])}, 3),
        ({"old_chunk_ids": torch.tensor([[-1, 0, 0, -1, -1, 2]])}, 2),  # no such chunk on the old side
        ({"chunk_ids": torch.tensor([[-1, -1, -1, -1, -1]])}, 0),
    ],
)
def test_a_chunk_that_is_not_wholly_trained_and_predicted_on_both_sides_learns_from_the_new_model(
    change: dict[str, Tensor], tokens_to_old: int
) -> None:
    batch = _two_tokenizers() | change
    result = _loss(**batch, mask="none")
    assert result.tokens_to_old.item() == tokens_to_old
    assert result.tokens.item() == int((batch["labels"][:, 1:] != -100).sum())
    result.loss.backward()
    assert torch.isfinite(batch["student_logits"].grad).all()


def test_the_same_single_token_is_not_guessed_from_equal_numbers() -> None:
    batch = _two_tokenizers()
    shared = _loss(**batch, mask="none")
    other = _loss(**batch | {"shared_new_ids": torch.tensor([5, 0, 1])}, mask="none")
    likelihoods = [
        F.log_softmax(logits[0, place], -1)[token][None]
        for logits, place, token in ((batch["old_logits"], 4, 2), (batch["student_logits"].detach(), 3, 4))
    ]
    ids = batch["shared_old_ids"], batch["shared_new_ids"]
    single = shared_vocabulary_kl(batch["old_logits"][:, 4], batch["student_logits"].detach()[:, 3], *ids, 2.0)
    difference = chunk_likelihood_divergence(*likelihoods, 2.0) - single
    torch.testing.assert_close(other.divergence_to_old - shared.divergence_to_old, difference[0])


def test_vocabularies_without_a_common_token_still_train() -> None:
    none = torch.tensor([], dtype=torch.int64)
    batch = _two_tokenizers() | {"shared_new_ids": none, "shared_old_ids": none}
    assert _loss(**batch, mask="none").tokens_to_old.item() == 4
    # nor does a batch without trained tokens fail
    result = _loss(**batch | {"labels": torch.full((1, 5), -100)}, mask="none")
    result.loss.backward()
    assert result.loss.item() == 0 and not batch["student_logits"].grad.any()


def test_a_mask_of_ones_own_sees_chunks() -> None:
    seen: list[Scores] = []

    def mask(scores: Scores) -> Tensor:
        seen.append(scores)
        return scores.old.right | scores.student.right

    batch = _two_tokenizers()
    _loss(**batch, mask=mask)
    assert seen[0].gold.tolist() == [0, 1, 2] and seen[0].sequence.tolist() == [0, 0, 0]
    for side in (seen[0].student, seen[0].old, seen[0].new):
        assert side.right.shape == side.log_likelihood.shape == (3,) and not side.log_likelihood.requires_grad


def test_rows_number_their_chunks_on_their_own() -> None:
    one, other = _two_tokenizers(), _two_tokenizers()
    other["student_logits"] = _random(1, 5, 6, seed=9).requires_grad_()
    other["chunk_ids"] = torch.tensor([[-1, -1, 0, 0, -1]])
    other["old_chunk_ids"] = torch.tensor([[-1, -1, -1, 0, 0, -1]])
    shared = ("shared_new_ids", "shared_old_ids")
    both = {name: one[name] if name in shared else torch.cat([one[name], other[name]]) for name in one}
    results = [_loss(**batch, mask="none") for batch in (one, other, both)]
    for name in ("divergence_to_old", "divergence_to_new", "tokens_to_old", "cross_entropy"):
        first, second, sum_of_both = (getattr(result, name) for result in results)
        torch.testing.assert_close(first + second, sum_of_both)


def test_scores_from_a_cache_do_as_well_as_logits_where_only_likelihoods_are_compared() -> None:
    none = torch.tensor([], dtype=torch.int64)
    live = _two_tokenizers() | {"shared_new_ids": none, "shared_old_ids": none}
    live["chunk_ids"], live["labels"] = torch.tensor([[-1, 0, 1, 1, 2]]), torch.tensor([[0, -100, 2, 3, 4]])
    cached = {name: value for name, value in live.items() if not name.startswith("old_")}
    scores = _scores_of_one_row(live, 4)
    assert scores.right.shape == scores.log_likelihood.shape == (1, 4)
    assert scores.log_likelihood[0, 3] == 0 and bool(scores.right[0, 3])
    for mask in MASKS:
        results, gradients = [], []
        for arguments in (live, cached | {"old": scores}):
            options = {"mask": mask, "cross_entropy_weight": 0.2}
            if arguments is live:
                results.append(_loss(**arguments, **options))
            else:
                results.append(chunk_compatibility_loss(**arguments, strategy=Strategy(**options)))
            results[-1].loss.backward()
            gradients.append(live["student_logits"].grad)
            live["student_logits"].grad = None
        torch.testing.assert_close(gradients[0], gradients[1])
        for name in vars(results[0]):
            torch.testing.assert_close(getattr(results[0], name), getattr(results[1], name))


def test_scores_of_fewer_chunks_than_the_rows_have_are_refused() -> None:
    batch = _two_tokenizers()
    scores = _scores_of_one_row(batch, 3)
    short = StoredScores(scores.right[:, :2], scores.log_likelihood[:, :2])
    rest = {name: value for name, value in batch.items() if not name.startswith("old_")}
    with pytest.raises(InputError, match=r"old.right has shape \(1, 2\) where \(1, 3\)"):
        chunk_compatibility_loss(old=short, strategy=Strategy(), **rest)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("new_logits", (1, 5, 7)), ("chunk_ids", (1, 6)), ("old_chunk_ids", (1, 5)), ("old_input_ids", (2, 6))],
)
def test_shapes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...]) -> None:
    kind = torch.float64 if "logits" in name else torch.int64
    with pytest.raises(InputError, match=name.replace("old_", "old.")):
        _loss(**_two_tokenizers() | {name: torch.zeros(shape, dtype=kind)})


def test_strategies_that_need_one_vocabulary_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'compares logits one by one.*alignment="chunks"'):
        validate_for_chunks(Strategy(divergence="logit_difference_inhibition"))
    with pytest.raises(ConfigurationError, match=r"teacher='ensemble' mixes"):
        _loss(**_two_tokenizers(), teacher="ensemble")


def test_likelihoods_of_a_chunk_follow_the_chain_rule() -> None:
    numbers = torch.tensor([1, -1, 0, 1])
    assert chunk_log_likelihoods(torch.tensor([-1.0, -9.0, -2.0, -4.0]), numbers, 3).tolist() == [-2.0, -5.0, 0.0]
    assert chunk_right(torch.tensor([True, False, True, False]), numbers, 3).tolist() == [True, False, True]


# The divergence of likelihoods


@given(st.floats(-20, -0.01), st.floats(-20, -0.01), st.floats(0.5, 10))
@settings(deadline=None)
def test_the_divergence_of_likelihoods_is_that_of_two_coins(p: float, q: float, temperature: float) -> None:
    value = chunk_likelihood_divergence(*torch.tensor([[p], [q]], dtype=torch.float64), temperature).item()
    expected = _bernoulli_kl(math.exp(p / temperature), math.exp(q / temperature))
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert value >= -1e-12


@pytest.mark.parametrize("p", [0.0, -1e-9, -1e-7, -0.1, -0.6931, -5.0, -100.0, -1e4, -math.inf])
def test_equal_likelihoods_cost_nothing_however_extreme(p: float) -> None:
    student = torch.tensor([p], requires_grad=True)
    value = chunk_likelihood_divergence(torch.tensor([p]), student, 2.0)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-7)
    assert student.grad.item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("teacher", [0.0, -1e-7, -0.5, -30.0, -1e4, -math.inf])
@pytest.mark.parametrize("student", [0.0, -1e-7, -0.5, -30.0, -1e4])
def test_gradients_stay_finite_where_a_model_is_certain_or_rules_a_chunk_out(teacher: float, student: float) -> None:
    likelihood = torch.tensor([student], requires_grad=True)
    value = chunk_likelihood_divergence(torch.tensor([teacher]), likelihood, 1.0)
    value.backward()
    assert math.isfinite(value.item()) and value.item() >= -1e-7
    assert math.isfinite(likelihood.grad.item())


def test_the_gradient_of_likelihoods_is_the_one_that_differences_give() -> None:
    teacher = torch.tensor([-0.2, -3.0, -9.0], dtype=torch.float64)
    student = torch.tensor([-1.0, -0.01, -12.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: chunk_likelihood_divergence(teacher, one, 2.0), (student,))


def test_likelihoods_take_any_divergence_between_distributions() -> None:
    p, q = torch.tensor([0.3]).log(), torch.tensor([0.8]).log()
    swapped = chunk_likelihood_divergence(p, q, 1.0, lambda teacher, student: kl_divergence(student, teacher))
    torch.testing.assert_close(swapped, chunk_likelihood_divergence(q, p, 1.0))


# The divergence on shared tokens


def test_one_vocabulary_in_two_orders_gives_the_plain_divergence() -> None:
    teacher, student = _random(4, 6, seed=0), _random(4, 6, seed=1)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    value = shared_vocabulary_kl(teacher[:, order], student, torch.arange(6), order, 2.0)
    torch.testing.assert_close(value, forward_kl(teacher, student, 2.0))
    backward = shared_vocabulary_kl(
        teacher, student, order, order, 2.0, lambda teacher, student: kl_divergence(student, teacher)
    )
    torch.testing.assert_close(backward, reverse_kl(teacher, student, 2.0))


def test_the_rest_is_one_bucket_by_brute_force() -> None:
    teacher, student = _random(5, 7, seed=2), _random(5, 9, seed=3)
    old_ids, new_ids = torch.tensor([6, 2, 3]), torch.tensor([0, 8, 4])
    p, q = (teacher / 1.5).softmax(-1), (student / 1.5).softmax(-1)
    p = torch.cat([p[:, old_ids], 1 - p[:, old_ids].sum(-1, keepdim=True)], -1)
    q = torch.cat([q[:, new_ids], 1 - q[:, new_ids].sum(-1, keepdim=True)], -1)
    expected = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(shared_vocabulary_kl(teacher, student, old_ids, new_ids, 1.5), expected)
    mean = (p + q) / 2
    middle = ((p * (p / mean).log()).sum(-1) + (q * (q / mean).log()).sum(-1)) / 2
    value = shared_vocabulary_kl(
        teacher, student, old_ids, new_ids, 1.5, lambda one, other: jensen_shannon_divergence(one, other, 0.5)
    )
    torch.testing.assert_close(value, middle)


def test_a_rest_on_one_side_alone_is_dropped_and_not_infinite() -> None:
    teacher, student = _random(3, 5, seed=4), _random(3, 4, seed=5)
    value = shared_vocabulary_kl(teacher, student, torch.arange(4), torch.arange(4), 2.0)
    torch.testing.assert_close(value, forward_kl(teacher[:, :4], student, 2.0))
    value = shared_vocabulary_kl(student, teacher, torch.arange(4), torch.arange(4), 2.0)
    torch.testing.assert_close(value, forward_kl(student, teacher[:, :4], 2.0))


@pytest.mark.parametrize("rest", [-math.inf, -1e30, -200.0, 200.0])
def test_an_empty_or_overwhelming_rest_keeps_the_gradient_finite(rest: float) -> None:
    student = torch.tensor([[0.5, -0.5, rest, rest]], requires_grad=True)
    teacher = torch.tensor([[0.1, 0.2, rest]])
    value = shared_vocabulary_kl(teacher, student, torch.tensor([0, 1]), torch.tensor([1, 0]), 1.0)
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(student.grad).all()
    if rest < -100:
        swapped = student.detach()[:, [1, 0]]
        torch.testing.assert_close(value.detach(), forward_kl(teacher[:, :2], swapped, 1.0))


def test_half_precision_logits_are_summed_in_float() -> None:
    teacher, student = torch.zeros(1, 4000), torch.zeros(1, 5000)
    half = shared_vocabulary_kl(teacher.bfloat16(), student.bfloat16(), torch.arange(3000), torch.arange(3000), 2.0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half, shared_vocabulary_kl(teacher, student, torch.arange(3000), torch.arange(3000), 2.0)
    )


def test_ids_that_are_no_pairs_are_refused() -> None:
    logits = torch.zeros(1, 4)
    with pytest.raises(InputError, match=r"shape \(2,\) and shared_new_ids \(1,\)"):
        shared_vocabulary_kl(logits, logits, torch.tensor([0, 1]), torch.tensor([0]), 1.0)
    with pytest.raises(InputError, match="at least one"):
        shared_vocabulary_kl(logits, logits, torch.tensor([], dtype=int), torch.tensor([], dtype=int), 1.0)


def test_what_is_logged_is_detached() -> None:
    result = _loss(**_two_tokenizers())
    assert isinstance(result, CompatibilityLoss) and result.loss.requires_grad
    assert [name for name, value in vars(result).items() if value.requires_grad] == ["loss", "task_loss"]


@pytest.mark.slow
def test_training_on_chunks_moves_a_student_to_an_old_model_of_another_tokenizer() -> None:
    new_tokenizer, old_tokenizer = tiny_tokenizer(add_beginning=True), sentencepiece_tokenizer()
    student, teacher, old_model = (
        tiny_llama(seed, tokenizer, hidden_size=16, layers=1)
        for seed, tokenizer in ((1, new_tokenizer), (1, new_tokenizer), (2, old_tokenizer))
    )
    rows = [{"text": text, "input_ids": new_tokenizer(text + END)["input_ids"]} for text in TEXTS]
    columns = ChunkEncoder(new_tokenizer, old_tokenizer)({name: [row[name] for row in rows] for name in rows[0]})

    def padded(values: list[list[int]], filler: int) -> Tensor:
        return pad_sequence([torch.tensor(value) for value in values], batch_first=True, padding_value=filler)

    input_ids = padded([row["input_ids"] for row in rows], 0)
    labels = padded([row["input_ids"] for row in rows], -100)
    old_input_ids = padded(columns["old_input_ids"], 0)
    with torch.no_grad():
        old_logits, new_logits = old_model(old_input_ids).logits, teacher(input_ids).logits
    old = OldLogits(old_logits, old_input_ids, padded(columns["old_chunk_ids"], -1))
    shared = [torch.from_numpy(ids) for ids in shared_tokens(new_tokenizer, old_tokenizer)]
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    divergences = []
    for _ in range(40):
        result = chunk_compatibility_loss(
            student(input_ids).logits,
            old,
            new_logits,
            labels,
            padded(columns["chunk_ids"], -1),
            *shared,
            strategy=Strategy(mask="none"),
        )
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        divergences.append(result.divergence_to_old.item())
        assert result.tokens_to_old == result.tokens, "every token lies in a chunk"
    assert divergences[-1] < divergences[0] / 2
