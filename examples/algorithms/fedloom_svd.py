"""SVD of the mean product: the next factors are the best approximation of rank r of Σ p_k B_k A_k.

Bai et al. 2024, "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources"
(FlexLoRA, arXiv 2402.11505), section 3. The ranks r_k of the clients may differ: client k starts from the first r_k
components of the global adapter. They are its largest, since the SVD has them in falling order.

The product Σ p_k B_k A_k = L R is never formed, with L = [p_1 B_1, p_2 B_2, …] (out, Σ r_k) and R = [A_1; A_2; …]
(Σ r_k, in): the QR decompositions of L and Rᵀ leave a core of (Σ r_k, Σ r_k) for the SVD. The scale α / r of the
products is the same for all clients and for the result.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.adapters.lora import factors
from shared.algorithms import AlgorithmParams, ClientHalf, Part, RoundFacts, ServerHalf
from shared.algorithms.base import Array


class Params(AlgorithmParams):
    """No parameters."""


class Server(ServerHalf[Params]):
    """(B, A) ← (U √S, √S Vᵀ), cut to rank r, where U S Vᵀ = Σ p_k B_k A_k.

    If the sum has fewer than r components, the others stay trainable: B is 0 there, and A keeps its values.
    """

    mixes_ranks = True

    def parts(self, names: Sequence[str]) -> Sequence[Sequence[str]]:
        return factors(names)

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:  # noqa: ARG002
        a, b = part.names
        x_a, x_b = part.x[a].copy(), part.x[b].copy()
        left = np.hstack([k.p * (x_b[:, : k.shape[1]] + k.read("delta")).astype(float) for k in part.updates[b]])
        right = np.vstack([(x_a[: k.shape[0]] + k.read("delta")).astype(float) for k in part.updates[a]])
        (q_left, r_left), (q_right, r_right) = np.linalg.qr(left), np.linalg.qr(right.T)
        u, s, v = np.linalg.svd(r_left @ r_right.T)
        root = np.sqrt(s[s > 1e-7 * s[0]][: len(x_a)])  # what float32 resolves
        x_a[: len(root)], x_b[:] = (q_right @ v[: len(root)].T * root).T, 0
        x_b[:, : len(root)] = q_left @ u[:, : len(root)] * root
        return {a: x_a, b: x_b}


class Client(ClientHalf[Params]):
    """Plain local training."""
