"""Flips that may be the grader's mistakes: ranked, drawn to be checked, counted."""
