"""Where the hub has the rows of files, for ``--fetch``.

The hub converts each public data set to Parquet, on a branch where all have the same layout. So no file's name that
an author may change is needed here, and no script of an author runs.
"""

from dataclasses import dataclass

from fedloom.evaluation.tasks.base import DataFile

BRANCH = "refs/convert/parquet"


@dataclass(frozen=True)
class HubRows:
    """The rows of a file at the hub.

    Args:
        repository: of the data set.
        splits: whose rows follow each other, in the order of the file.
        config: of the data set.
    """

    repository: str
    splits: tuple[str, ...]
    config: str = "default"

    @property
    def files(self) -> list[str]:
        """The files of the branch. Sets as small as these have one for each split."""
        return [f"{self.config}/{split}/0000.parquet" for split in self.splits]


_MBPP = "google-research-datasets/mbpp", ("prompt", "test", "validation", "train")
_ROWS = {
    "advbench/advbench.csv": HubRows("walledai/AdvBench", ("train",)),
    "conala/conala-test.json": HubRows("neulab/conala", ("test",), "curated"),
    "concode/dev.json": HubRows("google/code_x_glue_tc_text_to_code", ("validation",)),
    "drop/drop_dataset_dev.json": HubRows("ucinlp/drop", ("validation",)),
    "ds1000/test.jsonl": HubRows("xlangai/DS-1000", ("test",)),
    "fiqa_scores/test.csv": HubRows("pauri32/fiqa-2018", ("test",)),
    "fiqa_scores/train.csv": HubRows("pauri32/fiqa-2018", ("train",)),
    "fiqa_scores/validation.csv": HubRows("pauri32/fiqa-2018", ("validation",)),
    "gsm8k/test.jsonl": HubRows("openai/gsm8k", ("test",), "main"),
    "gsm8k/train.jsonl": HubRows("openai/gsm8k", ("train",), "main"),
    "humaneval/HumanEval.jsonl.gz": HubRows("openai/openai_humaneval", ("test",), "openai_humaneval"),
    "humanevalpack/python/humanevalpack.jsonl": HubRows("bigcode/humanevalpack", ("test",), "python"),
    "mbpp/mbpp.jsonl": HubRows(*_MBPP, "full"),
    "mbpp/sanitized-mbpp.json": HubRows(*_MBPP, "sanitized"),
    "medmcqa/dev.json": HubRows("openlifescienceai/medmcqa", ("validation",)),
    "medqa/medqa_us_4opt_test.jsonl": HubRows("GBaker/MedQA-USMLE-4-options", ("test",)),
    "nwgi/test.parquet": HubRows("oliverwang15/news_with_gpt_instructions", ("test",)),
    "pubmedqa/ori_pqal.json": HubRows("qiaojin/PubMedQA", ("train",), "pqa_labeled"),
    "tfns/sent_valid.csv": HubRows("zeroshot/twitter-financial-news-sentiment", ("validation",)),
    "truthfulqa/mc_task.json": HubRows("truthfulqa/truthful_qa", ("validation",), "multiple_choice"),
}


def hub_rows(file: DataFile) -> HubRows | None:
    """Where the hub has the rows of a file; None if it has not."""
    folder, _, name = file.path.rpartition("/")
    if folder in ("mmlu/test", "mmlu/dev"):
        split = folder.removeprefix("mmlu/")
        return HubRows("cais/mmlu", (split,), name.removesuffix(f"_{split}.csv"))
    if folder == "bbh":
        return HubRows("SaylorTwift/bbh", ("test",), name.removesuffix(".json"))
    return _ROWS.get(file.path)
