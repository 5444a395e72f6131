"""What the user said is found in what a template writes, and nothing else is taken for it."""

from pathlib import Path
from typing import Any

import pytest
import trl
from tiny_models import CHAT_TEMPLATE, tiny_tokenizer

from muscle_hf.alignment.contents import Rendering, closing_tokens, render_messages
from muscle_hf.errors import ConfigurationError

LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'].strip() }} [/INST]"
    "{% else %} {{ message['content'].strip() }} </s>{% endif %}{% endfor %}"
)
# Keeps of an answer what follows "</think>", as reasoning models' templates do.
THINKING = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'].split('</think>')[-1].strip() }}</s>"
    "{% endfor %}"
)


def _render(template: str | None, *contents: Any, **row: Any) -> Rendering:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]
    return render_messages(tiny_tokenizer(), template, messages, row, name="old")


def _found(rendering: Rendering) -> list[str | None]:
    return [span and rendering.text[slice(*span)] for span in rendering.spans]


def test_a_content_that_is_also_a_word_of_the_template_is_found_at_its_own_place() -> None:
    row = _render(CHAT_TEMPLATE, "user", "s", "assistant", "user")
    assert row.text == "<s>user\nuser</s><s>assistant\ns</s><s>user\nassistant</s><s>assistant\nuser</s>"
    assert row.spans == [(8, 12), (29, 30), (42, 51), (68, 72)]
    assert row.starts == [0, 5, 7, 17] and row.end == 22


def test_white_space_that_a_template_strips_is_no_content() -> None:
    row = _render(LLAMA_2, "  hello \n", "\nA\n")
    assert row.text == "[INST] hello [/INST] A </s>"
    assert row.contents == ["hello", "A"] and _found(row) == ["hello", "A"]
    assert _found(_render(CHAT_TEMPLATE, "  hello \n", "\nA\n")) == ["hello", "A"]


@pytest.mark.parametrize(
    "name", ["cohere2", "deepseekv3", "gemma3", "glm4moe", "gptoss", "llama3", "phi3", "qwen2_5", "qwen3"]
)
def test_contents_are_found_in_the_templates_of_real_models(name: str) -> None:
    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    row = _render(template, "  What is 2 + 2?\n", "4", "user", "A")
    assert _found(row) == ["What is 2 + 2?", "4", "user", "A"]


def test_both_templates_give_the_same_contents_whatever_they_write_around_them() -> None:
    one, other = _render(LLAMA_2, " a ", "b"), _render(CHAT_TEMPLATE, " a ", "b")
    assert one.contents == other.contents and one.starts == other.starts and one.end == other.end


def test_what_a_template_cuts_away_from_a_content_is_not_found() -> None:
    row = _render(THINKING, "why?", "<think>because</think> So it is.", "and", "I see")
    assert _found(row) == ["why?", None, "and", "I see"]
    # The same start as on a side that keeps all of it.
    assert row.starts == _render(CHAT_TEMPLATE, "why?", "<think>because</think> So it is.", "and", "I see").starts


def test_a_template_that_reads_the_contents_is_searched_for_the_only_match() -> None:
    shout = "{% for message in messages %}{{ message['content']|length }}:{{ message['content'] }};{% endfor %}"
    assert _found(_render(shout, "hello", "a", "a")) == ["hello", None, None]
    # "5" is the length of "hello" too; "hello" occurs once.
    assert _found(_render(shout, "hello", "5")) == ["hello", None]


def test_a_content_that_a_template_drops_is_not_found_inside_another_one() -> None:
    without_system = "{% for m in messages[1:] %}[{{ m['content'] }}]{% endfor %}"
    assert _found(_render(without_system, "hello", "hello world")) == [None, "hello world"]
    counts = "{{ messages[1]['content']|length }}" + without_system  # marks change it
    assert _found(_render(counts, "hello", "hello world")) == [None, "hello world"]


def test_marks_in_a_content_do_not_confuse_the_search() -> None:
    row = _render(CHAT_TEMPLATE, "\uf8fd0;hello", "\uf8fe0;")
    assert _found(row) == ["\uf8fd0;hello", "\uf8fe0;"]


def test_parts_with_text_are_contents_and_other_parts_are_not() -> None:
    template = "{% for m in messages %}{% for p in m['content'] %}<{{ p['text'] or '' }}>{% endfor %}{% endfor %}"
    parts = [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]
    row = _render(template, parts)
    assert row.text == "<one><><two>" and _found(row) == ["one", "two"]


def test_empty_contents_and_messages_without_one_are_skipped() -> None:
    assert _render(CHAT_TEMPLATE, "", " \n", "a").contents == ["a"]
    template = "{% for m in messages %}{{ m['content'] or 'nothing' }}{% endfor %}"
    assert _render(template, None).spans == []
    assert _render(template, None).starts == []


def test_tools_and_options_of_a_row_reach_the_template() -> None:
    template = "{{ tools[0]['name'] }}{{ mood }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    row = _render(template, "hi", tools='[{"name": "clock"}]', chat_template_kwargs={"mood": "glad"})
    assert row.text == "clockglad[hi]" and row.spans == [(10, 12)]


def test_a_missing_template_is_asked_for_by_side() -> None:
    with pytest.raises(ConfigurationError, match="the old tokenizer has no chat template"):
        _render(None, "hi")


@pytest.mark.parametrize(
    ("text", "offsets", "special", "closing"),
    [
        ("hi</s>", [(0, 2), (2, 6)], "0 1", [1]),
        ("hi</s>\n", [(0, 2), (2, 6), (6, 7)], "0 1 0", [1]),
        ("hi </s>", [(0, 2), (2, 3), (3, 7)], "0 0 1", [1, 2]),
        ("hi", [(0, 2)], "0", []),
        ("hi.</s>", [(0, 2), (2, 3), (3, 7)], "0 0 1", []),  # the template's own text comes between
        ("hi</s>x", [(0, 2), (2, 6), (6, 7)], "0 1 0", []),  # the row goes on
        ("hi</s><s>", [(0, 2), (2, 6), (6, 9)], "0 1 1", []),  # which of them ends it?
    ],
)
def test_only_a_special_token_that_closes_the_row_is_its_end(
    text: str, offsets: list[tuple[int, int]], special: str, closing: list[int]
) -> None:
    row = Rendering(text, ["hi"], [(0, 2)], False)
    assert closing_tokens(row, offsets, [one == "1" for one in special.split()]) == closing


def test_a_row_whose_last_content_is_lost_has_no_end_to_align() -> None:
    assert closing_tokens(Rendering("hi</s>", ["ho"], [None], False), [(0, 2), (2, 6)], [False, True]) == []
