"""What a training does not tell: nothing to the Hub, where TRL counts its start; no bars but ours."""

import warnings

import datasets
import transformers


class ReportsNothing:
    """A part of a trainer, before TRL's among the bases; `CI` or `HF_HUB_DISABLE_TELEMETRY` would do the same."""

    def _send_telemetry(self) -> None:
        """Send nothing, where TRL sends its version and kind of trainer, model, data and devices."""


def quiet_libraries() -> None:
    """Leave the terminal to the progress bars of this package."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # transformers renames gradient checkpointing, and trl and peft still use the old name.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
    # PEFT looks for tied weights once more when an adapter is loaded, after it has tied them.
    warnings.filterwarnings("ignore", message=".*requested `ensure_weight_tying`")
