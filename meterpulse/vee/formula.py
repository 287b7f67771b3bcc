"""A user's formula over the statistics of a day: numbers, names, + - * /, comparisons, and, or, not. Nothing else.

The text is parsed, never run: every node of its syntax tree has to be on the list below.

>>> Formula.parse("max > 10 * mean").names
frozenset({'max', 'mean'})
>>> Formula.parse("__import__('os')")
Traceback (most recent call last):
    ...
ValueError: formula "__import__('os')": a call is not allowed; it takes numbers, + - * /, comparisons, and, or, not
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

STATISTICS = ("sum", "min", "max", "mean", "median", "sd", "count", "zero_count", "outage_count")
_LENGTH_MAX = 500
_OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Formula:
    """A parsed formula that is true or false of every day."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Formula:
        """Raises ValueError with what is wrong and what it takes."""
        if len(text) > _LENGTH_MAX:
            raise ValueError(f"formula: longer than {_LENGTH_MAX} characters")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"formula {text!r}: cannot be read; write it like max > 10 * mean and sum > 5") from None
        if _kind(tree, text) != "truth":
            raise ValueError(f"formula {text!r}: is a number; compare it, as in max > 10 * mean")
        return cls(text, tree, frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)))

    def holds(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """bool[...]: where it is true, of statistics as float64 arrays of one shape."""
        return self._of(self.tree, values)

    def sides(self, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """What a formula that is one comparison compares; None for others."""
        if not isinstance(self.tree, ast.Compare) or len(self.tree.ops) != 1:
            return None
        shape = next(iter(values.values()))
        left, right = (self._of(side, values) for side in (self.tree.left, self.tree.comparators[0]))
        return np.broadcast_to(left, shape.shape), np.broadcast_to(right, shape.shape)

    def _of(self, node: ast.expr, values: Mapping[str, np.ndarray]) -> Any:
        if isinstance(node, ast.Constant):
            return np.float64(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.UnaryOp):
            inner = self._of(node.operand, values)
            return np.logical_not(inner) if isinstance(node.op, ast.Not) else -inner
        if isinstance(node, ast.BinOp):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return _OPERATORS[type(node.op)](self._of(node.left, values), self._of(node.right, values))
        if isinstance(node, ast.BoolOp):
            parts = [self._of(part, values) for part in node.values]
            return (np.logical_and if isinstance(node.op, ast.And) else np.logical_or).reduce(parts)
        assert isinstance(node, ast.Compare)
        sides = [self._of(side, values) for side in (node.left, *node.comparators)]
        pairs = [_OPERATORS[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)]
        return np.logical_and.reduce(pairs)


def _kind(node: ast.expr, text: str) -> str:
    """`number` or `truth`; raises ValueError for everything that is not on the list."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and abs(node.value) <= 1e18:  # type: ignore[arg-type]
        return "number"
    if isinstance(node, ast.Name):
        if node.id not in STATISTICS:
            raise ValueError(f"formula {text!r}: {node.id!r} is not known; known are {', '.join(STATISTICS)}")
        return "number"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        wanted = "truth" if isinstance(node.op, ast.Not) else "number"
        _want(node.operand, wanted, text)
        return wanted
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _want(node.left, "number", text)
        _want(node.right, "number", text)
        return "number"
    if isinstance(node, ast.Compare) and all(type(op) in _OPERATORS for op in node.ops):
        for side in (node.left, *node.comparators):
            _want(side, "number", text)
        return "truth"
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _want(part, "truth", text)
        return "truth"
    name = "a call" if isinstance(node, ast.Call) else f"{ast.unparse(node)[:40]!r}"
    raise ValueError(f"formula {text!r}: {name} is not allowed; it takes numbers, + - * /, comparisons, and, or, not")


def _want(node: ast.expr, kind: str, text: str) -> None:
    if _kind(node, text) != kind:
        wanted = "a comparison" if kind == "truth" else "a number"
        raise ValueError(f"formula {text!r}: {ast.unparse(node)[:40]!r} is not {wanted}")
