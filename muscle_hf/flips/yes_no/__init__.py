"""Yes/no questions: which way a model leans, what it knows, and how an update moved both."""
