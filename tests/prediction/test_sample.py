"""Samples are compared with the model's own distribution, token sequence by token sequence, and with one another."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from questions import PROMPTS, no_logged_warnings, one_thread
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.flips.yes_no.knowledge import knowledge_of
from muscle_hf.prediction.generate import generate_answers
from muscle_hf.prediction.sample import Sampler, Samples, sample_answers

COLOURS = ("<end>", "red", "green", "blue")


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread(), no_logged_warnings():
        yield


@pytest.fixture(name="tokenizer")
def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(name="model")
def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return tiny_llama(seed=3, tokenizer=tokenizer)


@pytest.fixture(name="colours")
def _colours() -> PreTrainedTokenizerFast:
    return _of_words(COLOURS)


def _of_words(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word, the first of which ends an answer."""
    words = Tokenizer(models.WordLevel({word: token for token, word in enumerate(texts)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=texts[0], pad_token=texts[0])


def _sample(model: Any, tokenizer: Any, prompts: Any = PROMPTS[:6], **options: Any) -> Samples:
    usual = {"samples": 3, "max_new_tokens": 5, "seed": 7, "show_progress": False}
    return sample_answers(model, tokenizer, prompts, **usual | options)


def _distribution(model: Any, prompt: list[int], steps: int, temperature: float, top_p: float) -> dict[Any, float]:
    """The probability of every answer of up to so many tokens, by transformers' own warpers."""
    probabilities: dict[tuple[int, ...], float] = {(): 1.0}
    finished: dict[tuple[int, ...], float] = {}
    for _ in range(steps):
        longer = {}
        for answer, probability in probabilities.items():
            with torch.no_grad():
                scores = model(input_ids=torch.tensor([prompt + list(answer)])).logits[:, -1]
            scores = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, scores))
            for token, share in enumerate(scores.double().softmax(-1)[0].tolist()):
                (finished if token == 0 else longer)[(*answer, token)] = probability * share
        probabilities = longer
    return finished | probabilities


class TestTheDistribution:
    @pytest.mark.slow
    @pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8), (1.0, 0.5), (0.7, 1e-6)])
    def test_answers_are_not_drawn_from_what_the_model_says(self, colours, temperature, top_p) -> None:
        model = tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15)
        expected = {
            answer: probability
            for answer, probability in _distribution(model, [1, 3], 3, temperature, top_p).items()
            if probability
        }
        assert math.fsum(expected.values()) == pytest.approx(1)
        count = 4000
        sampled = _sample(
            model,
            colours,
            ["red blue"],
            samples=count,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=3,
            batch_size=count,
        )
        answers = Counter(
            (*colours(text)["input_ids"], *([0] if finished else []))
            for text, finished in zip(sampled.texts[0], sampled.finished[0], strict=True)
        )
        assert set(answers) <= set(expected), "what the warpers cut off was drawn"
        # Answers that are expected less than five times are counted together.
        cells = [(answers[answer], count * share) for answer, share in expected.items() if count * share >= 5]
        rest = count - sum(seen for seen, _ in cells), count - math.fsum(wanted for _, wanted in cells)
        cells += [rest] if rest[1] > 1 else []
        chi_square, freedom = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells), len(cells) - 1
        assert freedom >= 3 or top_p <= 0.5
        # Five standard deviations: a seed in three million.
        assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)

    def test_a_token_without_probability_is_drawn_by_a_number_that_is_zero(self) -> None:
        class Zeros:
            def standard_exponential(self, size: int) -> Any:
                return np.array([0.3, 2.0, 1e-17])

        sampler = Sampler(0.0, streams=[Zeros()])  # type: ignore[list-item]
        choice, scores, _ = sampler.choose(torch.tensor([[0.0, 1.0, -200.0]]))
        assert (choice.argmax(), scores) == (0, 0)

    def test_log_likelihoods_are_those_of_the_cut_distribution_or_leave_out_the_end(self, colours) -> None:
        model = tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15)
        sampled = _sample(model, colours, ["red blue"], samples=40, temperature=0.5, top_p=0.9, max_new_tokens=3)
        everything = _distribution(model, [1, 3], 3, 1.0, 1.0)
        for text, value, tokens, finished in zip(
            sampled.texts[0],
            sampled.log_likelihoods[0],
            sampled.token_counts[0],
            sampled.finished[0],
            strict=True,
        ):
            answer = (*colours(text)["input_ids"], *([0] if finished else []))
            assert len(answer) == tokens
            assert value == pytest.approx(math.log(everything[answer]), rel=1e-5)
        assert 0 < sampled.finished.mean() < 1

    def test_a_small_temperature_or_a_small_share_is_not_the_greedy_answer(self, model, tokenizer) -> None:
        greedy = generate_answers(model, tokenizer, PROMPTS, max_new_tokens=5, show_progress=False)
        for options in ({"temperature": 1e-3}, {"top_p": 1e-6}):
            sampled = _sample(model, tokenizer, PROMPTS, samples=1, **options)
            assert [texts[0] for texts in sampled.texts] == greedy.texts
            np.testing.assert_allclose(sampled.log_likelihoods[:, 0], greedy.log_likelihoods, rtol=1e-5)


