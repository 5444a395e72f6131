"""The shape of the trainers: one base, and nothing that has to be there before the library's own `__init__`."""

import ast
import inspect
import textwrap

import pytest
from transformers import Seq2SeqTrainer, Trainer
from trl import SFTTrainer

from muscle_hf import CompatibilityClassifierTrainer, CompatibilitySeq2SeqTrainer, CompatibilityTrainer
from muscle_hf.training.base import TrainerBase


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        (CompatibilityTrainer, SFTTrainer),
        (CompatibilitySeq2SeqTrainer, Seq2SeqTrainer),
        (CompatibilityClassifierTrainer, Trainer),
    ],
)
def test_no_chain_of_parents_grows_between_a_trainer_and_its_library(kind: type, library: type) -> None:
    ours = [parent for parent in kind.__mro__ if parent.__module__.startswith("muscle_hf")]
    assert ours == [kind, TrainerBase]
    assert issubclass(kind, library)


@pytest.mark.parametrize(
    "kind", [TrainerBase, CompatibilityTrainer, CompatibilitySeq2SeqTrainer, CompatibilityClassifierTrainer]
)
def test_no_state_has_to_be_there_before_the_library_is_set_up(kind: type) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(kind.__init__))))
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "super"]
    assert len(called) == 1
    early = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "self" and node.lineno < called[0].lineno
    ]
    assert not early
