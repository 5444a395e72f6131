"""Weights as ZeRO-3 leaves them: exchanged in parts, whole for a while, and let go of, whatever happens."""

from enum import Enum
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama, tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.integrations import deepspeed as of_transformers

from muscle_hf import ConfigurationError
from muscle_hf.models.sharding import LocalShards, gathered_state, is_sharded, part_of, split_again, whole, whole_shape
from muscle_hf.models.zero3 import loading_whole, refuse_split


class Status(Enum):
    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


class Fetch:
    """A gathering of a weight that is under way."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def wait(self) -> None:
        self.weight.ds_status = Status.NOT_AVAILABLE
        self.weight.all_gather([self.weight])


def as_zero3_has_it(model: nn.Module) -> nn.Module:
    """Put at each weight what DeepSpeed does, for one process of one."""
    model.ds_inflight_param_registry = {}  # type: ignore[assignment]

    def convert(weight: Any) -> None:
        weight.ds_tensor, weight.ds_shape = weight.data.clone().flatten(), weight.shape
        weight.ds_active_sub_modules = set()

        def partition() -> None:
            assert weight.ds_status is not Status.INFLIGHT and not weight.ds_active_sub_modules
            weight.data, weight.ds_status = torch.empty(0), Status.NOT_AVAILABLE

        def all_gather(weights: list[Any]) -> None:
            for one in weights:
                assert one.ds_status is Status.NOT_AVAILABLE
                one.data, one.ds_status = one.ds_tensor.clone().view(one.ds_shape), Status.AVAILABLE

        weight.partition, weight.all_gather, weight.ds_status = partition, all_gather, Status.AVAILABLE
        partition()

    for weight in model.parameters():
        convert(weight)
    return model


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    layers[1].weight.requires_grad_(False)
    return as_zero3_has_it(layers)


def _statuses(model: nn.Module) -> set[Status]:
    return {weight.ds_status for weight in model.parameters()}  # type: ignore[attr-defined]


def test_a_split_model_is_known_by_its_weights_and_their_shapes_are_those_of_the_whole(model: nn.Module) -> None:
    assert is_sharded(model)
    assert [tuple(whole_shape(weight)) for weight in model.parameters()] == [(3, 2), (3,), (2, 3), (2,)]
    assert part_of(model[0].weight).shape == (6,)  # type: ignore[index]


def test_kept_values_take_the_place_of_the_parts_and_what_was_whole_is_gathered_anew(model: nn.Module) -> None:
    weight: Any = model[0].weight  # type: ignore[index]
    start, shards = weight.ds_tensor.clone(), LocalShards(model)
    weight.ds_tensor += 1  # an optimizer's step
    weight.all_gather([weight])  # and one that DeepSpeed keeps whole all the time
    weight.ds_active_sub_modules.add(7)  # of a pass that did not end
    with shards.in_place():
        assert weight.ds_status is Status.NOT_AVAILABLE
        weight.all_gather([weight])
        torch.testing.assert_close(weight.data.flatten(), start)
    assert weight.ds_status is Status.NOT_AVAILABLE
    torch.testing.assert_close(weight.ds_tensor, start + 1)
    with pytest.raises(ZeroDivisionError), shards.in_place():
        weight.all_gather([weight])
        _ = 1 / 0
    torch.testing.assert_close(weight.ds_tensor, start + 1)
    assert _statuses(model) == {Status.NOT_AVAILABLE}
    torch.testing.assert_close(shards.kept["0.weight"], start)


def test_a_head_is_whole_for_a_while_without_its_hooks_also_where_it_was_under_way(model: nn.Module) -> None:
    head: Any = model[1]  # type: ignore[index]
    called: list[str] = []
    head.register_forward_hook(lambda *_: called.append("released"))
    head.bias.ds_status = Status.INFLIGHT
    model.ds_inflight_param_registry[head.bias] = Fetch(head.bias)  # type: ignore[index,operator]
    with whole(model, head, None):
        assert head(torch.ones(1, 3)).shape == (1, 2)
        assert head(torch.ones(1, 3)).shape == (1, 2)
        assert model[0].weight.ds_status is Status.NOT_AVAILABLE  # type: ignore[index]
    assert not called and not model.ds_inflight_param_registry
    # What was there is left to whoever asked for it.
    assert head.weight.ds_status is Status.NOT_AVAILABLE and head.bias.ds_status is Status.AVAILABLE
    split_again(model)
    assert _statuses(model) == {Status.NOT_AVAILABLE}


@pytest.mark.parametrize("keep", [True, False])
def test_a_state_is_gathered_weight_by_weight_and_kept_by_one(model: nn.Module, keep: bool) -> None:
    def is_wanted(_: str, value: Tensor) -> bool:
        return value.requires_grad

    state = gathered_state(model, is_wanted, keep=keep)
    assert {name: tuple(value.shape) for name, value in state.items()} == (
        {"0.weight": (3, 2), "0.bias": (3,), "1.bias": (2,)} if keep else {}
    )
    assert _statuses(model) == {Status.NOT_AVAILABLE}


def test_models_are_loaded_whole_and_one_that_was_split_at_once_is_refused(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told:
        def is_zero3(self) -> bool:
            return True

    told = Told()
    monkeypatch.setattr(of_transformers, "_hf_deepspeed_config_weak_ref", lambda: told)
    with pytest.raises(ZeroDivisionError), loading_whole():
        assert not of_transformers.is_deepspeed_zero3_enabled()
        AutoModelForCausalLM.from_config(tiny_llama(1, tiny_tokenizer(), hidden_size=16, layers=1).config)
        _ = 1 / 0
    assert of_transformers.is_deepspeed_zero3_enabled()
    refuse_split("org/base", "model")
    refuse_split(nn.Linear(1, 1), "model")
    with pytest.raises(ConfigurationError, match=r"old_model are split .* zero3_init_flag: false"):
        refuse_split(model, "old_model")
