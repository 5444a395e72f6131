"""CLINC150 as retrieval: utterances look for others of their intent, and the pool of an old retriever has labels."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from muscle_hf.demo.data import read_intents

Numbers: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

DEPTH = 20
"""So many of the new retriever's first documents are reranked, and mined for negatives."""
RELEVANCE = ("characters", "words", "shared")
"""What relevance may be read off: three similarities of the two texts."""
RELATIVE = (*RELEVANCE, "characters_to_best", "words_to_best")
"""The same, and by how much two of them are below the query's best."""


@dataclass(frozen=True)
class Retrieval:
    """Queries, each with the first documents of the new retriever; all but `rankings` are (queries, depth)."""

    query: NDArray[np.int64]
    """The number of each query in the test set, (queries,)."""
    document: NDArray[np.int64]
    """The number of each document in the training set."""
    relevant: Flags
    labelled: Flags
    """One document a query, if it is among these: the first relevant one of the old ranking."""
    old_rank: Numbers
    features: dict[str, Numbers]
    score_of_positive: Numbers
    """The new retriever's score of the labelled document, (queries, 1)."""
    rankings: dict[str, tuple[Numbers, float]]
    """Of each retriever: reciprocal ranks, and the share of relevant documents among its unlabelled top 10."""

    def some(self, rows: slice) -> "Retrieval":
        """Give some of the queries."""
        features = {name: values[rows] for name, values in self.features.items()}
        cells = (self.relevant[rows], self.labelled[rows], self.old_rank[rows])
        return Retrieval(self.query[rows], self.document[rows], *cells, features, self.score_of_positive[rows], {})


def words(text: str) -> list[str]:
    """Give the words of two letters and more."""
    return re.findall(r"\w\w+", text.lower())


def characters(text: str) -> list[str]:
    """Give runs of 2 to 4 characters of each word, with the spaces around it."""
    padded = [f" {word} " for word in text.lower().split()]
    return [word[at : at + n] for word in padded for n in (2, 3, 4) for at in range(max(1, len(word) - n + 1))]


def retrieve(queries: int, documents: int, seed: int) -> Retrieval:
    """Draw test utterances as queries and training utterances as documents, and rank these by three retrievers.

    The old retriever counts shared words; the pool was read from its top to the first relevant document, which has the
    only label. The new one compares characters.
    """
    draw = np.random.default_rng(seed)
    tests, trains = read_intents("test"), read_intents("train")
    query = draw.choice(len(tests), queries, replace=False)
    document = draw.choice(len(trains), documents, replace=False)
    asked, known = [tests[i] for i in query], [trains[i] for i in document]
    texts = [row["text"] for row in asked], [row["text"] for row in known]
    relevant = np.array([row["intent"] for row in asked])[:, None] == np.array([row["intent"] for row in known])[None]
    counts = _counts(*texts, words)
    overlap, shared = _overlap(*counts)
    scores = {"words": _tf_idf(*counts), "characters": _tf_idf(*_counts(*texts, characters))}
    # Texts that share as many words are in the order of a coin.
    old_order = np.argsort(-(overlap + 0.5 * draw.random(overlap.shape)), axis=1)
    old_rank = np.argsort(old_order, axis=1) + 1
    labelled = np.where(relevant, old_rank, documents + 1).argmin(axis=1)[:, None]
    orders = {"word overlap": old_order}
    orders |= {f"{name}, tf-idf": np.argsort(-score, axis=1, kind="stable") for name, score in scores.items()}
    first = orders["characters, tf-idf"][:, :DEPTH]

    def of_first(table: NDArray[np.generic]) -> Numbers:
        return np.take_along_axis(table, first, axis=1).astype(np.float64)

    features = {"characters": of_first(scores["characters"]), "words": of_first(scores["words"])}
    features["shared"] = of_first(shared)
    for name in ("characters", "words"):
        features[f"{name}_to_best"] = features[name] - scores[name].max(axis=1, keepdims=True)
    return Retrieval(
        query=query,
        document=document[first],
        relevant=of_first(relevant) > 0,
        labelled=first == labelled,
        old_rank=of_first(old_rank),
        features=features,
        score_of_positive=np.take_along_axis(scores["characters"], labelled, axis=1),
        rankings={name: _rated(order, relevant, labelled) for name, order in orders.items()},
    )


def reciprocal_ranks(relevant: Flags) -> Numbers:
    """Give one over the place of the first relevant document of each row, and 0 where there is none."""
    return np.where(relevant.any(axis=1), 1 / (relevant.argmax(axis=1) + 1.0), 0.0)


def _rated(order: NDArray[np.int64], relevant: Flags, labelled: NDArray[np.int64]) -> tuple[Numbers, float]:
    ranked = np.take_along_axis(relevant, order, axis=1)
    others = order != labelled
    unlabelled = np.array([row[other][:10].mean() for row, other in zip(ranked, others, strict=True)])
    return reciprocal_ranks(ranked), float(unlabelled.mean())


def _counts(queries: list[str], documents: list[str], parts: Callable[[str], list[str]]) -> list[csr_matrix]:
    vocabulary: dict[str, int] = {}
    for text in documents:
        for part in parts(text):
            vocabulary.setdefault(part, len(vocabulary))
    tables = []
    for texts in (queries, documents):
        cells = [
            (i, vocabulary[p], n) for i, t in enumerate(texts) for p, n in Counter(parts(t)).items() if p in vocabulary
        ]
        rows, columns, values = zip(*cells, strict=True)
        tables.append(csr_matrix((values, (rows, columns)), shape=(len(texts), len(vocabulary)), dtype=np.float64))
    return tables


def _overlap(queries: csr_matrix, documents: csr_matrix) -> tuple[Numbers, Numbers]:
    """Count the words that both texts have, and give their share of the words that either has (Jaccard)."""
    first, second = queries.sign(), documents.sign()
    both = (first @ second.T).toarray()
    either = np.asarray(first.sum(axis=1)) + np.asarray(second.sum(axis=1)).T - both
    return both, both / np.maximum(either, 1)


def _tf_idf(queries: csr_matrix, documents: csr_matrix) -> Numbers:
    """Give cosines of counts, each times log((1 + n) / (1 + documents that have it)) + 1."""
    n = documents.shape[0]
    weight = diags(np.log((1 + n) / (1 + np.bincount(documents.indices, minlength=documents.shape[1]))) + 1)
    tables = []
    for table in (queries @ weight, documents @ weight):
        length = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
        tables.append(diags(1 / np.maximum(length, 1e-12)) @ table)
    cosines: Numbers = (tables[0] @ tables[1].T).toarray()
    return cosines
