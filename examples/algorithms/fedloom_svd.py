"""SVD of the mean product: the next factors are the best approximation of rank r of Σ p_k B_k A_k.

Bai et al. 2024, "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources"
(FlexLoRA, arXiv 2402.11505), section 3, with equal ranks. The product Σ p_k B_k A_k = L R is never formed, with
L = [p_1 B_1, p_2 B_2, …] (out, K r) and R = [A_1; A_2; …] (K r, in): the QR decompositions of L and Rᵀ leave a core of
(K r, K r) for the SVD. The factors' scale α / r is the same on both sides.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.algorithms import AlgorithmParams, ClientHalf, Part, RoundFacts, ServerHalf
from shared.algorithms.base import Array
from shared.lora import factors


class Params(AlgorithmParams):
    """No parameters."""


class Server(ServerHalf[Params]):
    """(B, A) ← (U √S, √S Vᵀ), cut to rank r, where U S Vᵀ = Σ p_k B_k A_k."""

    def parts(self, names: Sequence[str]) -> Sequence[Sequence[str]]:
        return factors(names)

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:  # noqa: ARG002
        a, b = part.names
        left = np.hstack([update.p * (part.x[b] + update.read("delta")).astype(float) for update in part.updates[b]])
        right = np.vstack([(part.x[a] + update.read("delta")).astype(float) for update in part.updates[a]])
        (q_left, r_left), (q_right, r_right) = np.linalg.qr(left), np.linalg.qr(right.T)
        u, s, v = np.linalg.svd(r_left @ r_right.T)
        root = np.sqrt(s[: len(part.x[a])])
        return {a: (q_right @ v[: len(root)].T * root).T, b: q_left @ u[:, : len(root)] * root}


class Client(ClientHalf[Params]):
    """Plain local training."""
