"""A number with its noun: 1 prompt, 2 prompts."""


def plural(number: int, noun: str) -> str:
    """The number and the noun, with an s unless there is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
