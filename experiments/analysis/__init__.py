"""Statistics of trained models that experiments ask for."""
