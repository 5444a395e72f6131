"""Does a judge that turns to "no" turn where it knows least? CLINC150 as yes/no questions, on the demo's base models.

    python benchmarks/negative_bias.py --seeds 0 1 2

"transfer ten dollars; intent = transfer?" asks for yes; with the likeliest wrong intent in its place it asks for no.
Which that is, naive Bayes on the words of the training utterances says, so that no model is asked with its own
mistakes. An old judge is fine-tuned from base v1 on open questions ("transfer ten dollars" -> "transfer") and as many
right as wrong intents; a new one from base v2 on the same utterances with `--negatives` wrong intents for each right
one, since wrong ones cost nothing to make. Both are asked the same test questions, yes and no one to one. What a judge
knows of an utterance is told by eight sampled answers to the open question. Prints Markdown tables.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from muscle_hf import YesNoComparison, choose_answers, compare_yes_no, knowledge_of, sample_answers
from muscle_hf.demo.task import BASE_V1, BASE_V2, MAX_ANSWER_TOKENS, Row, load_base, load_tokenizer, read_rows
from muscle_hf.text import markdown_table
from muscle_hf.training.quiet import quiet_libraries

YES, NO = "yes", "no"
SAMPLES, BATCH, LEARNING_RATE = 8, 64, 1e-3


class WrongIntents:
    """The likeliest wrong intents of an utterance, by naive Bayes on the words of training utterances."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Count the words of each intent."""
        self._intents = sorted({row["completion"] for row in rows})
        self._places = {word: place for place, word in enumerate(sorted({w for row in rows for w in words(row)}))}
        counts = np.ones((len(self._intents), len(self._places)))
        for row in rows:
            for word in words(row):
                counts[self._intents.index(row["completion"]), self._places[word]] += 1
        self._logs: NDArray[np.float64] = np.log(counts / counts.sum(axis=1, keepdims=True))

    def of(self, row: Row, count: int) -> list[str]:
        """Give so many of them, the likeliest first."""
        known = [self._places[word] for word in words(row) if word in self._places]
        order = np.argsort(-self._logs[:, known].sum(axis=1), kind="stable")
        return [self._intents[place] for place in order.tolist() if self._intents[place] != row["completion"]][:count]


def words(row: Row) -> list[str]:
    """Take an utterance apart."""
    return row["prompt"].lower().split()


def question(row: Row, intent: str, answer: str) -> Row:
    """Make a yes/no question of a row."""
    return {"prompt": f"{row['prompt'].rstrip()}; intent = {intent}?\n", "completion": answer}


def questions(rows: Sequence[Row], wrong: WrongIntents, negatives: int) -> list[Row]:
    """Make the questions of rows: one whose answer is yes, and so many whose answer is no."""
    return [
        each
        for row in rows
        for each in (
            question(row, row["completion"], YES),
            *(question(row, intent, NO) for intent in wrong.of(row, negatives)),
        )
    ]


