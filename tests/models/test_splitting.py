"""Models that are asked, split over processes: what the launcher has to be told, and what is refused."""

import pytest

from muscle_hf import ConfigurationError
from muscle_hf.models import splitting

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        (FSDP2 | {"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ZeRO-3.*fsdp2.yaml"),
    ],
)
def test_other_ways_of_splitting_are_refused_and_not_taken_for_whole_models(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], advice: str
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=advice):
        splitting.is_told_to_split()


@pytest.mark.parametrize(
    ("processes", "told", "splits"), [(1, FSDP2, False), (2, {}, False), (2, ZERO, False), (2, FSDP2, True)]
)
def test_models_are_split_where_several_processes_were_told_so(
    monkeypatch: pytest.MonkeyPatch, processes: int, told: dict[str, str], *, splits: bool
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(splitting, "place", lambda: (0, processes))
    assert splitting.is_told_to_split() is splits
