"""An adapter and its card to the Hub: from a folder, a model or a trainer."""
