"""What `muscle-hf update` does: from an old adapter, a new base and data to a compatibility adapter with evidence."""
