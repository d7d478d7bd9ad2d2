"""What the lab says when something cannot be done: one sentence, and what to do."""


class LabError(Exception):
    """The message is for the person at the terminal."""
