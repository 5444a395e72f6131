"""How many answers do updates of real models break, and which strategy keeps most? See `__main__`."""
