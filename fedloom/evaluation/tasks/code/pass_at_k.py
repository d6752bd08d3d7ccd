"""pass@k: the chance that one of k answers passes, from n answers of which c do."""

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), the unbiased estimate (Chen et al. 2021). Raises ValueError unless k is in [1, n]."""
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@{k} of {n} answers, {c} of which pass, is undefined")
    return 1.0 - comb(n - c, k) / comb(n, k)
