"""Overrides to try, from the settings that a run has."""

from rlhf_cli.health.course import Course, is_number


def more_beta(course: Course) -> str:
    """A stronger hold on the reference."""
    value = course.setting("beta", "value")
    if is_number(value):
        return f"beta={4 * value:g}" if value else "beta=moderate"
    return "beta=strong"


def change_lr(course: Course, factor: float) -> str:
    """The learning rate times the factor."""
    lr = course.setting("optimizer", "lr")
    return f"optimizer.lr={lr * factor:.2g}" if is_number(lr) else "another optimizer.lr"
