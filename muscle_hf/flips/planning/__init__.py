"""How many questions a decision needs, and when one may stop asking."""
