"""Learning relevance from labels that are missing because nobody looked: naive, margins, weights, likelihood, oracle.

    python benchmarks/selection.py
    python benchmarks/selection.py --simulate
    python benchmarks/selection.py --seeds 0 --queries 200 --write examples/data/clinc150_retrieval/pairs.csv

Prints Markdown tables. The first run makes retrieval of CLINC150, which ships with the package: test utterances look
for training utterances of their intent. An old retriever (shared words) made the pool that was read, and one relevant
document of a query has a label. A new retriever (tf-idf of characters) is reranked: its first documents without a
label are the negatives, of which many are relevant. Each reranker is one logistic regression of the same similarities
on the same rows, and tested on the truth of other queries, by reciprocal rank:

- naive: what has no label is a negative;
- margins: a negative is left out where the new retriever gives it more than the labelled document's score minus a
  margin, or times a share (as `mine_hard_negatives` of sentence-transformers, whose names they have);
- weights: the paper's, of `coupled_estimate(method="weights")`;
- likelihood: the relevance model of `coupled_estimate`, and the regression with its weights;
- oracle: the true labels of the same rows.

Selection is by the rank that the old retriever gave, and whether that was the first, which is always read.
`--simulate` draws rows whose truth is known, and counts how often intervals hold it.
"""

# ruff: noqa: T201 - a benchmark prints

import argparse
import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TypeAlias

import numpy as np
import selection_simulation as simulation
from numpy.typing import NDArray
from selection_retrieval import RELATIVE, RELEVANCE, Numbers, Retrieval, reciprocal_ranks, retrieve

import muscle_hf
from muscle_hf.flips.grading.logistic import logistic
from muscle_hf.flips.intervals import wilson
from muscle_hf.flips.special import stdtrit

Flags: TypeAlias = NDArray[np.bool_]
ABSOLUTE_MARGINS = (0.05, 0.1)
RELATIVE_MARGINS = (0.05, 0.2)


def table_of(retrieval: Retrieval, names: Sequence[str]) -> Numbers:
    """Give the features of all rows, one row a document."""
    return np.column_stack([retrieval.features[name].ravel() for name in names])


def rerankers(train: Retrieval, names: Sequence[str]) -> tuple[dict[str, Numbers], dict[str, float]]:
    """Learn the coefficients of each reranker, and what the likelihood says of the labels."""
    table, labels = table_of(train, names), train.labelled.ravel()
    spread = table.std(0)
    columns = np.column_stack([np.ones(len(table)), (table - table.mean(0)) / spread])
    ones, depth = np.ones(len(table)), train.labelled.shape[1]
    score, positive = train.features["characters"].ravel(), np.repeat(train.score_of_positive.ravel(), depth)

    def learn(classes: Flags, weights: Numbers) -> Numbers:
        used = weights > 0
        return logistic(classes[used], columns[used], weights[used], np.zeros(columns.shape[1]))[0][1:] / spread

    found = {"naive": learn(labels, ones)}
    for margin in ABSOLUTE_MARGINS:
        found[f"absolute_margin={margin:g}"] = learn(labels, ones * (labels | (score <= positive - margin)))
    for margin in RELATIVE_MARGINS:
        found[f"relative_margin={margin:g}"] = learn(labels, ones * (labels | (score <= positive * (1 - margin))))
    old_rank = train.old_rank.ravel()
    figures = {"unlabelled that are relevant, %": 100 * float(train.relevant.ravel()[~labels].mean())}
    for method in ("weights", "product"):
        with warnings.catch_warnings():
            # Of the first documents all may have been seen, as here they were: that is no finite number.
            warnings.filterwarnings("ignore", "separation: .* selection.was_first would be infinite")
            e = muscle_hf.coupled_estimate(
                labels,
                relevance=dict(zip(names, table.T, strict=True)),
                selection={"log_old_rank": np.log(old_rank), "was_first": old_rank == 1},
                method=method,
            )
        name = "weights of the paper" if method == "weights" else "likelihood"
        found[name] = np.array(list(e.relevance.coefficients.values()))
        if method == "product":
            found["likelihood's weights"] = learn(labels, e.weights)
            figures["the same, as estimated, %"] = 100 * float(e.probability_relevant[~labels].mean())
            figures["effective sample size"] = e.effective_sample_size
            figures["weights cut down to 10"] = e.capped
    found["oracle"] = learn(train.relevant.ravel(), ones)
    return found, figures


