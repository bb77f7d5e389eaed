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


def schoolbook(a: np.ndarray, b: np.ndarray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Multiplication as on paper for digits (N, n): products (N, n rows, n columns), totals (N, n rows, n + 1 columns).

    Product p[j, i] = a_i b_j. Total t[j, i] = p[j, i] + (digit above: t[j - 1, i + 1] mod base) + (carry:
    t[j, i - 1] // base), the last of a row its carry alone. The digits of every row are the sum so far: column i
    of row j stands at place i + j of the product.

    >>> products, totals = schoolbook(np.array([[2, 1]]), np.array([[4, 3]]), 10)  # 12 x 34
    >>> products.tolist(), totals.tolist()
    ([[[8, 4], [6, 3]]], [[[8, 4, 0], [10, 4, 0]]])
    """
    N, n = a.shape
    products = b[:, :, None].astype(np.int64) * a[:, None]
    totals, above = np.zeros((N, n, n + 1), np.int64), np.zeros((N, n), np.int64)
    for j in range(n):
        carry = np.zeros(N, np.int64)
        for i in range(n):
            totals[:, j, i] = products[:, j, i] + above[:, i] + carry
            carry = totals[:, j, i] // base
        totals[:, j, n] = carry
        above = totals[:, j, 1:] % base
    return products, totals


def spelt(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the totals that spell the product, units first: down the first column, along the last row.

    >>> [x.tolist() for x in spelt(2)]
    [[0, 1, 1, 1], [0, 0, 1, 2]]
    """
    place = np.arange(2 * n)
    row = np.minimum(place, n - 1)
    return row, place - row
