"""The alarms of a run, step by step: a rule's alarm begins, lasts, and ends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.health.course import WINDOW, Course, Row
from rlhf_cli.health.rules import EVALUATION_RULES, STEP_RULES

QUIET: Final = WINDOW
"""Steps in a row without concern that end an alarm: a value that wavers at a limit is one alarm."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One alarm of a rule."""

    rule: str
    step: int
    """The step at which it began."""
    evidence: str
    """The numbers that the rule saw then."""
    override: str
    """The setting to try."""
    until: int | None = None
    """The last step at which the rule saw it; None while the alarm lasts."""

    def line(self) -> str:
        """The finding in one line."""
        return f"step {self.step}: {self.rule}: {self.evidence}; try {self.override}"


@dataclass(slots=True)
class Alarms:
    """The alarms so far. They follow from metrics.jsonl and evaluations.jsonl, also on a resume."""

    course: Course = field(default_factory=Course)
    active: dict[str, Finding] = field(default_factory=dict)
    """The alarms that last, by rule."""
    over: list[Finding] = field(default_factory=list)
    """The alarms that ended."""
    _seen: dict[str, int] = field(default_factory=dict)
    """The last step at which each active rule saw something."""

    def observe(self, row: Row, evaluation: Evaluation | None = None) -> list[Finding]:
        """Add a step by its line of metrics.jsonl, and the evaluation after it; return the alarms that begin."""
        course = self.course
        course.add(row)
        rules = dict(STEP_RULES)
        if evaluation is not None:
            course.evaluate(evaluation)
            rules |= EVALUATION_RULES
        new = []
        for name, rule in rules.items():
            concern = rule(course)
            if concern is not None:
                if name not in self.active:
                    self.active[name] = Finding(name, course.step, concern.evidence, concern.override)
                    new.append(self.active[name])
                self._seen[name] = course.step
            elif name in self.active and (name in EVALUATION_RULES or course.step - self._seen[name] >= QUIET):
                self.over.append(replace(self.active.pop(name), until=self._seen[name]))
        return new

    def findings(self) -> list[Finding]:
        """All alarms, by the step at which they began."""
        return sorted([*self.over, *self.active.values()], key=lambda finding: finding.step)


def replay(rows: Iterable[Row], evaluations: Iterable[Evaluation], config: Mapping[str, Any]) -> Alarms:
    """The alarms of a run, from the lines of its metrics and its evaluations, in the order of their steps."""
    alarms, by_step = Alarms(Course(config)), {evaluation.step: evaluation for evaluation in evaluations}
    for row in rows:
        alarms.observe(row, by_step.get(row["step"]))
    return alarms