class TestEachAnswerHasItsOwnNumbers:
    @pytest.mark.slow
    def test_batch_size_order_or_other_prompts_decide_an_answer(self, model, tokenizer) -> None:
        prompts = PROMPTS[:6]
        expected = _sample(model, tokenizer, prompts, batch_size=1)
        for batch_size in (3, 8, 64):
            sampled = _sample(model, tokenizer, prompts, batch_size=batch_size)
            assert sampled.texts == expected.texts
            np.testing.assert_allclose(sampled.log_likelihoods, expected.log_likelihoods, rtol=1e-5)
            np.testing.assert_array_equal(sampled.token_counts, expected.token_counts)
            np.testing.assert_array_equal(sampled.finished, expected.finished)
        assert _sample(model, tokenizer, prompts[::-1], batch_size=4).texts[::-1] == expected.texts
        assert _sample(model, tokenizer, [prompts[4]]).texts == [expected.texts[4]]
        assert len({text for texts in expected.texts for text in texts}) == 3 * len(set(prompts))

    def test_more_samples_change_the_first_and_seeds_do_not_matter(self, model, tokenizer) -> None:
        sampled = _sample(model, tokenizer, PROMPTS[:2], samples=4)
        fewer = _sample(model, tokenizer, PROMPTS[:2], samples=2)
        assert fewer.texts == [texts[:2] for texts in sampled.texts]
        assert _sample(model, tokenizer, PROMPTS[:2], samples=4).texts == sampled.texts
        assert _sample(model, tokenizer, PROMPTS[:2], samples=4, seed=-8).texts != sampled.texts
        assert sampled.log_likelihoods.shape == sampled.token_counts.shape == sampled.finished.shape == (2, 4)

    def test_equal_prompts_get_other_samples(self, model, tokenizer) -> None:
        texts = _sample(model, tokenizer, [PROMPTS[0], PROMPTS[1], PROMPTS[0]], batch_size=4).texts
        assert texts[0] == texts[2] != texts[1]

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, {"top_p": 0.6}, {"temperature": 0.5, "top_p": 0.9}, {"top_p": 1e-6}])
    def test_rounding_decides_an_answer(self, tokenizer, options) -> None:
        # Batches are disturbed as by rounding, but ten thousand times as much, so that it decides many answers; logits
        # lie so close together that many tokens are close to the cut.
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        with torch.no_grad():
            model.model.norm.weight.mul_(0.1)
        options |= {"samples": 4, "tie_margin": 0.5}
        alone = _sample(model, tokenizer, PROMPTS[:3], batch_size=1, **options)

        def disturb(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
            generator = torch.Generator().manual_seed(logits.shape[0])
            noise = 0.2 * (2 * torch.rand(logits.shape, generator=generator) - 1)
            return logits if logits.shape[0] == 1 else logits + noise

        model.lm_head.register_forward_hook(disturb)
        assert _sample(model, tokenizer, PROMPTS[:3], batch_size=7, **options).texts == alone.texts
        assert _sample(model, tokenizer, PROMPTS[:3], batch_size=7, **options | {"tie_margin": 0}).texts != alone.texts

    def test_most_answers_are_sampled_twice(self, model, tokenizer, monkeypatch) -> None:
        rows: list[int] = []
        original = LlamaForCausalLM.generate
        monkeypatch.setattr(
            LlamaForCausalLM,
            "generate",
            lambda *args, **kw: rows.append(len(kw["input_ids"])) or original(*args, **kw),
        )
        _sample(model, tokenizer, batch_size=9, top_p=0.95)
        assert rows == [9, 9]

    def test_equal_models_answer_unlike_with_one_seed(self, model, tokenizer) -> None:
        adapted = tiny_adapter(tiny_llama(seed=3, tokenizer=tokenizer), seed=5)
        with adapted.disable_adapter():
            assert _sample(adapted, tokenizer).texts == _sample(model, tokenizer).texts
        assert _sample(adapted, tokenizer).texts != _sample(model, tokenizer).texts

    def test_the_models_own_settings_change_its_samples(self, model, tokenizer) -> None:
        expected = _sample(model, tokenizer)
        settings = GenerationConfig(do_sample=True, temperature=3.0, top_k=2, repetition_penalty=5.0, eos_token_id=2)
        model.generation_config = settings
        model.train()
        assert _sample(model, tokenizer).texts == expected.texts
        assert model.generation_config is settings
        assert model.training

    def test_a_conversation_is_asked_without_the_generation_prompt(self) -> None:
        tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        prompt = [{"role": "user", "content": "which colour?"}]
        written = "<s>user\nwhich colour?</s><s>assistant\n"
        assert _sample(model, tokenizer, [prompt]).texts == _sample(model, tokenizer, [written]).texts


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _no_call(self, model, monkeypatch) -> None:
        """Every refusal comes before the model is asked anything."""
        monkeypatch.setattr(model, "forward", lambda *args, **kwargs: pytest.fail("the model was asked"))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *itertools.product(["samples", "max_new_tokens", "batch_size"], [0, -1, 2.5, True, "8", None]),
            *itertools.product(["temperature", "top_p"], [0, -0.5, True, "1", None, math.nan, math.inf, 1j]),
            ("top_p", 1.01),
            *itertools.product(["seed"], [None, 1.0, True, "1"]),
            ("tie_margin", -1.0),
        ],
    )
    def test_an_option_without_meaning_is_accepted(self, model, tokenizer, name, value) -> None:
        with pytest.raises(ConfigurationError, match=f"^{name} is "):
            _sample(model, tokenizer, **{name: value})

    def test_a_temperature_of_zero_is_not_told_what_is_greedy(self, model, tokenizer) -> None:
        with pytest.raises(ConfigurationError, match="for the likeliest answer use generate_answers"):
            _sample(model, tokenizer, temperature=0.0)

    def test_prompts_that_cannot_be_read_are_asked(self, model, tokenizer) -> None:
        for prompts, message in (
            ([], "at least one"),
            (["a", ""], "prompt 1 has no"),
            (["Z" * 140], "has 140 tokens"),
        ):
            with pytest.raises(InputError, match=message):
                _sample(model, tokenizer, prompts)


