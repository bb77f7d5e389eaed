"""Intermediate results that a format may write before, or instead of, the answer: every one from its neighbours."""

import numpy as np


def running_remainders(a: np.ndarray, b: np.ndarray, modulus: int, base: int) -> np.ndarray:
    """r_j = (base r_(j+1) + a_j + b_j) mod p from the highest place down, by place, for digits (N, W): (N, W).

    >>> running_remainders(np.array([[9, 4, 3]]), np.array([[5, 0, 7]]), 101, 10).tolist()
    [[44, 3, 10]]
    """
    sums = a.astype(np.int64) + b
    out, running = np.empty_like(sums), np.zeros(len(a), np.int64)
    for place in range(a.shape[1] - 1, -1, -1):
        running = (running * base + sums[:, place]) % modulus
        out[:, place] = running
    return out


def schoolbook(a: np.ndarray, b: np.ndarray, base: int) -> np.ndarray:
    """Multiplication as on paper, rows summed as they are made, for digits (N, n): cells (N, n rows, n + 1 columns).

    Cell t[j, i] = a_i b_j + (digit above: t[j - 1, i + 1] mod base) + (carry: t[j, i - 1] // base), and the last of
    a row is its carry. Every row is the sum so far: its cell i stands at place i + j of the product.

    >>> schoolbook(np.array([[2, 1]]), np.array([[4, 3]]), 10).tolist()  # 12 x 34
    [[[8, 4, 0], [10, 4, 0]]]
    """
    N, n = a.shape
    cells = np.zeros((N, n, n + 1), np.int64)
    above = np.zeros((N, n + 1), np.int64)
    for j in range(n):
        carry = np.zeros(N, np.int64)
        for i in range(n):
            cells[:, j, i] = a[:, i].astype(np.int64) * b[:, j] + above[:, i] + carry
            carry = cells[:, j, i] // base
        cells[:, j, n] = carry
        above[:, :n] = cells[:, j, 1:] % base
    return cells


def spelt(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the cells whose digits are the product, units first: down the first column, along the last row.

    >>> [x.tolist() for x in spelt(2)]
    [[0, 1, 1, 1], [0, 0, 1, 2]]
    """
    place = np.arange(2 * n)
    row = np.minimum(place, n - 1)
    return row, place - row
