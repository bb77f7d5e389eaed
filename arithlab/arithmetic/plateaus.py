"""Where the loss should stand still while a modular sum is learned: what is known by then, and what is still open."""

from math import gcd

from ..errors import ArithlabError
from .tasks import Task


def plateaus(task: Task, units_first: bool = True) -> list[tuple[int, str]]:
    """How many answers are still open at each stage of learning a + b mod p, most first, and what is known there.

    Who cannot tell k equally likely answers apart pays ln(k) per example, spread over its m supervised tokens: the
    mean loss stands at ln(k)/m. (2407.17963 shows such plateaus; the formula is derived here.) Stages: nothing is
    known; the last digits of a sum give it modulo gcd(p, b^j), for j = 1, 2, ...; and, where the answer is written
    units first and p is no divisor of such a power, its first digit is open although all others follow from it: with
    a + b = q p + c, the first digit of c gives q modulo b.

    >>> plateaus(Task("add", 200))
    [(200, 'nothing'), (20, 'the sum modulo 10'), (2, 'the sum modulo 100')]
    >>> plateaus(Task("add", 101))
    [(101, 'nothing'), (10, 'all digits but the first written')]
    """
    if task.operation != "add" or task.modulus is None:
        raise ArithlabError(f"plateaus are worked out for modular sums, not for {str(task)!r}: write 'add mod 101'.")
    p, base, power = task.modulus, task.base, 1
    found = {p: "nothing"}
    while gcd(p, power * base) > gcd(p, power):
        power *= base
        found.setdefault(p // gcd(p, power), f"the sum modulo {gcd(p, power)}")
    first = base // gcd(p, base)
    if units_first and first < p:
        found.setdefault(first, "all digits but the first written")
    return sorted(((k, known) for k, known in found.items() if k > 1), reverse=True)
