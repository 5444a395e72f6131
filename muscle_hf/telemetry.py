"""What a training does not tell: TRL counts the start of each one at the Hub, and local work asks nobody."""


class ReportsNothing:
    """A part of a trainer, before TRL's among the bases; `CI` or `HF_HUB_DISABLE_TELEMETRY` would do the same."""

    def _send_telemetry(self) -> None:
        """Send nothing, where TRL sends its version and kind of trainer, model, data and devices."""
