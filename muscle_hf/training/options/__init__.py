"""What a config is checked for: arguments by name, options that contradict each other, precision, secrets."""
