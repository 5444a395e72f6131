"""Tokens that a config holds, left out of whatever is made of it: texts, trackers, and the copy beside a model."""

from dataclasses import asdict, fields, is_dataclass
from typing import Any

_INIT_KWARGS = ("model_init_kwargs", "old_model_init_kwargs")
_MASK = "<TOKEN>"


class WithoutTokens:
    """A part of both configs: what is written down of them has no token of the Hub.

    transformers leaves out its own options whose names end in `_token`, but not what stands in keyword arguments for
    `from_pretrained`, and the text that a dataclass makes of itself leaves out nothing.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the options as trackers and files get them."""
        options: dict[str, Any] = super().to_dict()  # type: ignore[misc]  # of TrainingArguments
        return options | {name: masked(options[name]) for name in _INIT_KWARGS if name in options}

    def __str__(self) -> str:
        """Return the options as a log gets them."""
        assert is_dataclass(self)  # noqa: S101 - for the type checker
        options = {
            name: f"<{name.upper()}>" if name.endswith("_token") else masked(value) if name in _INIT_KWARGS else value
            for name, value in sorted(asdict(self).items())
        }
        return "\n".join([f"{type(self).__name__}(", *(f"{name}={value}," for name, value in options.items()), ")"])

    def __repr__(self) -> str:
        """Return the same as `str`."""
        return str(self)


def masked(kwargs: Any) -> Any:
    """Return keyword arguments for `from_pretrained` with a mask in the place of a token."""
    if not isinstance(kwargs, dict) or not isinstance(kwargs.get("token"), str):
        return kwargs
    return kwargs | {"token": _MASK}


def without_tokens(args: Any) -> dict[str, Any]:
    """Return the options of a config that hold tokens, with values without: those for a copy that is kept."""
    names = [option.name for option in fields(args)]
    tokens = {name: None for name in names if name.endswith("hub_token") and getattr(args, name) is not None}
    kwargs = {name: masked(getattr(args, name)) for name in names if name in _INIT_KWARGS}
    return tokens | {name: value for name, value in kwargs.items() if value is not getattr(args, name)}
