"""Classes are matched by name, and a label of a data set means the class of its name."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.classifier.labels import ClassMap, LabelReader, class_names, match_classes, shown
from muscle_hf.errors import ConfigurationError, InputError, ModelMismatchError

UNNAMED = ("LABEL_0", "LABEL_1", "LABEL_2")
LABEL_SETS = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True).map(tuple)


def _config(*names: str, **options: Any) -> Any:
    return SimpleNamespace(num_labels=len(names), id2label=dict(enumerate(names)), **options)


@given(new=LABEL_SETS, old=LABEL_SETS)
def test_a_class_never_meets_a_class_of_another_name(new: tuple[str, ...], old: tuple[str, ...]) -> None:
    if not set(new) & set(old):
        with pytest.raises(ModelMismatchError, match="do not overlap"):
            ClassMap(new, old)
        return
    classes = ClassMap(new, old)
    for name, place in zip(new, classes.old_of_new, strict=True):
        assert (name not in old) if place < 0 else old[place] == name
    for name, place in zip(old, classes.new_of_old, strict=True):
        assert (name not in new) if place < 0 else new[place] == name
    assert set(classes.added) == set(new) - set(old)
    assert set(classes.removed) == set(old) - set(new)
    assert classes.is_identity == (new == old)


def test_the_log_says_what_was_added_removed_and_reordered() -> None:
    assert str(ClassMap(("a", "b", "c"), ("b", "a", "d"))) == (
        "2 classes of the new model are matched with the old model's by name; their order differs; added: 'c'; "
        "removed: 'd'."
    )
    assert "order" not in str(ClassMap(("a", "c", "b"), ("a", "b")))
    assert str(ClassMap(("a", "b"), ("a", "b"))) == "Both models have the same 2 classes in the same order."


def test_label_sets_without_overlap_show_both_and_say_what_to_correct() -> None:
    with pytest.raises(ModelMismatchError, match=r"new model has 'a', the old model 'b'\. Classes .* id2label"):
        ClassMap(("a",), ("b",))


def test_names_that_differ_only_in_case_are_pointed_out_and_not_matched() -> None:
    with pytest.raises(ModelMismatchError, match="upper and lower case"):
        ClassMap(("Positive",), ("positive",))


def test_names_come_in_the_order_of_the_logits_and_not_of_the_dictionary() -> None:
    config = SimpleNamespace(num_labels=3, id2label={2: "c", 0: "a", 1: "b"})
    assert class_names(config, None, role="new") == ("a", "b", "c")


def test_given_names_replace_those_of_the_config() -> None:
    assert class_names(_config(*UNNAMED), ["a", "b", "c"], role="old") == ("a", "b", "c")


def test_a_wrong_number_of_given_names_shifts_no_class() -> None:
    with pytest.raises(ConfigurationError, match="old_label_names has 2 names, and the old model has 3 classes"):
        class_names(_config(*UNNAMED), ["a", "b"], role="old")


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="several classes of one name: 'a'"):
        class_names(_config("a", "b", "a"), None, role="new")


@pytest.mark.parametrize(
    "config",
    [
        _config("score"),
        _config("a", "b", problem_type="regression"),
        _config("a", "b", problem_type="multi_label_classification"),
    ],
)
def test_regression_and_several_labels_at_once_are_refused(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="distributions over classes"):
        class_names(config, None, role="new")


def test_unnamed_classes_of_equal_number_meet_by_number_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert match_classes(UNNAMED, UNNAMED).is_identity
    assert "class i of the new model is taken for class i of the old one" in caplog.text


def test_unnamed_classes_of_another_number_are_refused() -> None:
    with pytest.raises(ModelMismatchError, match="3 classes and the old model 2, and neither names them"):
        match_classes(UNNAMED, UNNAMED[:2])


@pytest.mark.parametrize(
    ("new", "old", "option"),
    [(UNNAMED, ("a", "b", "c"), "new_label_names"), (("a", "b", "c"), UNNAMED, "old_label_names")],
)
def test_an_unnamed_model_against_a_named_one_is_refused_even_with_equal_numbers(
    new: tuple[str, ...], old: tuple[str, ...], option: str
) -> None:
    with pytest.raises(ModelMismatchError, match=f"give {option}"):
        match_classes(new, old)


def test_a_class_label_column_of_another_order_is_read_by_name() -> None:
    read = LabelReader(("a", "b", "c"), ("c", "a", "b"), dataset="train")
    assert [read(label, row=0) for label in (0, 1, 2, -100)] == [2, 0, 1, -100]


def test_strings_are_names_and_plain_ints_are_class_numbers() -> None:
    read = LabelReader(("a", "b"), None, dataset="train")
    assert [read(label, row=0) for label in ("b", "a", 1, -100)] == [1, 0, 1, -100]


def test_a_named_column_numbers_the_classes_of_an_unnamed_model_of_the_same_size() -> None:
    read = LabelReader(UNNAMED, ("c", "a", "b"), dataset="train")
    assert [read(label, row=0) for label in (0, 1, 2)] == [0, 1, 2]


def test_a_named_column_of_another_size_than_an_unnamed_model_is_refused() -> None:
    with pytest.raises(InputError, match="2 in number; the new model has 3 classes without names"):
        LabelReader(UNNAMED, ("a", "b"), dataset="train")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("z", "'z', which is no class of the new model"),
        (3, "3 classes are numbered from 0 to 2"),
        (-1, "3 classes are numbered from 0 to 2"),
        (None, "has the label None"),
        (1.0, "has the label 1.0"),
        (True, "has the label True"),
        ([0], "has the label"),
    ],
)
def test_a_label_that_is_no_class_is_refused_with_its_row(label: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"Row 17 of the eval set has .*{said}" if label == "z" else said) as error:
        LabelReader(("a", "b", "c"), None, dataset="eval")(label, row=17)
    assert "Row 17 of the eval set" in str(error.value)


def test_a_string_for_an_unnamed_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"does not name its classes .* new_label_names"):
        LabelReader(UNNAMED, None, dataset="train")("a", row=0)


def test_long_lists_of_names_are_cut_in_messages() -> None:
    assert shown([str(number) for number in range(60)]).endswith("'4' and 55 more")
