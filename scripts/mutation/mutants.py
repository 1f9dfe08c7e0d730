"""The mutants of mutate.py: the small mistakes that it tries, and a module with one of them in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]

ARITHMETIC: Final = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
NAMES: Final = {"min": "max", "minimum": "maximum", "amin": "amax", "fmin": "fmax", "sum": "mean", "fsum": "fmean"}
SWAPPED: Final = NAMES | {other: name for name, other in NAMES.items()}
DROPPED: Final = ("detach", "masked_fill", "clamp")
SKIPPED_FIELDS: Final = ("annotation", "returns", "decorator_list")
SKIPPED_KEYWORDS: Final = ("strict",)  # of zip: guards against a mistake of ours, and changes no result
LONGEST: Final = 100
"""A mutant is shown within the largest expression or statement that is no longer than this."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one mistake in it."""

    file: str
    """From the root of the repository."""
    line: int
    text: str
    """original -> mutant"""
    source: str
    in_function: bool
    """Whether the mistake is inside a function: nothing else of the module, when it is imported, is another."""

    @property
    def key(self) -> tuple[str, str]:
        """The mutant's name in equivalent.txt, which does not depend on its line number."""
        return self.file, self.text


def mistakes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that could stand in the place of `node` by mistake."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right):
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
            yield left
            if not isinstance(op, ast.Div):
                yield ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
        case ast.UnaryOp(ast.USub(), ast.Constant(int())):
            return  # a dimension counted from the end: in a matrix, -1 is 1
        case ast.UnaryOp(ast.USub() | ast.Invert() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, [op], [right]):
            yield from (ast.Compare(left, [other()], [right]) for other in COMPARISONS.get(type(op), ()))
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Call(ast.Name(name), arguments, keywords) if name in SWAPPED and name != "sum":  # there is no mean
            yield ast.Call(ast.Name(SWAPPED[name]), arguments, keywords)
        case ast.Call(ast.Attribute(operand, name), arguments, keywords):
            if name in DROPPED:
                yield operand
            if name in SWAPPED:
                yield ast.Call(ast.Attribute(operand, SWAPPED[name]), arguments, keywords)
        case ast.keyword("min" | "max" as name, bound):
            yield ast.keyword(SWAPPED[name], bound)


def mutants(file: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    original = ast.unparse(tree)
    found: dict[tuple[int, str], Mutant] = {}

    def visit(node: ast.AST, above: tuple[ast.AST, ...], line: int, scope: str, inside: bool) -> None:
        for name, value in ast.iter_fields(node):
            if name in SKIPPED_FIELDS:
                continue
            holder: Any  # a list of nodes, or the node's own fields
            places: Any
            holder, places = (value, range(len(value))) if isinstance(value, list) else (vars(node), [name])
            for place in places:
                child = holder[place]
                if not isinstance(child, ast.AST) or getattr(child, "arg", "") in SKIPPED_KEYWORDS:
                    continue
                around = (child,) if isinstance(child, ast.stmt) else (*above, child)
                at = getattr(child, "lineno", line)
                shown = next((one for one in around if len(headline(one)) <= LONGEST), child)
                for other in mistakes(child):
                    before = headline(shown)
                    holder[place] = other
                    text, source = f"{before} -> {headline(other if shown is child else shown)}", ast.unparse(tree)
                    if isinstance(shown, ast.Constant):  # False -> True says too little
                        text += f" in {scope}"
                    holder[place] = child
                    if source != original:
                        found.setdefault((at, text), Mutant(file, at, text, source, inside))
                is_function = isinstance(child, ast.FunctionDef)
                visit(child, around, at, getattr(child, "name", None) or scope, inside or is_function)

    visit(tree, (), 1, "the module", False)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def headline(node: ast.AST) -> str:
    """The node as text; of a compound statement, only its head, without decorators."""
    lines = ast.unparse(node).split("\n")
    return next(line for line in lines if not line.startswith("@"))
