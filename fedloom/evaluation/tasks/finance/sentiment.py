"""The sentiment of a text: generated and read by a rule, or the likeliest of three labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Likelihood
from fedloom.evaluation.tasks.base import Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.finance.corpora import LABELS, Corpus
from fedloom.evaluation.tasks.finance.fiqa import Fiqa
from fedloom.evaluation.tasks.finance.fiqa_labelled import FiqaLabelled
from fedloom.evaluation.tasks.finance.frames import FINGPT, OPENFEDLLM, Frame
from fedloom.evaluation.tasks.finance.news import NewsWithInstructions
from fedloom.evaluation.tasks.finance.phrasebank import PhraseBank
from fedloom.evaluation.tasks.finance.twitter import TwitterNews
from fedloom.evaluation.tasks.fitting import Fitted, fit
from fedloom.evaluation.tasks.flags import CUT, flags_of
from shared.digest import sha256_hex, sha256_of_parts

MAX_LENGTH = 512
"""Tokens of prompt and reply together, in both benchmarks."""
_N_REPLY = 32
"""Tokens of these that a reply has at the least, where a long prompt is cut."""
_READ = "the reply is searched for positive and negative, anything else is neutral"
_LIKELIEST = "the label with the greatest log-likelihood after the prompt"
CORPORA: Mapping[str, type[Corpus]] = {
    corpus.name: corpus for corpus in (PhraseBank, Fiqa, FiqaLabelled, TwitterNews, NewsWithInstructions)
}


def sentiment_task(name: str) -> Task:
    """A task by name: a corpus, for OpenFedLLM's prompt, or with ``_fingpt`` or ``_likelihood``. Raises KeyError."""
    for suffix in ("_fingpt", "_likelihood"):
        if name.endswith(suffix):
            corpus = CORPORA[name.removesuffix(suffix)]()
            return GeneratedSentiment(corpus, FINGPT, name) if suffix == "_fingpt" else LikeliestSentiment(corpus, name)
    return GeneratedSentiment(CORPORA[name](), OPENFEDLLM, name)


def _metrics(rule: str) -> list[TaskMetric]:
    f1 = {
        "macro": "mean over the three labels",
        "micro": "all labels together",
        "weighted": "weighted by true labels",
    }
    return [
        TaskMetric("acc", "accuracy", rule, chance=1 / len(LABELS)),
        *(
            TaskMetric(f"f1_{name}", f"F1, {name}", f"F1, {how}; {rule}", kind="labels", labels=LABELS)
            for name, how in f1.items()
        ),
    ]


class _Sentiment(Task):
    def __init__(self, corpus: Corpus, frame: Frame, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.files, self.n_published = corpus.files, corpus.n_published
        self.origin = frame.origin
        self._corpus, self._frame = corpus, frame

    def load(self, data: Path) -> Items:
        return self._corpus.load(data)

    def _fitted(self, items: Sequence[Item], model: Model) -> list[Fitted]:
        return fit([self._prompt(item) for item in items], model, MAX_LENGTH, _N_REPLY)

    def _prompt(self, item: Item) -> str:
        return self._frame.prompt(self._corpus.name, item.content["kind"], item.content["text"])


class GeneratedSentiment(_Sentiment):
    """A reply is generated greedily, and read as the frame says."""

    def __init__(self, corpus: Corpus, frame: Frame, name: str) -> None:
        title = corpus.title if frame is OPENFEDLLM else f"{corpus.title} ({frame.title})"
        super().__init__(corpus, frame, name, title)
        unread = TaskMetric("unparsed", "replies without a label", "share of replies that name no label", best=-1)
        self.metrics = [*_metrics(_READ), unread]

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        fitted = self._fitted(items, model)
        asked = [each for each in fitted if not each.problem]
        replies = iter(model.ask([Generate(each.prompt, max_new_tokens=each.n_left) for each in asked]))
        outcomes = []
        for item, each in zip(items, fitted, strict=True):
            if each.problem:
                outcomes.append(_problem(item, each))
                continue
            reply = next(replies)
            named = self._frame.named(self._corpus.name, reply.text)
            label = self._frame.label(self._corpus.name, reply.text)
            flags = flags_of(reply) | ({CUT} if each.is_cut else set())
            flags |= {"several labels"} if len(named) > 1 else set()
            flags |= {"unparsed"} if not named else set()
            outcomes.append(
                Outcome(
                    item.id,
                    item.group,
                    values={"acc": float(label == item.content["label"]), "unparsed": float(not named)},
                    label=(item.content["label"], label),
                    flags=flags,
                    prompt_sha256=sha256_hex(each.prompt.encode()),
                    reply=reply.text,
                    problem=reply.problem,
                )
            )
        return outcomes


class LikeliestSentiment(_Sentiment):
    """The label with the greatest likelihood after OpenFedLLM's prompt: nothing is left to a rule."""

    def __init__(self, corpus: Corpus, name: str) -> None:
        super().__init__(corpus, OPENFEDLLM, name, f"{corpus.title} (likelihood)")
        self.metrics = _metrics(_LIKELIEST)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        fitted = self._fitted(items, model)
        # the space before a label is of the label: tokenizers join the two
        contexts = [each.prompt.rstrip(" ") for each in fitted if not each.problem]
        scored = iter(model.ask([Likelihood(context, f" {label}") for context in contexts for label in LABELS]))
        outcomes = []
        for item, each in zip(items, fitted, strict=True):
            if each.problem:
                outcomes.append(_problem(item, each))
                continue
            found = {label: next(scored) for label in LABELS}
            label = max(LABELS, key=lambda name: found[name].log_prob)
            is_cut = each.is_cut or any(one.n_cut for one in found.values())
            outcomes.append(
                Outcome(
                    item.id,
                    item.group,
                    values={"acc": float(label == item.content["label"])},
                    label=(item.content["label"], label),
                    flags=frozenset({CUT} if is_cut else ()),
                    problem=next(filter(None, (one.problem for one in found.values())), ""),
                    prompt_sha256=sha256_of_parts([each.prompt.rstrip(" "), *LABELS]),
                )
            )
        return outcomes


def _problem(item: Item, fitted: Fitted) -> Outcome:
    return Outcome(item.id, item.group, problem=fitted.problem)