def test_nan_scores_become_a_sample_and_the_prompt_is_named_by_its_row(model, tokenizer) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("Z")["input_ids"]] = float("nan")
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape))
    with pytest.raises(InputError, match="prompt 1 are NaN"):
        _sample(model, tokenizer, ["a", "Z"], batch_size=1)


@pytest.mark.slow
def test_what_was_never_told_is_taken_for_known_and_a_falsehood_for_a_gap() -> None:
    # A model that read of four countries the right capital, of four a wrong one, and of four nothing.
    capitals = [f"capital{place}" for place in range(12)]
    countries = [f"country{place}" for place in range(12)]
    told = dict(zip(countries[:8], [*capitals[:4], *capitals[5:8], capitals[4]], strict=True))
    tokenizer = _of_words(["<end>", "of", *countries, *capitals])
    facts = [f"of {country} {city} <end>" for country, city in told.items()]
    rows = tokenizer(facts, return_tensors="pt")["input_ids"]
    model = tiny_llama(seed=1, tokenizer=tokenizer, initializer_range=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
    sampled = _sample(model, tokenizer, [f"of {country}" for country in countries], samples=8, max_new_tokens=2)
    known = knowledge_of([[text.strip() for text in texts] for texts in sampled], capitals)
    assert known == ["correct"] * 4 + ["incorrect"] * 4 + ["insufficient"] * 4
