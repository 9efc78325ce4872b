"""The choice of a checkpoint by people: the dev prompts' responses of all epochs side by side."""
