"""What the page opens with: a line of facts, the answer in words, the figure that shows it, and what limits it.

Does not own the claims' table (`claims`), or how a figure is drawn.
"""

from collections.abc import Sequence

from vitdsl.reports import claims, sentences, written
from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.labels import duration, listing, number, plural
from vitdsl.reports.sections import Section, plots, sections
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.qualifications import about_all
from vitdsl.runtime.results.verdicts import Verdict

FEW_BLOCKS = 10
"""Below so many image blocks, an interval is itself a rough estimate."""
STATUS = {"started": "not finished", "success": "", "failed": "failed", "interrupted": "interrupted"}
MOST_EFFECTS = 4
MOST_CLAIMS = 3
"""Claims that stand here beside the first one; the table has all."""


def facts(run: Run) -> list[tuple[str, str]]:
    """What ran, in a few words each; where it is a reason for caution, with the section that says more."""
    m = run.manifest
    models, conditions = len(m.models), sum(map(len, m.conditions.values()))
    images = [f"{number(data.images)} images ({name})" for name, data in m.data.items()]
    failed = sum(not check.ok for check in m.trust)
    checks = f"{failed} of {plural(len(m.trust), 'trust check')} failed" if failed else ""
    checks = checks or (f"all {plural(len(m.trust), 'trust check')} passed" if m.trust else "")
    said = [
        (STATUS[m.status], "provenance" if STATUS[m.status] else ""),
        (m.study, ""),
        (m.started_at[:10], ""),
        (", ".join(filter(None, [m.device, m.dtype, "fast" if m.fast else ""])), ""),
        (f"{plural(models, 'model')}, {plural(conditions, 'condition')}", ""),
        (listing(images), ""),
        (checks, "trust" if failed else ""),
        (duration(m.seconds) if m.seconds is not None else "", ""),
    ]
    return [(text, anchor) for text, anchor in said if text]


def answer(run: Run, gathered: Sequence[Section], said_below: str = "") -> list[tuple[str, str]]:
    """The answer, from the numbers: what the claims came to, or the largest effects where none was claimed.

    Args:
        run: The run.
        gathered: Its sections.
        said_below: What the first figure says; it is not said twice.
    """
    found = run.manifest.claims
    said: list[tuple[str, str]] = []
    if found:
        verdicts = claims.counted(one.verdict for one in found.values())
        said.append((f"{plural(len(found), 'claim')}: {verdicts}.", ""))
        first_, *others = found.values()
        said.append((in_numbers(first_), ""))
        said += [(f"{claims.WORDS[one.verdict]}: {_say(one)}.", "") for one in others[:MOST_CLAIMS]]
    else:
        for section in gathered:
            first = next(iter(section.values.values()))
            said += [(text, "") for text in figure_of(first[0]).findings(first)]
        said = [one for one in said if one[0] not in said_below.split("\n")][:MOST_EFFECTS]
    changed = written.finding(run.manifest)
    return said + ([(changed, "claims")] if changed else [])


def headlines(run: Run) -> list[str]:
    """What the main figure of each metric says: its largest effects, with their intervals."""
    return [next(iter(plots(section))).takeaway for section in sections(run)]


def in_numbers(found: Verdict) -> str:
    """A claim with its verdict and its numbers, in one sentence."""
    say = _say(found)
    word = claims.WORDS[found.verdict]
    if found.right is None:
        return f"{word}: {say} ({sentences.quantity(found.left)})."
    against = sentences.against(found)
    return (
        f"{word}: {say} ({sentences.quantity(found.left)} against {against}, "
        f"difference {sentences.difference(found)})."
    )


def _say(found: Verdict) -> str:
    return found.say.strip().removesuffix(".")


def first(manifest: Manifest) -> tuple[str, str] | None:
    """The metric whose figure opens the page, and which of its values; empty for the one in front.

    What the study shows, else what the first claim is about; None where a run says neither.
    """
    shown = manifest.claims.get(manifest.show)
    if manifest.show in manifest.metrics and shown is None:
        return manifest.show, ""
    shown = shown or next(iter(manifest.claims.values()), None)
    return (shown.left.metric, shown.left.quantity) if shown is not None and shown.left.metric else None


def limits(manifest: Manifest) -> list[str]:
    """Over what the intervals speak, and over what they do not."""
    every = list(manifest.claims.values())
    said = []
    if every:
        overs = dict.fromkeys(" and ".join(one.over) for one in every)
        said.append(f"Intervals are 95 % intervals over {listing(list(overs))}.")
        if all(one.trainings < 2 for one in every):
            said.append("Each model was trained once: nothing is said of other trainings.")
    elif manifest.data:
        said.append("Intervals are 95 % intervals over images: nothing is said of other trainings.")
    few = {name: data.image_blocks for name, data in manifest.data.items() if data.image_blocks < FEW_BLOCKS}
    if few:
        blocks = listing([f"{plural(count, 'image block')} of {name}" for name, count in few.items()])
        said.append(f"They rest on {blocks}, so their widths are rough.")
    if moved := manifest.most_moved:
        said.append(f"Numbers are not exact: {moved.text}{'' if moved.ok else ', which is much'}.")
    return [*said, *filter(None, [about_all(len(every))])]
