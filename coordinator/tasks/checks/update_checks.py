"""Checks of uploaded files before they are used. Errors name the tensor and the reason."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from coordinator.errors import BadUpdate
from shared.adapters.files import AdapterError, AdapterFile, Array, Contract
from shared.adapters.lora import factor_of, shape_at_rank, trained
from shared.adapters.updates import UpdateFile
from shared.campaign.spec import CampaignSpec, LoraSection

MAX_FIRST_VALUE = 1e3
"""Largest magnitude of a value of adapter 0. A is uniform between ±1/√in, so never beyond 1, and B is zero. Agents
compare every bit (``shared.adapters.initial``)."""
MAX_FIRST_HEADER_BYTES = 4 << 20
"""Largest header of adapter 0, which no contract bounds yet: about 25,000 tensors, those of a hundred layers with 120
adapted modules each. Its JSON is read in a tenth of a second."""


def check_update(path: Path, contract: Contract) -> None:
    """Raise BadUpdate unless the file has exactly the contract's tensors, as they travel, with usable values."""
    try:
        with UpdateFile(path, contract.header_limit) as file:
            contract.check_tensors(file.stored)
            file.check_values()
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error


def check_adapter_zero(path: Path, lora: LoraSection) -> Contract:
    """The contract of adapter 0.

    Raises BadUpdate unless it is a LoRA adapter in F32, of the campaign's rank and on the campaign's modules, whose
    values are as an untrained adapter's.
    """
    try:
        with AdapterFile(path, MAX_FIRST_HEADER_BYTES) as file:
            contract = file.contract
            contract.check(file)
            _check_factors(contract, lora)
            for name in contract.tensors:
                _check_first_values(name, file.read(name))
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error
    return contract


def _check_factors(contract: Contract, lora: LoraSection) -> None:
    """Raise BadUpdate unless the tensors are the pairs of factors of the campaign's rank, on its modules."""
    if not contract.tensors:
        message = "the adapter has no tensors"
        raise BadUpdate(message)
    factors: dict[str, set[str]] = {}
    for name, spec in contract.tensors.items():
        module_factor = factor_of(name)
        if module_factor is None:
            raise BadUpdate("not a LoRA factor; expected NAME.lora_A.weight or NAME.lora_B.weight", name)
        module, factor = module_factor
        if spec.dtype != "F32":
            raise BadUpdate(f"dtype {spec.dtype}, expected F32", name)
        if len(spec.shape) != 2 or spec.shape != shape_at_rank(name, spec.shape, lora.rank):
            raise BadUpdate(f"shape {list(spec.shape)} does not have rank {lora.rank}", name)
        factors.setdefault(module, set()).add(factor)
    for module, present in factors.items():
        for missing in sorted({"A", "B"} - present):
            raise BadUpdate(f"factor {missing} is missing", module)
    if not isinstance(lora.target_modules, str):
        _check_modules(factors, lora.target_modules)


def _check_modules(modules: Iterable[str], targets: Sequence[str]) -> None:
    """Raise BadUpdate unless the adapted modules are those that the campaign names, as agents match them: by the whole
    name or its last parts."""
    matched: set[str] = set()
    for module in modules:
        ends = [target for target in targets if f".{module}".endswith(f".{target}")]
        if not ends:
            raise BadUpdate(f"the campaign's lora.target_modules names no such module: {', '.join(targets)}", module)
        matched.update(ends)
    if missing := [target for target in targets if target not in matched]:
        message = f"it adapts no module {', '.join(missing)}, which the campaign's lora.target_modules names"
        raise BadUpdate(message)


def _check_first_values(name: str, values: Array) -> None:
    """Raise BadUpdate if a factor of adapter 0 is not as it is before training: B zero, so that the adapter changes
    nothing, and A small."""
    found = factor_of(name)
    if found is not None and found[1] == "B" and values.any():
        raise BadUpdate("factor B of adapter 0 must be zero: training starts from the base model as it is", name)
    if max(float(values.max()), -float(values.min())) > MAX_FIRST_VALUE:
        raise BadUpdate(f"a value of adapter 0 is beyond ±{MAX_FIRST_VALUE:g}, which no initialisation draws", name)


def check_parts(contract: Contract, spec: CampaignSpec) -> None:
    """Raise BadUpdate if the algorithm cannot aggregate an adapter with this contract."""
    try:
        spec.algorithm.server_half().check_adapter(trained(contract, spec.lora))
    except AdapterError as error:
        raise BadUpdate(error.reason, error.tensor) from error
