"""The lab of the training tests, and the environment that they set before torch is imported."""

from tests.train.conftest import _shared_lab, data_file, lab, model_folder, pairs_file

__all__ = ["_shared_lab", "data_file", "lab", "model_folder", "pairs_file"]
