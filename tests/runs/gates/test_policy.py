"""A policy: every bound of the file is held, with who asks and why, and nothing that means something else is taken."""

from pathlib import Path

import pytest
from compared_rows import compared, right
from hypothesis import given, settings
from hypothesis import strategies as st

from muscle_hf.errors import InputError
from muscle_hf.runs.gates.bounds import MARGINS, RATES, Bound
from muscle_hf.runs.gates.gate import judge
from muscle_hf.runs.gates.policy import Policy, read_policy
from muscle_hf.runs.terminal import plain_text
from muscle_hf.text import printable

EXAMPLES = Path(__file__).parents[3] / "examples"
TRIVIA = right(both=600, broken=100, repaired=50, neither=250)  # NFR 0.10, accuracy 0.70 -> 0.65
GROUPS = {"category": ["law"] * 500 + ["art"] * 500}


def _file(folder: Path, content: str | bytes) -> Path:
    path = folder / "policy.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _read(folder: Path, content: str | bytes) -> Policy:
    return read_policy(_file(folder, content))


FILE = """
level: 0.9
gate_on: estimate
undecided: pass
test: one-sided
missing: drop
cluster: document
required_tasks: [gsm8k, mmlu]
owner: model team
margin: 0.01
max_nfr:
- 0.02
- {value: 0.01, tier: advisory}
tasks:
  "*": {max_nfr: 0.05, tier: informative}
  gsm8k: {relative_margin: 0.02, max_nfr: {value: 0.03, reason: it is taught with}, owner: maths}
slices:
  category:
    "*": {max_relative_nfr: .5}
    law: {max_nfr: 5e-2, owner: legal, reason: read in court}
  no: {007: {min_accuracy_change: -1}}
"""


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_bound_and_option_of_a_file_is_read(tmp_path: Path, mark: str) -> None:
    policy = _read(tmp_path, mark + FILE)
    assert policy.bounds == (
        Bound("min_accuracy_change", "all", -0.01, owner="model team"),
        Bound("max_nfr", "all", 0.02, owner="model team"),
        Bound("max_nfr", "all", 0.01, tier="advisory", owner="model team"),
        Bound("max_nfr", "*", 0.05, tier="informative", owner="model team"),
        Bound("min_relative_accuracy_change", "gsm8k", -0.02, owner="maths"),
        Bound("max_nfr", "gsm8k", 0.03, owner="maths", reason="it is taught with"),
        Bound("max_relative_nfr", "category=*", 0.5, owner="model team"),
        Bound("max_nfr", "category=law", 0.05, owner="legal", reason="read in court"),
        Bound("min_accuracy_change", "no=007", -1, owner="model team"),
    )
    assert str(policy.bounds[5]) == f"max_nfr of 'gsm8k': 0.03 in {tmp_path / 'policy.yaml'}, line 16"
    assert policy.required_tasks == ("gsm8k", "mmlu")
    assert policy.options == {
        "level": 0.9,
        "test": "one-sided",
        "missing": "drop",
        "cluster": "document",
        "by": ("category", "no"),
    }
    assert policy.judging == {"gate_on": "estimate", "undecided": "pass", "required_tasks": ("gsm8k", "mmlu")}


