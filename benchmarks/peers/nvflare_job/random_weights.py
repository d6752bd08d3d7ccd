"""The model of a job without training: tensors of random numbers, stored as one file."""

from pathlib import Path

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor


class RandomWeights(ModelPersistor):
    """*n_bytes* in *n_tensors*."""

    def __init__(self, n_bytes: int, n_tensors: int) -> None:
        super().__init__()
        self.n_bytes = n_bytes
        self.n_tensors = n_tensors

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:  # noqa: ARG002
        noise = np.random.default_rng(0)
        n_values = max(1, self.n_bytes // 4 // self.n_tensors)
        weights = {f"t{k}": noise.standard_normal(n_values, dtype=np.float32) for k in range(self.n_tensors)}
        return make_model_learnable(weights=weights, meta_props={})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        folder = Path(fl_ctx.get_workspace().get_result_root(fl_ctx.get_job_id()))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "weights.npz", **model[ModelLearnableKey.WEIGHTS])
