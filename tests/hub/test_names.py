"""What a name of the Hub is, in one place: as the Hub's client has it, whichever version of it there is."""

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from muscle_hf import ConfigurationError
from muscle_hf.hub.names import DATA_SET, check_ref, check_repository, check_target, is_commit, is_id

LONG = "a" * 96


@pytest.mark.parametrize("name", ["gpt2", "org/base-v2", "o.r_g/a.b-c_d", f"{LONG}/{LONG}", "0/0", "org/base.gitt"])
def test_a_name_that_the_client_takes_is_an_id(name: str) -> None:
    validate_repo_id(name)
    assert is_id(name)
    if "/" in name:
        assert check_repository(name) == name


FORMS = ["", ".", "..", "~/base", "/base", "a/b/c", "org/", "/b", "-a", "a-", "org/a--b", "a..b", "org/a.git", "a b"]
LETTERS = [f"{LONG}a", f"org/{LONG}a", "org/a\\b", "org/a:b", "org/a@b", "./org"]


@pytest.mark.parametrize("name", [*FORMS, *LETTERS])
def test_a_name_that_the_client_refuses_is_no_id(name: str) -> None:
    with pytest.raises(HFValidationError):
        validate_repo_id(name)
    assert not is_id(name)
    with pytest.raises(ConfigurationError, match="no name of a repository"):
        check_repository(name)


@pytest.mark.parametrize("name", ["org/caf\u00e9", "org/base\n"])
def test_what_older_clients_let_pass_is_no_id(name: str) -> None:
    assert not is_id(name)


def test_a_data_set_may_name_its_configuration_and_revision() -> None:
    whole = DATA_SET.fullmatch("org/rows:full@refs/pr/1")
    assert whole is not None
    assert whole.groupdict() == {"name": "org/rows", "config": "full", "revision": "refs/pr/1"}
    assert DATA_SET.fullmatch("rows.jsonl") is None
    assert DATA_SET.fullmatch("a/b/c") is None


def test_a_commit_has_forty_digits() -> None:
    assert is_commit("0123456789" * 4)
    for other in (None, "main", "0123456", "0123456789" * 4 + "0", "G" * 40, "A" * 40):
        assert not is_commit(other)


def test_a_branch_is_no_hash_and_a_pull_request_goes_to_main() -> None:
    assert check_ref("refs/pr/3") == "refs/pr/3"
    for name in ("0123456", "a..b", "HEAD", "refs/heads/x", ""):
        with pytest.raises(ConfigurationError):
            check_ref(name)
    with pytest.raises(ConfigurationError, match="leave out the tag"):
        check_target(None, "v1", True)