def reranked(test: Retrieval, names: Sequence[str], coefficients: Numbers) -> tuple[Numbers, Numbers]:
    """Give each query's reciprocal rank, and the share of relevant documents among its first ten."""
    scores = (table_of(test, names) @ coefficients).reshape(test.relevant.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    relevant = np.take_along_axis(test.relevant, order, axis=1)
    return reciprocal_ranks(relevant), relevant[:, :10].mean(axis=1)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Show a mean with the half-width of its 95 % t interval."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    half = stdtrit(len(values) - 1, 0.975) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.{digits}f} ± {half:.{digits}f}"


def retrieval_tables(queries: int, documents: int, seeds: Sequence[int]) -> None:
    """Print what the premise is worth, and what each reranker is."""
    drawn = [retrieve(2 * queries, documents, seed) for seed in seeds]
    head = f"{queries} queries to learn from and {queries} to test, {documents:,} documents, {len(seeds)} seeds"
    print(f"{head}: means, with 95 % t intervals\n")
    print("| retriever | relevant among the unlabelled top 10 | mean reciprocal rank |\n|---|---|---|")
    for name in drawn[0].rankings:
        shares = [retrieval.rankings[name][1] for retrieval in drawn]
        ranks = [float(retrieval.rankings[name][0].mean()) for retrieval in drawn]
        print(f"| {name} | {spread(shares)} | {spread(ranks)} |")
    for names in (RELEVANCE, RELATIVE):
        _reranking(drawn, queries, names)


def _reranking(drawn: Sequence[Retrieval], queries: int, names: Sequence[str]) -> None:
    learned = [rerankers(retrieval.some(slice(queries)), names) for retrieval in drawn]
    tests = [retrieval.some(slice(queries, None)) for retrieval in drawn]
    # A test utterance that several seeds drew is one cluster.
    ids = np.concatenate([test.query for test in tests])
    figures = {name: [more[name] for _, more in learned] for name in learned[0][1]}
    print(f"\nReranked by {', '.join(names)} ({'; '.join(f'{n}: {spread(v, 1)}' for n, v in figures.items())})\n")
    columns = ["mean reciprocal rank", "change from naive", "relevant among the first 10", "change from naive"]
    print(f"| negatives | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|")
    naive = [np.zeros(0)] * 2
    for name in learned[0][0]:
        results = [reranked(test, names, models[name]) for test, (models, _) in zip(tests, learned, strict=True)]
        cells = []
        for place, before in enumerate(naive):
            each = [result[place] for result in results]
            cells += [spread([float(values.mean()) for values in each]), "-"]
            if name == "naive":
                naive[place] = np.concatenate(each)
            else:
                c = muscle_hf.compare_scores(old=before, new=np.concatenate(each), clusters=ids)
                low, high = c.confidence_interval("mean_change")
                cells[-1] = f"{c.mean_change:+.3f} [{low:+.3f}, {high:+.3f}], p = {c.p_value:.2g}"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def simulated_tables(n: int, draws: int, intervals: int, rows: int) -> None:
    """Print what is recovered on rows whose truth is known, and how often intervals hold it."""
    kinds = {
        "slope of x, relevance by x and selection by u (truth 1.5)": lambda seed: simulation.slopes(n, seed),
        "area under the curve of relevance by x and u, selection by u": lambda seed: simulation.areas(
            n, seed, simulation.INTERCEPT
        ),
        "the same with fewer labels": lambda seed: simulation.areas(n, seed, simulation.RARER),
        "no exclusion, which coupled_estimate refuses: both by x and u, or both by one feature": lambda seed: (
            simulation.without_exclusion(n, seed)
        ),
    }
    print(f"{n:,} rows, {draws} draws: mean (standard deviation)\n\n| | |\n|---|---|")
    for title, kind in kinds.items():
        found = [kind(seed) for seed in range(draws)]
        for place, (name, _) in enumerate(found[0]):
            values = [row[place][1] for row in found]
            deviation = f" ({stdev(values):.4f})" if draws > 1 else ""
            print(f"| {title}: {name} | {mean(values):.4f}{deviation} |", flush=True)
    print(f"\n95 % intervals, {rows:,} rows, {intervals:,} draws\n\n| coefficient | hold the truth, % |\n|---|---|")
    for name, count, of in simulation.coverage(rows, range(1_000, 1_000 + intervals)):
        low, high = wilson(count, of, 0.95)
        print(f"| {name} | {100 * count / of:.1f} [{100 * low:.1f}, {100 * high:.1f}] |")


def write(path: Path, queries: int, documents: int, seed: int) -> None:
    """Write the pairs of one seed as a table; `part` says whether a query is there to learn from or to test."""
    retrieval = retrieve(2 * queries, documents, seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["part", "query", "document", "labelled", "old_rank", *RELEVANCE, "relevant"])
        for row, query in enumerate(retrieval.query):
            for place in range(retrieval.relevant.shape[1]):
                similar = [f"{retrieval.features[name][row, place]:.3f}" for name in RELEVANCE]
                known = [int(retrieval.labelled[row, place]), int(retrieval.old_rank[row, place])]
                part = "train" if row < queries else "test"
                table.writerow(
                    [
                        part,
                        query,
                        retrieval.document[row, place],
                        *known,
                        *similar,
                        int(retrieval.relevant[row, place]),
                    ]
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=600, help="to learn from, and as many to test")
    parser.add_argument("--documents", type=int, default=6_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(5, 15)], help="0 to 4 chose the options")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the pairs of the first seed and end")
    parser.add_argument("--simulate", action="store_true", help="rows whose truth is known, in place of CLINC150")
    parser.add_argument("--rows", type=int, default=40_000, help="of a simulated draw")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--intervals", type=int, default=1_000, help="draws whose intervals are looked at")
    parser.add_argument("--interval-rows", type=int, default=2_000)
    options = parser.parse_args(arguments)
    if options.write:
        write(options.write, options.queries, options.documents, options.seeds[0])
    elif options.simulate:
        simulated_tables(options.rows, options.draws, options.intervals, options.interval_rows)
    else:
        retrieval_tables(options.queries, options.documents, options.seeds)


if __name__ == "__main__":
    main()