def test_what_a_file_leaves_out_is_left_to_the_defaults(tmp_path: Path) -> None:
    policy = _read(tmp_path, "max_nfr: 1")
    assert (policy.options, policy.judging) == ({"by": ()}, {"required_tasks": ()})
    assert (policy.bounds[0].tier, policy.bounds[0].owner) == ("required", "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "F is empty"),
        ("# nothing\n", "F is empty"),
        ("gate_on: estimate", "F has no bound, so nothing would be checked"),
        ("tasks: {}\nslices: {category: {}}", "F has no bound"),
        ("owner: me\nrequired_tasks: [a]", "F has no bound"),
        ("max_nfr: 0.1\nmax_nfr: 0.2", "F, line 2: 'max_nfr' stands twice in the file"),
        ("tasks:\n  a: {max_nfr: 0.1}\n  a: {max_nfr: 0.2}", "F, line 3: 'a' stands twice in tasks"),
        ("tasks: {a: {max_nfr: 0.1, max_nfr: 0.1}}", "F, line 1: 'max_nfr' stands twice in the task 'a'"),
        ("max_nfr: 0.1\nmax-nfr: 0.1", "F, line 2: 'max-nfr' of the file is not known (did you mean max_nfr?); there"),
        ("task:\n  a: {max_nfr: 0.1}", "F, line 1: 'task' of the file is not known (did you mean tasks?)"),
        ("qqq: 1", "F, line 1: 'qqq' of the file is not known; there are: margin"),
        ("tasks:\n  a:\n    nfr: 0.1", "F, line 3: 'nfr' of the task 'a' is not known (did you mean max_nfr?)"),
        ("tasks: {a: {level: 0.9}}", "F, line 1: 'level' of the task 'a' is not known"),
        ("slices: {law: {max_nfr: 0.1}}", "F, line 1: the group 'max_nfr' must be a mapping"),
        ("max_nfr: '0.1'", "F, line 1: max_nfr is the text '0.1'; write the number without quotes"),
        ("max_nfr: {value: '0.1'}", "F, line 1: max_nfr is the text '0.1'; write the number without quotes"),
        ("max_nfr: []", "F, line 1: an empty list bounds nothing"),
        ("max_nfr: [[0.1]]", "F, line 1: max_nfr must be one value"),
        ("max_nfr: {a: 0.1}", "F, line 1: 'a' of max_nfr is not known; there are: value, tier, owner, reason"),
        ("max_nfr: {owner: me}", "F, line 1: max_nfr has no value; write {value: 0.02, …}"),
        ("max_nfr:", "max_nfr: in F, line 1: the value is '', but must be"),
        ("max_nfr: true", "the value is 'true', but must be a rate"),
        ("max_nfr: 2", "max_nfr: 2 in F, line 1: the value is 2.0, but must be a rate from 0 to 1"),
        ("max_nfr: .nan", "the value is '.nan', but must be"),
        ("max_nfr: 2%", "the value is '2%', but must be"),
        ("margin: -0.01", "margin: -0.01 in F, line 1: the value is -0.01, but must be a size from 0 up"),
        ("relative_margin: 1.5", "the value is 1.5, but must be a size from 0 to 1, the share of the"),
        ("tasks: {a: {max_nfr: 1e999}}", "max_nfr of 'a': 1e999 in F, line 1: the value is inf, but must be"),
        ("gate_on: true\nmax_nfr: 0.1", "F, line 1: gate_on is 'true', but must be interval or estimate"),
        ("gate_on: [estimate]\nmax_nfr: 0.1", "F, line 1: gate_on must be one value"),
        (
            "undecided: fails\nmax_nfr: 1",
            "F, line 1: undecided is 'fails', but must be fail or pass (did you mean fail?)",
        ),
        ("max_nfr: 1\ntest: onesided", "F, line 2: test is 'onesided', but must be "),
        ("missing: droop\nmax_nfr: 1", "(did you mean drop?)"),
        (
            "yes_no: [yes, no]\nmax_nfr: 1",
            "F, line 1: yes_no must be one value, not a list or a mapping; write yes_no",
        ),
        ("level: 95\nmax_nfr: 1", "F, line 1: level is '95', but must be a number between 0 and 1, such as 0.95"),
        ("level: '0.9'\nmax_nfr: 1", "F, line 1: level is '0.9', but must be a number"),
        ("level: nan\nmax_nfr: 1", "F, line 1: level is 'nan', but must be a number"),
        (
            "tier: optional\nmax_nfr: 1",
            "F, line 1: tier is 'optional', but must be required or advisory or informative",
        ),
        ("max_nfr: {value: 1, owner: [a, b]}", "F, line 1: owner must be one value"),
        ("max_nfr: {value: 1,\n reason: ' '}", "F, line 2: reason is empty"),
        ("required_tasks: gsm8k\nmax_nfr: 1", "F, line 1: required_tasks must be a list, such as [gsm8k, mmlu_pro]"),
        ("required_tasks: [a,\n a]\nmax_nfr: 1", "F, line 2: 'a' stands twice in required_tasks"),
        ("required_tasks: [{}]\nmax_nfr: 1", "F, line 1: a task of required_tasks must be one value"),
        ("- max_nfr: 0.1", "F, line 1: the file must be a mapping"),
        ("0.1", "F, line 1: the file must be a mapping"),
        ("tasks: [a]", "F, line 1: tasks must be a mapping"),
        ("tasks: {a: 0.1}", "F, line 1: the task 'a' must be a mapping, such as {max_nfr: 0.05}"),
        ("tasks: {'': {max_nfr: 0.1}}", "the name of the row is empty"),
        ("? [a]\n: 0.1", "F, line 1: every key of the file must be a name"),
        ("tasks:\n  a: &a {max_nfr: 0.1}\n  b:\n    <<: *a", "F, line 4: every key of the task 'b' must be a name"),
        ("tasks: &t {a: *t}", "'a' of the task 'a' is not known"),
        ("max_nfr: 0.1\n---\nmax_nfr: 0.2", "F, line 2, column 1: not YAML: but found another document"),
        ("max_nfr: 0.1\n\ttasks: 1", "F, line 2, column 1: not YAML: "),
        ("tasks: {a: {max_nfr: 0.1}", "F, line 1, column 26: not YAML: "),
        ("max_nfr: *nobody", "F, line 1, column 10: not YAML: found undefined alias 'nobody'"),
        ("max_nfr: 0.1\x00", "F: not YAML: "),
        ("max_nfr: !!python/object/apply:os.getcwd []", "F, line 1: an empty list bounds nothing"),
        (b"max_nfr: 0.1 # \xe9", "F: byte 15 is not UTF-8"),
        ("max_nfr: 0.1".encode("utf-16"), "F: byte 0 is not UTF-8"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_the_place(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_policy(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert told in message.replace(str(path), "F")


@pytest.mark.slow
def test_a_file_nested_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not YAML"):
        _read(tmp_path, "[" * 20_000)


def test_a_file_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .* a YAML file of bounds is needed"):
        read_policy(tmp_path / "policy.yaml")


_NAMES = st.sampled_from([*RATES, *MARGINS, "tier", "owner", "reason", "value", "tasks", "slices", "level", "*", "a"])
_NODES = st.recursive(
    st.one_of(
        st.sampled_from(["0.02", "1", "-0.5", "required", "advisory", "fail", "''", "~", "&a x", "*a"]), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(_NAMES, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(text=st.one_of(_NODES, st.text()))
def test_any_text_is_a_policy_or_is_refused_in_a_line(scratch: Path, text: str) -> None:
    try:
        policy = _read(scratch, text.encode("utf-8", "replace"))
    except InputError as error:
        assert printable(str(error)) == str(error)
    else:
        assert policy.bounds
        assert all(bound.rate in RATES for bound in policy.bounds)


# What hangs on a bound -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_advisory_or_informative_bound_is_shown_and_never_changes_the_verdict(tmp_path: Path) -> None:
    result = compared({"trivia": TRIVIA})
    for tier, exit_code in (("required", 1), ("advisory", 0), ("informative", 0)):
        policy = _read(tmp_path, f"max_nfr: [0.5, {{value: 0.01, tier: {tier}}}]")
        gate = judge(result, policy.bounds, **policy.judging)
        assert gate.exit_code == exit_code
        assert [judged.verdict for judged in gate.judgements] == ["kept", "broken"]
        shown = gate.shown()
        assert shown.rows[0][1] == "broken"
        assert len(shown.sentences) == (tier != "informative")
        assert ("tier" in shown.head) is (tier != "required")
        assert [judged["tier"] for judged in gate.to_dict()["bounds"]] == ["required", tier]
        assert len(gate.to_dict()["violations"]) == (tier == "required")
        counted = "Advisory, without a part in the verdict: 1 broken, 0 cannot tell, 0 kept"
        assert (counted in gate.notes) is (tier == "advisory")
        assert ("1 of 1 required bound" in shown.heading) is (tier != "required")


def test_the_owner_and_the_reason_are_told_where_a_bound_is_not_kept(tmp_path: Path) -> None:
    policy = _read(tmp_path, "max_nfr: {value: 0.05, owner: support, reason: calls cost}\nmax_relative_nfr: 9")
    result = compared({"trivia": TRIVIA})
    gate = judge(result, policy.bounds)
    told = "line 1; owner: support; reason: calls cost)"
    assert gate.judgements[0].message.endswith(told)
    assert not gate.judgements[1].bound.owner
    for text in (result.to_markdown(gate), plain_text(result, gate.shown())):
        assert "support" in text
    assert told in result.to_markdown(gate).replace("\\", "")
    # What a file says cannot steer a terminal.
    steering = judge(result, [Bound("max_nfr", "all", 0.01, owner="\x1b[31m", reason="a\nb")])
    assert all(row.isprintable() for line in steering.shown().rows for row in line)
    assert steering.judgements[0].message.isprintable()


def test_a_required_task_that_is_missing_blocks_whatever_is_allowed_to_be(tmp_path: Path) -> None:
    result = compared({"trivia": TRIVIA}, allow_missing=True)
    policy = _read(tmp_path, "max_nfr: 0.5\nrequired_tasks: [gsm8k, trivia]")
    gate = judge(result, policy.bounds, **policy.judging)
    assert (gate.verdict, gate.exit_code) == ("refused", 2)
    assert gate.refusals == ("The task 'gsm8k' is required and was not compared; there are: 'trivia'.",)
    assert judge(result, policy.bounds).exit_code == 0


def test_a_row_that_is_not_there_is_refused_where_it_is_required_and_told_where_it_is_not(tmp_path: Path) -> None:
    result = compared({"trivia": TRIVIA})
    with pytest.raises(InputError, match="there is no row 'gsm8k'"):
        judge(result, _read(tmp_path, "tasks: {gsm8k: {max_nfr: 0.1}}").bounds)
    gate = judge(result, _read(tmp_path, "tasks: {gsm8k: {max_nfr: 0.1, tier: advisory}}\nmax_nfr: 0.5").bounds)
    assert gate.exit_code == 0
    assert any("not required: max_nfr of 'gsm8k'" in note for note in gate.notes)


# A fall as a share of what was ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("margin", "verdict"),
    [("0.2", "kept"), ("0.11", "kept"), ("0.07", "cannot tell"), ("0.03", "broken")],
)
def test_a_relative_margin_is_a_share_of_the_old_accuracy(tmp_path: Path, margin: str, verdict: str) -> None:
    # 70 to 65 % is a fall of 7.1 % of what was right, give or take what the old accuracy may be.
    (judged,) = judge(compared({"trivia": TRIVIA}), _read(tmp_path, f"relative_margin: {margin}").bounds).judgements
    assert judged.verdict == verdict
    assert judged.message.startswith("all: accuracy falls by 7.1 % of what it was [")
    assert judged.estimate == pytest.approx(-5 / 70)


def test_a_relative_margin_is_for_answers_alone(tmp_path: Path) -> None:
    result = compared({"sum": {"old": [0.5, 0.25], "new": [0.25, 0.5]}})
    with pytest.raises(InputError, match="which only answers have"):
        judge(result, _read(tmp_path, "relative_margin: 0.1").bounds)


# The example ---------------------------------------------------------------------------------------------------------


def test_the_example_can_be_read_and_shows_each_kind_of_thing() -> None:
    policy = read_policy(EXAMPLES / "policy.yaml")
    assert {bound.where.partition("=")[0] for bound in policy.bounds} >= {"all", "*", "category"}
    assert {bound.tier for bound in policy.bounds} == {"required", "advisory", "informative"}
    assert any(bound.owner and bound.reason for bound in policy.bounds)
    assert policy.required_tasks


def test_a_policy_says_in_python_what_it_says_on_the_command_line(tmp_path: Path) -> None:
    policy = _read(tmp_path, "level: 0.9\nslices: {category: {law: {max_nfr: 0.5}}}")
    result = compared({"trivia": TRIVIA | GROUPS}, **policy.options)
    assert result.level == 0.9
    assert judge(result, policy.bounds, **policy.judging).judgements[0].row == "category=law"
