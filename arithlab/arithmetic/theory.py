"""What theory says a trained model computes, and how often that is right.

The theory of arXiv 2407.17963, carried to any base and to training domains with gaps:

- A place that training never varies is not read: the model sees there what it always saw. With absolute
  positions and at most n training digits every operand is therefore read modulo b^n. A training domain
  whose units are always 0 makes the units unread too (arXiv 2308.08268, eq. 1 and 2).
- Plain addition is translation invariant: with relative positions the carry rule learned at one place
  serves every place, and the model is predicted to add operands of any length (section on RPE).
- Multiplication is not, and neither is a modulus that does not divide a power of the base: relative
  positions do not help, and operands are read modulo b^n again.
- A modulus p that divides b^n needs the last n digits only: right at any length.
- Otherwise accuracy past n digits tends to gcd(p, b^n)/p (Theorem 5).

And what follows for formats and encodings that the paper does not treat; `invariance` says which and why:
the steps that the format writes must be the same at every place, and so must the positions that they read.
A window must show what a step needs. Being the same is not enough in practice: an encoding without a window
still lets attention spread out over ever more tokens.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import numpy as np

from . import digits as dg
from .batches import stream
from .domains import Domain, domain
from .encodings import LAYERS, Encoding, distance_needed, encoding, visible_digits
from .formats import Format, format_
from .tables import MAKERS
from .tasks import Task

MAX_ENUMERATED_MODULUS = 1_500  # modular products: the count costs p^3 small multiplications
MAX_FACTORED = 10**12
SAMPLES = 100_000  # pairs where no exact count is at hand


@dataclass(frozen=True)
class PredictedFunction:
    """The function that a model is predicted to compute: `task` of the operands as it reads them.

    unread: for each place of an operand, the digit that the model takes it to be, or None where it reads
    it. Places from `digits` on are read as 0; `digits` is None where every place is read. lost: past `digits`
    digits the model meets a layout or a scratchpad that it has never seen, or a window hides what it needs,
    and the answer is a guess. b_digits: the places of b that are read, where training had fewer there than in a.
    """

    task: Task
    digits: int | None = None
    unread: tuple[int | None, ...] = ()
    lost: bool = False
    b_digits: int | None = None

    def __str__(self) -> str:
        if self.lost:
            return f"a guess past {self.digits} digits" if self.digits else "a guess"
        a, b = self._written("a", self.digits), self._written("b", self._digits_of_b)
        text = f"{a} {self.task.symbol} {b}"
        return text if self.task.modulus is None else f"({text}) mod {self.task.modulus}"

    @property
    def _digits_of_b(self) -> int | None:
        known = [digits for digits in (self.digits, self.b_digits) if digits is not None]
        return min(known, default=None)

    def _written(self, operand: str, digits: int | None) -> str:
        text = operand if digits is None else f"({operand} mod {self.task.base}^{digits})"
        fixed = [f"place {i} = {dg.SYMBOLS[d]}" for i, d in enumerate(self.unread) if d is not None]
        return f"{text[:-1] if text.endswith(')') else text}, {', '.join(fixed)})" if fixed else text

    def read(self, operand: np.ndarray, digits: int | None) -> np.ndarray:
        """An operand (N, W) of which so many places are read, as the model reads it."""
        out = dg.fit_width(operand, max(operand.shape[1], len(self.unread))).copy()
        if digits is not None:
            out[:, digits:] = 0
        for place, digit in enumerate(self.unread[: out.shape[1]]):
            if digit is not None:
                out[:, place] = digit
        return out

    def operands(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both operands (N, W) as the model reads them."""
        return self.read(a, self.digits), self.read(b, self._digits_of_b)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The predicted answers for digit arrays (N, W): (N, task.answer_width(W)), wider if `unread` is."""
        return self.task.compute_digits(*self.operands(a, b))

    def accuracy(self, digits: int) -> float:
        """How often the function equals the truth on D_ab of `digits` digits, as a fraction.

        Exact by counting where that is feasible (always for additions without gaps whose operands are read alike,
        and for modular products up to a modulus of MAX_ENUMERATED_MODULUS); else the share among SAMPLES random pairs.
        """
        if self.lost and digits > self.digits:
            return 1 / self.task.modulus if self.task.modulus else 0.0
        if any(d is not None and (d or place < digits) for place, d in enumerate(self.unread)):
            return self._sampled(digits)
        if self.b_digits is not None and digits > self.b_digits:  # as below, a nonzero part of b is cut off
            return self._sampled(digits) if self.task.modulus else 0.0
        if self.digits is None or digits <= self.digits:
            return 1.0
        if self.task.modulus is None:
            return 0.0  # cutting a nonzero part off both operands always makes the answer smaller
        if self.task.operation == "add":
            return float(modular_sum_accuracy(self.task.modulus, self.task.base, self.digits, digits))
        if _reduced(self.task, self.digits) > MAX_ENUMERATED_MODULUS:
            return self._sampled(digits)
        return float(modular_product_accuracy(self.task.modulus, self.task.base, self.digits, digits))

    def limit(self) -> float | None:
        """The accuracy as the test length grows without bound; None where p' is too large, or unread places matter.

        For modular addition gcd(p, b^n)/p (Theorem 5). For modular multiplication it is counted up to
        p' = p/gcd(p, b^n) of MAX_ENUMERATED_MODULUS; above, residues of operands are taken as uniform:
        sum over d | p' of (d/p') J2(p'/d)/p'^2 with Jordan's totient J2. Both are slightly more than
        gcd(p, b^n)/p, because two operands that are both divisible help each other.
        """
        if self.digits is None and self.b_digits is None:
            return 1.0
        if self.task.modulus is None:
            return 0.0
        if self.lost:
            return 1 / self.task.modulus
        if self.b_digits is not None or any(d is not None for d in self.unread):
            return None
        reduced = _reduced(self.task, self.digits)
        if self.task.operation == "add":
            return 1 / reduced
        if reduced <= MAX_ENUMERATED_MODULUS:
            return float(modular_product_accuracy(self.task.modulus, self.task.base, self.digits, self.digits + 100))
        if reduced > MAX_FACTORED:
            return None
        divisors = _divisors(reduced)
        return float(sum(Fraction(d * _jordan2(reduced // d), reduced**3) for d in divisors))

    def _sampled(self, digits: int) -> float:
        test = domain(f"D_ab{digits}")
        a, b = test.sample(stream(0, 9, digits), SAMPLES, self.task.base)
        predicted = self(a, b)
        return float((predicted == dg.fit_width(self.task.compute_digits(a, b), predicted.shape[1])).all(1).mean())


def invariance(task: Task, train: Domain, positions: str, format: str | Format = "padded 9") -> tuple[bool, str]:
    """Whether what is learned at some places holds at all places (translation invariance), and why.

    >>> from arithlab.arithmetic.tasks import task
    >>> invariance(task("add mod 101"), domain("D_1-5"), "clipped places window 1", "remainders")[0]
    True
    >>> invariance(task("add"), domain("D_1-5"), "rope", "aligned")
    (False, 'the distance in tokens between digits of one place grows with the length')
    """
    chosen, fmt = encoding(positions), format_(format)
    fmt.check(task, train.digits)
    if _unread(task, train) or _digits_of_b(task, train, fmt):
        return False, "training never varies some places, which are therefore not read"
    return _carries_on(task, train, chosen, fmt)


def _carries_on(task: Task, train: Domain, chosen: Encoding, fmt: Format) -> tuple[bool, str]:
    """As `invariance`, of the places that training varies."""
    if guess := _guess(task, train, chosen, fmt):
        return False, guess
    n = train.digits
    if task.modulus is not None and fmt.name != "remainders":  # a running remainder is written at every place
        if _reduced(task, n) == 1:
            return True, f"the modulus divides {task.base}^{n}: the last {n} digits decide"
        return False, "what a digit adds to the residue depends on its place"
    if task.operation == "mul" and not fmt.repeated and fmt.name != "schoolbook":
        return False, "a digit of the product depends on digits at every distance"
    if chosen.unseen:
        return False, chosen.unseen
    if chosen.kind == "offset":
        return True, "random offsets make all places alike, as far as the table of places reaches"
    if not chosen.places:
        return True, "every step is the same at every place, and digits of one place stay equally far apart in tokens"
    local = "a window hides the rest" if chosen.window is not None else "but attention may spread over ever more tokens"
    return True, f"every step is the same at every place, and is read by differences of places; {local}"


def _guess(task: Task, train: Domain, chosen: Encoding, fmt: Format) -> str:
    """Why the model cannot tell what to read, so that no function is predicted; empty where it can."""
    if new := _new_layout(chosen, fmt):
        return new
    if chosen.name == "abacus" and (chosen.window is not None or fmt.name == "remainders"):
        return "abacus gives signs and scratchpads no place"  # so a window hides the digits from the sign =
    longest = fmt.width or train.digits
    if visible_digits(chosen, fmt, task, longest) < longest:
        far = distance_needed(chosen, fmt, task, longest)
        unit = ("place" if chosen.places else "token") + "s" * (far > 1)
        return f"a window of {chosen.window} does not show, even over {LAYERS} layers, digits needed {far} {unit} away"
    if fmt.name in ("remainders", *MAKERS) and chosen.unseen:  # a scratchpad is written, and read, at every place
        return chosen.unseen
    if fmt.name in MAKERS and chosen.name != "grid":
        return "a token reads the row above, and places do not tell rows apart"
    carries = task.modulus is None and (task.operation == "add" or fmt.repeated)
    if carries and fmt.answer == "high" and not chosen.unseen:
        return "highest digit first, a carry comes from digits at every distance below, not yet written"
    return ""


def _new_layout(chosen: Encoding, fmt: Format) -> str:
    """Why longer operands stand where nothing has ever stood before; empty where what is known keeps its positions."""
    if chosen.places or fmt.width is not None:
        return ""
    return chosen.unseen or "the distance in tokens between digits of one place grows with the length"


def _unread(task: Task, train: Domain) -> tuple[int | None, ...]:
    """For each place that training varies the digit, None, else the one digit that it shows; () where all vary."""
    seen = [train.seen_digits(place, task.base) for place in range(train.digits)]
    unread = tuple(next(iter(values)) if len(values) == 1 else None for values in seen)
    return unread if any(d is not None for d in unread) else ()


def _digits_of_b(task: Task, train: Domain, fmt: Format) -> int | None:
    """How many digits b had in training, if fewer than a and places above could matter; None otherwise.

    The format 'aligned repeated' writes one digit of b only: there is nothing above.
    """
    seen = max(part.n if part.b is None else part.b for part in train.parts)
    decides = task.modulus is not None and fmt.name != "remainders" and _reduced(task, seen) == 1
    return None if seen == train.digits or fmt.repeated or decides else seen


def predicted_function(
    task: Task, train: Domain, positions: str, format: str | Format = "padded 9"
) -> PredictedFunction:
    """The function that a model trained on `train` with `positions` and `format` is predicted to compute.

    >>> from arithlab.arithmetic.tasks import task
    >>> str(predicted_function(task("add"), domain("D_4"), "learned"))
    '(a mod 10^4) + (b mod 10^4)'
    >>> str(predicted_function(task("add"), domain("D_4"), "rope"))
    'a + b'
    """
    train.check(task.base)
    chosen, fmt = encoding(positions), format_(format)
    fmt.check(task, train.digits)
    unread, (carries_on, _) = _unread(task, train), _carries_on(task, train, chosen, fmt)
    # where b alone was shorter, the places of a may still carry on
    digits = None if carries_on and not unread else visible_digits(chosen, fmt, task, train.digits)
    lost = bool(_guess(task, train, chosen, fmt))
    return PredictedFunction(task, digits, unread, lost, _digits_of_b(task, train, fmt))


def predict(
    task: Task, train: Domain, positions: str, lengths: list[int], format: str | Format = "padded 9"
) -> list[dict]:
    """Per test length: what is computed on D_ab, how often that is right, the limit (as fractions), and why.

    >>> from arithlab.arithmetic.tasks import task
    >>> row = predict(task("add mod 150"), domain("D_4"), "learned", [9])[0]
    >>> round(row["predicted_accuracy"], 6), row["predicted_function"]
    (0.333333, '((a mod 10^4) + (b mod 10^4)) mod 150')
    """
    function = predicted_function(task, train, positions, format)
    limit, reason = function.limit(), invariance(task, train, positions, format)[1]
    return [
        {
            "digits": digits,
            "predicted_accuracy": function.accuracy(digits),
            "limit_accuracy": limit,
            "predicted_function": str(function),
            "reason": reason,
        }
        for digits in lengths
    ]


def modular_sum_accuracy(modulus: int, base: int, n: int, m: int) -> Fraction:
    """How often ((a mod b^n) + (b mod b^n)) mod p is right on D_ab m, m > n: exact, for any modulus.

    With a = A b^n + a0 it is right iff p' = p/gcd(p, b^n) divides A + B (proof of Theorem 5).

    >>> modular_sum_accuracy(101, 10, 4, 6)
    Fraction(41, 4050)
    """
    reduced = modulus // gcd(modulus, base**n)
    low, count = base ** (m - n - 1), (base - 1) * base ** (m - n - 1)
    full, extra = divmod(count, reduced)  # each residue `full` times, `extra` of them (from low on) once more
    hits = full * full * reduced + 2 * full * extra
    # pairs of extra residues low + x, low + y with x + y = -2 low (mod p'), 0 <= x, y < extra
    total = -2 * low % reduced
    while total <= 2 * extra - 2:
        hits += min(total + 1, 2 * extra - 1 - total)
        total += reduced
    return Fraction(hits, count * count)


def modular_product_accuracy(modulus: int, base: int, n: int, m: int) -> Fraction:
    """How often ((a mod b^n)(b mod b^n)) mod p is right on D_ab m, m > n: exact count by residues.

    With a = A b^n + a0 it is right iff p' = p/gcd(p, b^n) divides B a + A b0.

    >>> float(modular_product_accuracy(51, 10, 3, 4))
    0.02398253086419753
    """
    p = modulus // gcd(modulus, base**n)
    high, low = (
        _residue_counts(base ** (m - n - 1), (base - 1) * base ** (m - n - 1), p),
        _residue_counts(0, base**n, p),
    )
    residues = np.arange(p)
    products = np.outer(residues, residues) % p
    shift = base**n % p
    # for every (A, a): S[A, a] = number of (B, b0) with B a + A b0 = 0; counts are q or q + 1, so that
    # products of small integers are summed (exactly) in float64 and joined as Python integers
    (q_high, e_high), (q_low, e_low) = high, low

    def spread(weights: np.ndarray, sign: int) -> np.ndarray:
        """table[x, r] = sum of weights[y] over y with x y = sign r (mod p)."""
        table = np.zeros((p, p))
        np.add.at(table, (np.repeat(residues, p), (sign * products).ravel() % p), np.tile(weights, p))
        return table

    ones = np.ones(p)
    terms = [
        (q_h * q_l, spread(w_h, -1) @ spread(w_l, 1).T)
        for q_h, w_h in ((q_high, ones), (1, e_high))
        for q_l, w_l in ((q_low, ones), (1, e_low))
    ]
    hits = 0
    for A in range(p):
        # a = A b^n + a0 (mod p): the row of S reordered by a0
        row = sum(
            factor * table[(A * shift + residues) % p, A].astype(np.int64).astype(object) for factor, table in terms
        )
        weight_low = q_low + e_low.astype(np.int64).astype(object)
        hits += (q_high + int(e_high[A])) * int((weight_low * row).sum())
    return Fraction(hits, ((base - 1) * base ** (m - n - 1) * base**n) ** 2)


def _residue_counts(low: int, count: int, p: int) -> tuple[int, np.ndarray]:
    """How often each residue mod p occurs among low, ..., low + count - 1: (q, e) meaning q + e[r]."""
    full, extra = divmod(count, p)
    more = np.zeros(p)
    more[(low % p + np.arange(extra)) % p] = 1
    return full, more


def _reduced(task: Task, n: int) -> int:
    return task.modulus // gcd(task.modulus, task.base**n)


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def _jordan2(number: int) -> int:
    """Pairs (x, y) modulo `number` without a common factor with it."""
    out, rest, prime = number * number, number, 2
    while prime * prime <= rest:
        if rest % prime == 0:
            out = out // (prime * prime) * (prime * prime - 1)
            while rest % prime == 0:
                rest //= prime
        prime += 1
    return out if rest == 1 else out // (rest * rest) * (rest * rest - 1)
