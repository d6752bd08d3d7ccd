"""The model card of a merged model: its parts, and how exact the merge is."""

from fedloom.adapters.benchmark_section import benchmark_section, split
from fedloom.adapters.local import LocalAdapter
from fedloom.adapters.model_card import front_matter, origin_rows
from fedloom.adapters.protection import protection_section
from fedloom.precision import precision_of_training


def merged_card(adapter: LocalAdapter, *, dtype: str, merge_difference: float, file_difference: float) -> str:
    """The text of a README.md with front matter as the Hugging Face hub reads it.

    merge_difference, file_difference: largest absolute differences of logits, as ``agent.orders.on_base.merge.Merged``
    has them.
    """
    lora, base = adapter.lora, adapter.base
    revision = f" at revision `{base.revision}`" if base.revision else ""
    lines = [
        front_matter(base.model, library="transformers", tags=["federated-learning", "fedloom"]),
        f"# {adapter.name}, merged",
        "",
        f"`{base.model}`{revision} with a LoRA adapter (rank {lora.rank}, alpha {lora.alpha:g}) merged into its "
        f"weights by Fedloom, as {dtype}.",
        "",
        f"Merged in float32, its logits differ from those of base and adapter by at most {merge_difference:.2g}"
        + (f"; rounded to {dtype}, by at most {file_difference:.2g}." if dtype != "float32" else "."),
        "",
        "## Lineage",
        "",
        "| | |",
        "| --- | --- |",
        f"| Base model | `{base.model}`{revision} |",
        f"| Adapter (SHA-256) | `{adapter.sha256}` |",
    ]
    lineage = adapter.lineage
    if lineage is not None:
        lines += [
            f"| Campaign | `{lineage.campaign_name}` (`{lineage.campaign_id}`) |",
            f"| Adapter | {lineage.adapter_number} of {lineage.spec.rounds} |",
            *(f"| {name} | {value} |" for name, value in origin_rows(lineage.origins)),
            f"| Prompts | written with the `{lineage.spec.data.template}` template |",
        ]
        if base.quantization is not None:
            lines.append(f"| Base in training | quantised to {base.quantization}; merged into the published weights |")
        if rounded := precision_of_training(base):
            lines.append(f"| Precision in training | {rounded} |")
        held_out = split(lineage.metrics)[0]
        lines += [f"| {each.metric.title} | {each.metric.with_unit(each.value)} |" for each in held_out]
        if lineage.fingerprint is not None:
            lines.append(f"| Base weights | `{lineage.fingerprint.weights}` (fingerprint) |")
        origin = bool(lineage.origins) or lineage.spec.start_from is not None
        number = lineage.adapter_number
        of = "the adapter on its base model, before the merge"
        lines += [
            "",
            *benchmark_section(lineage.metrics, lineage.benchmarks, lineage.spec.evaluation, of=of),
        ]
        lines += [*protection_section(lineage.spec, lineage.protection, number=number, has_origin=origin)]
    return "\n".join([*lines, ""])
