"""Functions of two operands that a reader types: `(a % 1000) + (b // 10 * 10)`.

Only what is listed here is ever computed: nothing typed is run as code.
"""

import ast
import operator
from collections.abc import Callable

import numpy as np

from ..errors import ArithlabError, shorten
from . import digits as dg

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
FUNCTIONS = {"min": min, "max": max}
LONGEST = 200  # characters
ALLOWED = "a, b, whole numbers, + - * // % ( ), min and max"


def formula(text: str, base: int = 10) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function of two batches of digits (N, W), place 0 = units, that the text describes; (N, places) digits.

    Raises ArithlabError where the text holds anything else than a, b, whole numbers, + - * // %, brackets, min and
    max; and, when called, where a result is below 0 or divided by 0.

    >>> double = formula("2 * (a % 100) + b // 10")
    >>> double(np.array([[5, 4, 3]]), np.array([[0, 7, 0]]))[0].tolist()
    [7, 9]
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ArithlabError(f"formula {shorten(text)}: write a text of at most {LONGEST} characters with {ALLOWED}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArithlabError(f"formula {shorten(text)} cannot be read: write {ALLOWED}.") from error
    _check(tree, text)

    def compute(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        numbers = []
        for x, y in zip(dg.to_ints(a, base), dg.to_ints(b, base), strict=True):
            try:
                numbers.append(_value(tree, {"a": x, "b": y}))
            except ZeroDivisionError:
                raise ArithlabError(f"formula {shorten(text)} divides by zero for a = {x}, b = {y}.") from None
            if numbers[-1] < 0:
                raise ArithlabError(f"formula {shorten(text)} is below zero for a = {x}, b = {y}.")
        return dg.from_ints(numbers, base)

    return compute


def _check(node: ast.AST, text: str) -> None:
    match node:
        case ast.Name(id="a" | "b"):
            parts = []
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            parts = []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            parts = [left, right]
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_] as parts, keywords=[]):
            pass
        case _:
            raise ArithlabError(
                f"formula {shorten(text)}: {shorten(ast.unparse(node))} is not allowed; write {ALLOWED}."
            )
    for part in parts:
        _check(part, text)


def _value(node: ast.AST, operands: dict[str, int]) -> int:
    match node:
        case ast.Name(id=name):
            return operands[name]
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, operands), _value(right, operands))
        case ast.Call(func=ast.Name(id=name), args=parts):
            return FUNCTIONS[name](*(_value(part, operands) for part in parts))
    raise AssertionError("checked before")