def train(base: Path, rows: Sequence[Row], seed: int, steps: int) -> PreTrainedModel:
    """Fine-tune all weights of a base on the completions of rows, with a rate that falls to 0."""
    torch.manual_seed(seed)
    model, tokenizer = load_base(base).train(), load_tokenizer()
    prompts, answers = (tokenizer([row[part] for row in rows])["input_ids"] for part in ("prompt", "completion"))
    texts = [[*prompt, *answer, tokenizer.eos_token_id] for prompt, answer in zip(prompts, answers, strict=True)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / steps))
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(rows)).tolist()
        batch, order = order[:BATCH], order[BATCH:]
        width = max(len(texts[row]) for row in batch)
        # Padding stands at the end, where no trained token sees it.
        tokens = torch.tensor([texts[row] + [0] * (width - len(texts[row])) for row in batch])
        places = torch.arange(width)
        starts, ends = (torch.tensor([[len(of[row])] for row in batch]) for of in (prompts, texts))
        trained = ((places >= starts) & (places < ends))[:, 1:]
        hidden = model.model(tokens).last_hidden_state[:, :-1][trained]
        torch.nn.functional.cross_entropy(model.lm_head(hidden), tokens[:, 1:][trained]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    return model.eval()


def leans(model: Any, asked: Sequence[Row]) -> NDArray[np.float64]:
    """Give log p(no) - log p(yes) for each question."""
    prompts = [row["prompt"] for row in asked]
    chosen = choose_answers(
        model, load_tokenizer(), prompts, [[YES, NO]] * len(prompts), delimiter="", batch_size=256, show_progress=False
    )
    return np.array([no - yes for yes, no in chosen.scores])


def knows(model: Any, rows: Sequence[Row], seed: int) -> list[str]:
    """Say what a judge knows of each utterance, by sampled answers to the open question."""
    sampled = sample_answers(
        model,
        load_tokenizer(),
        [row["prompt"] for row in rows],
        samples=SAMPLES,
        max_new_tokens=MAX_ANSWER_TOKENS,
        seed=seed,
        batch_size=256,
        show_progress=False,
    )
    return knowledge_of(sampled, [row["completion"] for row in rows])


def compare(options: argparse.Namespace, seed: int) -> YesNoComparison:
    """Train an old and a new judge, and compare their answers."""
    rows, test = (of_intents(read_rows(split), options.intents) for split in ("train", "test"))
    test = test[:: max(1, len(test) // options.test_rows)]
    wrong = WrongIntents(rows)
    asked = questions(test, wrong, 1)
    said = []
    for base, negatives in ((BASE_V1, 1), (BASE_V2, options.negatives)):
        model = train(base, [*rows, *questions(rows, wrong, negatives)], seed, options.steps)
        said.append((leans(model, asked), [group for group in knows(model, test, seed) for _ in (YES, NO)]))
    (old_leans, old_groups), (new_leans, groups) = said
    return compare_yes_no(
        old=[NO if lean > 0 else YES for lean in old_leans],
        new=[NO if lean > 0 else YES for lean in new_leans],
        references=[row["completion"] for row in asked],
        knowledge=groups,
        old_knowledge=old_groups,
        old_scores=old_leans,
        new_scores=new_leans,
    )


def of_intents(rows: Sequence[Row], count: int) -> list[Row]:
    """Keep the rows of so many intents, spread evenly over all."""
    intents = sorted({row["completion"] for row in rows})
    kept = {intents[place * len(intents) // count] for place in range(count)}
    return [row for row in rows if row["completion"] in kept]


def shown(compared: YesNoComparison, rate: str) -> str:
    """Show a rate with its interval."""
    low, high = compared.confidence_interval(rate)
    return f"{getattr(compared, rate):+.3f} [{low:+.3f}, {high:+.3f}]"


def part_of(compared: YesNoComparison, title: str) -> list[str]:
    """Give a row of the table."""
    sides = compared.old, compared.new
    return [
        title,
        f"{compared.n:,}",
        " → ".join(f"{100 * side.accuracy:.1f}" for side in sides),
        " → ".join(f"{side.bias:+.3f}" for side in sides),
        shown(compared, "shift"),
        " → ".join(f"{side.sensitivity:.2f}" for side in sides),
        f"{compared.broken_to_negative}, {compared.broken_to_positive}",
    ]


def extra(compared: YesNoComparison) -> str:
    """Say how much further the answers shift where knowledge is insufficient than where it is correct."""
    low, high = (compared.by_knowledge[name] for name in ("insufficient", "correct"))
    (least, most), (under, over) = (group.confidence_interval("shift") for group in (low, high))
    value = low.shift - high.shift
    # The groups are independent: bounds combine by squares.
    down, up = math.hypot(low.shift - least, over - high.shift), math.hypot(most - low.shift, high.shift - under)
    return f"{value:+.3f} [{value - down:+.3f}, {value + up:+.3f}]"


def report(compared: YesNoComparison, title: str) -> str:
    """Lay out one update."""
    head = ["what the new judge knows", "questions", "accuracy, %", "bias", "shift", "d'", "broken to no, to yes"]
    rows = [part_of(compared, "all"), *(part_of(group, name) for name, group in compared.by_knowledge.items())]
    told = f"Shift where knowledge is insufficient, minus where it is correct: {extra(compared)}."
    return f"{title}\n\n{markdown_table(head, rows)}\n\n{told}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="an old and a new judge for each")
    parser.add_argument("--negatives", type=int, default=3, help="wrong intents for each right one, for the new judge")
    parser.add_argument("--intents", type=int, default=15, help="of the 150")
    parser.add_argument("--steps", type=int, default=100, help=f"of each training, with {BATCH} rows each")
    parser.add_argument("--test-rows", type=int, default=225, help="utterances to ask about, twice each")
    options = parser.parse_args(arguments)
    for seed in options.seeds:
        print(report(compare(options, seed), f"Seed {seed}"))


if __name__ == "__main__":
    torch.set_num_threads(1)  # so that the figures are the same for any number of cores
    quiet_libraries()
    main()
