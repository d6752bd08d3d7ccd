"""``fedloom evaluate --list``: each task with its metrics and data."""

from typing import TYPE_CHECKING, Any

from fedloom.cli import output
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from fedloom.evaluation.data.listing import ListedTask
    from fedloom.evaluation.running.plan import Plan


def print_tasks(plan: "Plan", *, as_json: bool, names_suites: bool) -> None:
    """Print the tasks of a plan, and then their data. names_suites: as text, the suites of the package too."""
    from fedloom.cli.evaluation.data_lines import data_lines, name_of
    from fedloom.evaluation.data.file_groups import groups_of
    from fedloom.evaluation.data.listing import listed
    from fedloom.evaluation.suites import built_in

    found = list(listed(plan.tasks, plan.data))
    if as_json:
        output.print_json({"data": str(plan.data), "tasks": [_as_json(each) for each in found]})
        return
    table = output.table("TASK", "METRICS", "ITEMS HERE", "DATA", right=["ITEMS HERE"], fold=["METRICS", "DATA"])
    for each in found:
        metrics = ", ".join(metric.name for metric in each.task.metrics)
        names = ", ".join(name_of(group) for group in groups_of(each.task.files))
        table.add_row(each.task.name, metrics, _items(each), names)
    output.console().print(table)
    if names_suites:
        output.say(f"suites of tasks, for --suite: {', '.join(built_in())}")
    output.say("")
    for line in data_lines(found, output.console().width):
        output.say(line)
    for each in found:
        if each.problem:
            output.say(f"{each.task.name}: {visible_line(each.problem)}", err=True)


def _items(each: "ListedTask") -> str:
    if each.n_here is None:
        return "-"
    return f"{each.n_here:,}" + (f" of {each.task.n_published:,}" if each.task.n_published is not None else "")


def _as_json(each: "ListedTask") -> dict[str, Any]:
    files = [
        {
            **{name: getattr(file.file, name) for name in ("path", "where", "licence", "n_rows")},
            "published_sha256": list(file.file.sha256),
            "state": file.state,
            "found_at": file.path,
            "sha256": file.sha256,
            "edition": file.edition,
        }
        for file in each.files
    ]
    metrics = [{"name": metric.name, "title": metric.title, "rule": metric.rule} for metric in each.task.metrics]
    return {"task": each.task.name, "title": each.task.title, "origin": each.task.origin, "metrics": metrics} | {
        "files": files,
        "items_here": each.n_here,
        "items_published": each.task.n_published,
        "problem": each.problem or None,
    }
