"""What our metric modules share: inputs, and answers that are collected as they came.

`evaluate.Metric` with alternative features looks at the first answer only, to choose between number and string, so
that ["7", "007"] become equal ints, [1.7] becomes 1, ["a", 5] becomes ["a", "5"] and [None, "a"] is refused. Here all
answers are looked at.

A metric module imports this module and not the class, since evaluate takes the first metric that it finds in a file.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import datasets
import evaluate

from ..errors import InputError
from ..flips.inputs import refuse_other_order

PAPER = "https://aclanthology.org/2024.findings-emnlp.430/"
CITATION = r"""
@inproceedings{echterhoff2024muscle,
    title = {MUSCLE: A Model Update Strategy for Compatible LLM Evolution},
    author = {Echterhoff, Jessica and Faghri, Fartash and Vemulapalli, Raviteja and Hu, Ting-Yao and
      Li, Chun-Liang and Tuzel, Oncel and Pouransari, Hadi},
    booktitle = {Findings of the Association for Computational Linguistics: EMNLP 2024},
    year = {2024},
    url = {https://arxiv.org/abs/2407.09435}
}
@software{muscle_hf,
    title = {muscle\_hf: adapters that keep the old model's right answers},
    author = {{The muscle\_hf authors}},
    license = {Apache-2.0}
}
"""

# The kinds of numbers that a metric module may take beside strings, as evaluate and as people call them.
_NUMBERS = {"int64": "ints", "float64": "numbers"}
_NOT_NAN = " A missing answer is None, not NaN."
# Set on a metric module: how many examples without any answer wait for the type of their column.
_HELD = "_muscle_hf_held"


class Metric(evaluate.Metric):  # type: ignore[misc]  # evaluate counts as untyped here
    """A metric that compares the answers of two models; a subclass has its texts and its `_compute`."""

    DESCRIPTION: ClassVar[str]
    INPUTS: ClassVar[str]
    NUMBER: ClassVar[str] = "int64"
    """What answers may be beside strings: "int64" (class ids) or "float64" (scores; float32 is too coarse)."""
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"references"})
    """Inputs that may be left out, for all examples; evaluate knows no such, so that their columns hold None."""
    COLUMNS: ClassVar[tuple[str, ...]] = ()
    """Further inputs, of strings, each of which may be left out, beside references that may not."""
    URLS: ClassVar[tuple[str, ...]] = (PAPER,)

    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "old_predictions", "references")
        more = {name: datasets.Value("string") for name in self.COLUMNS}
        return evaluate.MetricInfo(
            description=self.DESCRIPTION,
            citation=CITATION,
            inputs_description=self.INPUTS,
            features=[
                datasets.Features({name: datasets.Value(kind) for name in names} | more)
                for kind in (self.NUMBER, "string")
            ],
            reference_urls=list(self.URLS),
        )

    def compute(self, *, predictions: Any = None, references: Any = None, **more: Any) -> dict[str, Any] | None:
        """Compute the metric of what was collected, and of what is given."""
        # evaluate wants every input named beside predictions, also those that are left out.
        named = {"predictions": predictions, "references": references, **dict.fromkeys(self.COLUMNS), **more}
        result: dict[str, Any] | None = super().compute(**named)
        return result

    def add_batch(self, *, predictions: Any = None, references: Any = None, **more: Any) -> None:
        """Add the answers of both models to a batch of examples, and the right ones."""
        _write_answers(self, {"predictions": predictions, "references": references, **more})

    def add(self, *, prediction: Any = None, reference: Any = None, **more: Any) -> None:
        """Add the answers of both models to one example, and the right one; the old answer as `old_predictions`."""
        columns = {"predictions": [prediction], **{name: [answer] for name, answer in more.items()}}
        if reference is not None:
            columns["references"] = [reference]
        _write_answers(self, columns)

    def _finalize(self) -> None:
        # Before evaluate reads what was collected: no answer came to tell the type of examples without any.
        if getattr(self, _HELD, 0):
            _start_writing(self, "string")
        super()._finalize()

    def given(self, values: Sequence[Any], column: str = "references") -> Sequence[Any] | None:
        """Return what was collected of an input, or None where there is nothing; all examples need it, or none."""
        known = sum(value is not None for value in values)
        if 0 < known < len(values):
            raise InputError(
                f"{self.name} got {column} for {known} of {len(values)} examples: give them with every batch, "
                "or with none."
            )
        return values if known else None


def _write_answers(metric: Any, columns: Mapping[str, Any]) -> None:
    """Add aligned columns of answers to what a metric module has collected, checked and unchanged.

    Examples that hold nothing but None say neither number nor string. The first ones are held back until an answer
    tells, or until what was collected is read.
    """
    names, more = metric._feature_names(), metric.COLUMNS
    number = next(kind for kind in _NUMBERS if any(f["predictions"].dtype == kind for f in metric.features))
    unknown = sorted(set(columns) - set(names))
    if unknown:
        raise InputError(f"{metric.name} does not take {', '.join(unknown)}: its inputs are {', '.join(names)}.")
    refuse_other_order(**{name: columns[name] for name in names if columns.get(name) is not None})
    given = {name: _as_list(name, columns[name]) for name in names if columns.get(name) is not None}
    missing = [name for name in names if name not in given and name not in {*metric.OPTIONAL, *more}]
    if missing:
        raise InputError(f"{metric.name} needs {', '.join(missing)}: its inputs are {', '.join(names)}.")
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) != 1:
        got = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise InputError(f"{metric.name} compares answer by answer, so all inputs must be equally long; got {got}.")
    size = next(iter(lengths.values()))
    if size == 0:
        raise InputError(f"{metric.name} got no answers: there is nothing to compare.")
    if "references" in given and None in given["references"]:
        where = given["references"].index(None)
        raise InputError(f"references[{where}] is None: leave out the examples whose right answer is not known.")

    for name in given.keys() & more:
        odd = next((value for value in given[name] if not isinstance(value, str | None)), None)
        if odd is not None:
            raise InputError(f"{name} must hold strings; got {type(odd).__name__} {odd!r}.")
    answers = {name: values for name, values in given.items() if name not in more}
    kinds = {name: kind for name, values in answers.items() if (kind := _kind_of(name, values, number))}
    writer = metric.writer
    expected = None if writer is None else metric.selected_feature_format["predictions"].dtype
    if len(set(kinds.values()) | ({expected} - {None})) > 1:
        got = ", ".join(f"{kind} in {name}" for name, kind in kinds.items())
        earlier = f" after {expected} in what was added before" if expected else ""
        raise InputError(
            f"answers are compared, so they must be all {_NUMBERS[number]} or all strings; got {got}{earlier}."
        )
    kind = expected or next(iter(kinds.values()), None)
    if kind is None:
        # All of them are None, so that their number is all there is to keep, and what comes later stands behind them.
        setattr(metric, _HELD, getattr(metric, _HELD, 0) + size)
        return

    if kind == "int64":
        # Booleans and numpy's ints are stored as the ints they are equal to.
        answers = {n: [None if value is None else int(value) for value in values] for n, values in answers.items()}
        for name, values in answers.items():
            for value in values:
                if value is not None and not -(2**63) <= value < 2**63:
                    raise InputError(
                        f"{name} has an int that does not fit in 64 bits ({value}): pass strings instead."
                    )
    elif kind == "float64":
        answers = {n: [_score(n, at, value) for at, value in enumerate(values)] for n, values in answers.items()}
    given |= answers
    _refuse_halves(given)
    if writer is None:
        _start_writing(metric, kind)
    metric.writer.write_batch({name: given.get(name, [None] * size) for name in names})


def _refuse_halves(columns: Mapping[str, list[Any]]) -> None:
    """Refuse texts with half of a character, such as of an emoji that was cut in two: evaluate cannot write them."""
    for name, values in columns.items():
        for at, value in enumerate(values):
            if not isinstance(value, str) or value.isascii():
                continue
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"{name}[{at}] is {value!r}, which has half of a character (a lone surrogate), as where an emoji "
                    "was cut in two. muscle_hf.compare takes it as it is; or write in all columns "
                    'text.encode(errors="replace").decode().'
                ) from None


def _start_writing(metric: Any, kind: str) -> None:
    metric.selected_feature_format = next(f for f in metric.features if f["predictions"].dtype == kind)
    metric._init_writer()
    held = getattr(metric, _HELD, 0)
    if held:
        metric.writer.write_batch({name: [None] * held for name in metric._feature_names()})
        setattr(metric, _HELD, 0)


def _as_list(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping):
        raise InputError(f"{name} must be a list of answers; got one {type(values).__name__}.")
    # numpy, torch, pandas and arrow all have tolist, which gives Python's own types.
    if hasattr(values, "tolist"):
        values = values.tolist()
    try:
        return list(values)
    except TypeError:
        raise InputError(f"{name} must be a list of answers; got one {type(values).__name__}.") from None


def _kind_of(name: str, values: list[Any], number: str) -> str | None:
    kinds = set()
    for found in set(map(type, values)) - {type(None)}:
        if issubclass(found, str):
            kinds.add("string")
        elif issubclass(found, Integral if number == "int64" else Real):  # numpy's numbers say what they are
            kinds.add(number)
        else:
            example = next(value for value in values if type(value) is found)
            hint = _NOT_NAN if example != example else ""
            raise InputError(
                f"{name} must hold {_NUMBERS[number]} or strings; got {found.__name__} {example!r}.{hint}"
            )
    if len(kinds) > 1:
        hint = _NOT_NAN if any(value != value for value in values) else ""
        raise InputError(
            f"{name} holds both {_NUMBERS[number]} and strings, which cannot be compared: convert them to one kind."
            + hint
        )
    return kinds.pop() if kinds else None


def _score(name: str, index: int, value: Any) -> float:
    try:
        score = math.nan if value is None else float(value)
    except OverflowError:  # an int beyond 1e308
        score = math.inf
    if not math.isfinite(score):
        raise InputError(
            f"{name}[{index}] is {None if value is None else score}, but every score must be a finite number: leave "
            "such examples out, or give the score that a failed answer deserves, such as 0.0."
        )
    return score
