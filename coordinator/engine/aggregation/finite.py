"""Results must be finite: the next rounds start from them.

Updates are checked when they arrive, and here by what becomes of them. A sum is never finite with a NaN or an infinity
among its terms: ∞ plus anything is ∞ or NaN, NaN plus anything is NaN, and the sum of finite float32 values does not
leave the range of float64. So finite results are all that is checked, and the updates are searched only if one is not.
"""

from collections.abc import Sequence

import numpy as np

from coordinator.engine.aggregation.files import ClientFiles
from shared.adapters.files import AdapterError, Array, NotFinite, check_finite


def finite(name: str, values: Array) -> Array:
    """The values as float32. Raises NotFinite if one is not finite: finite updates may add up to infinity."""
    converted = as_float32(values)
    check_finite(name, converted)
    return converted


def as_float32(values: Array) -> Array:
    """The values as float32, infinity where that is out of range."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def with_update_named(error: NotFinite, clients: Sequence[ClientFiles]) -> AdapterError:
    """The error that names the first update with a value that is not finite; *error* itself if all are finite."""
    for client in clients:
        for file in client.files:
            for name in file.tensors:
                try:
                    check_finite(name, file.read(name))
                except NotFinite as found:
                    return NotFinite(f"{found.reason} in the update of client {client.client_number}", name)
    return error
