"""How many documents a second does choice by likelihood answer, and how many does lm-evaluation-harness?

    python -m pip install "lm_eval==0.4.13"    # in an environment of its own: it is no dependency of muscle_hf
    OMP_NUM_THREADS=1 python benchmarks/choice.py
    python benchmarks/choice.py --without-harness

Prints a Markdown table. Both get the same randomly initialised Llama model, the same tokenizer (trained here, on the
demo's sentences), the same texts and the same batch size, which for both is the number of sequences in the model at
once. Both tokenize as well. "harness" is `HFLM.loglikelihood` of lm-evaluation-harness with its defaults; there,
choices of one token share a pass already. "whole" is `choose_answers` itself for a model that has to read every choice
with its context before it. All are timed in turn and have to choose the same answers. Speeds are medians over the
repeats; each ratio is the median of the ratios within one repeat, with the lowest and the highest.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

import muscle_hf.prediction.choose
from muscle_hf.demo.data import read_sentences
from muscle_hf.prediction.choose import Choices, choose_answers

CHOICES = 4


def build_tokenizer(sentences: Sequence[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")  # noqa: S106


def build_model(vocabulary_size: int, layers: int, hidden: int, device: str) -> LlamaForCausalLM:
    """Give a Llama model with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64 or 1,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval().to(device)


def make_questions(
    sentences: Sequence[str], tokenizer: PreTrainedTokenizerBase, documents: int, context_tokens: int, tokens: int
) -> tuple[list[str], list[list[str]]]:
    """Give prompts and choices of exactly so many tokens, made of words that are one token each."""
    words = [word for sentence in sentences for word in sentence.split()]
    rows = tokenizer([f" {word}" for word in dict.fromkeys(words)])["input_ids"]
    single = {word for word, row in zip(dict.fromkeys(words), rows, strict=True) if len(row) == 1}
    pool = [word for word in words if word in single]
    random = np.random.default_rng(tokens)

    def text(length: int) -> str:
        return " ".join(random.choice(pool, length))

    prompts = [" " + text(context_tokens) for _ in range(documents)]
    choices = [[text(tokens) for _ in range(CHOICES)] for _ in range(documents)]
    for prompt, of_prompt in zip(prompts, choices, strict=True):
        lengths = [
            len(row) for row in tokenizer([prompt, *(f"{prompt} {choice}" for choice in of_prompt)])["input_ids"]
        ]
        assert lengths == [context_tokens, *[context_tokens + tokens] * CHOICES], lengths  # noqa: S101
    return prompts, choices


def harness_chooser(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Callable[[Sequence[str], Sequence[Sequence[str]]], Choices]:
    """Give a function that lets lm-evaluation-harness choose."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)

    def choose(prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> Choices:
        requests = [
            Instance("loglikelihood", {}, (prompt, f" {choice}"), index)
            for prompt, of_prompt in zip(prompts, choices, strict=True)
            for index, choice in enumerate(of_prompt)
        ]
        likelihoods = [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]
        scores = list(np.array(likelihoods).reshape(-1, CHOICES))
        return Choices(np.array([score.argmax() for score in scores]), scores)

    return choose


def read_whole(choose: Callable[[], Choices]) -> Choices:
    """Choose as for a model that cannot share what choices start with."""
    with patch.object(muscle_hf.prediction.choose, "can_share", lambda model: False):
        return choose()


def time_in_turn(calls: dict[str, Callable[[], Choices]], repeats: int) -> dict[str, list[float]]:
    """Time calls in turn, so that a busy spell hits all of them, and check that they choose the same."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        chosen = {}
        for name, call in calls.items():
            start = time.perf_counter()
            chosen[name] = call()
            seconds[name].append(time.perf_counter() - start)
        ours = chosen["muscle_hf"]
        for name, other in chosen.items():
            if not np.array_equal(ours.indices, other.indices):
                raise SystemExit(f"muscle_hf chose {ours.indices.tolist()}, but {name} {other.indices.tolist()}")
            np.testing.assert_allclose(np.stack(other.scores), np.stack(ours.scores), rtol=1e-5)
    return seconds


def spread(ratios: Sequence[float]) -> str:
    """Give the median, with the lowest and the highest."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Build model and questions, time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (default 8)")
    parser.add_argument("--hidden", type=int, default=512, help="its hidden size (default 512)")
    parser.add_argument("--vocabulary", type=int, default=8192, help="its vocabulary (default 8192)")
    parser.add_argument("--documents", type=int, default=32, help="documents to answer (default 32)")
    parser.add_argument("--context-tokens", type=int, default=200, help="tokens of each context (default 200)")
    parser.add_argument(
        "--choice-tokens", type=int, nargs="+", default=[1, 5, 20], help="tokens of each choice (default 1 5 20)"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="sequences in the model at once (default 32)")
    parser.add_argument("--repeats", type=int, default=5, help="how often everything is timed (default 5)")
    parser.add_argument("--device", default="cpu", help='such as "cuda" (default "cpu")')
    parser.add_argument("--without-harness", action="store_true", help="leave lm-evaluation-harness out")
    options = parser.parse_args(argv)
    with_harness = not options.without_harness
    if with_harness and importlib.util.find_spec("lm_eval") is None:
        parser.error(
            'lm-evaluation-harness is not installed. Run `python -m pip install "lm_eval==0.4.13"`, best in an '
            "environment of its own, or leave it out with --without-harness."
        )
    sentences = read_sentences()
    tokenizer = build_tokenizer(sentences, options.vocabulary)
    model = build_model(len(tokenizer), options.layers, options.hidden, options.device)
    harness = harness_chooser(model, tokenizer, options.batch_size) if with_harness else None
    versions = [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    if with_harness:
        versions.append(f"lm_eval {importlib.metadata.version('lm_eval')}")
    on = platform.machine() if options.device == "cpu" else torch.cuda.get_device_name(options.device)
    print(
        f"{on}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"{', '.join(versions)}\n\nLlama, {options.layers} layers x {options.hidden}, vocabulary {len(tokenizer)}, "
        f"float32; n = {options.documents} documents of {options.context_tokens} tokens, {CHOICES} choices; "
        f"batch size {options.batch_size}; {options.repeats} repeats\n"
    )
    head = ["tokens of a choice", "muscle_hf, documents/s", "whole, documents/s", "muscle_hf / whole"]
    head += ["harness, documents/s", "muscle_hf / harness"] if with_harness else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for tokens in options.choice_tokens:
        prompts, choices = make_questions(sentences, tokenizer, options.documents, options.context_tokens, tokens)

        ours = partial(
            choose_answers, model, tokenizer, prompts, choices, batch_size=options.batch_size, show_progress=False
        )
        calls: dict[str, Callable[[], Choices]] = {"muscle_hf": ours, "whole": partial(read_whole, ours)}
        if harness:
            calls["harness"] = partial(harness, prompts, choices)
        seconds = time_in_turn(calls, options.repeats)
        row = [str(tokens), f"{options.documents / median(seconds['muscle_hf']):.2f}"]
        for name in list(calls)[1:]:
            ratios = [other / own for other, own in zip(seconds[name], seconds["muscle_hf"], strict=True)]
            row += [f"{options.documents / median(seconds[name]):.2f}", spread(ratios)]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
