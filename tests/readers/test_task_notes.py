"""Notes of many tasks: what holds of several is said once, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from muscle_hf.readers.task_notes import choice_note, grouped

_TASKS = st.dictionaries(
    st.sampled_from(["arc", "piqa", "mmlu_law", "mmlu_art", "boolq"]),
    st.lists(st.sampled_from(["cut", "old", "x: y"])),
)


@given(_TASKS)
def test_every_note_is_said_once_with_the_number_of_its_tasks(notes: dict[str, list[str]]) -> None:
    said = grouped({task: [f"{task}: {note}" for note in own] for task, own in notes.items()})
    kinds = {note for own in notes.values() for note in own}
    assert len(said) == len(kinds)
    for kind in kinds:
        tasks = [task for task, own in notes.items() if kind in own]
        (line,) = [line for line in said if line.endswith(f": {kind}")]
        if len(tasks) == 1:
            assert line == f"{tasks[0]}: {kind}"
        else:
            assert line.startswith(f"{len(tasks)} tasks ({', '.join(tasks[:3])}")
            assert ("…" in line) == (len(tasks) > 3)


def test_a_note_of_no_task_is_left_as_it_is() -> None:
    assert grouped({"arc": ["both are old", "arc: cut"], "piqa": ["both are old"]}) == ["both are old", "arc: cut"]


def test_what_was_chosen_is_told_with_the_others_and_what_is_alone_is_not() -> None:
    told = choice_note("metric", "acc", ["acc", "acc_norm"])
    assert told == ["metric 'acc' compared (there is also 'acc_norm'; see --metric)"]
    assert choice_note("filter", "none", ["none"]) == []
