"""What must be said beside a verdict: over what its interval is, among how many claims, what would decide it."""

from math import isfinite

from vitdsl.dsl.text import counted
from vitdsl.runtime.results.verdicts import Source, Verdict


def qualifications(found: Verdict) -> list[str]:
    """What qualifies a verdict, each as a short sentence without its full stop."""
    alone = " alone" if found.over == ("images",) and found.trainings < 2 else ""
    said = [f"the interval is over {' and '.join(found.over)}{alone}", *_one_training(found)]
    if found.p < 1:
        among = f" ({_p(found.p_adjusted)} among {found.claims} claims, Holm)" if found.claims > 1 else ""
        said.append(f"p-value {_p(found.p)}{among}")
    if found.images is not None:
        said.append(f"about {found.images:,} images would decide it, if the numbers stay")
    return said


def _one_training(found: Verdict) -> list[str]:
    if found.trainings > 1:
        return []
    if "seeds" in found.over:
        return ["one side has one training"]
    both = found.right is not None and isfinite(found.right.low)
    return ["one training each" if both else "one training"]


def background(found: Verdict) -> list[str]:
    """What else is known of a claim's difference: its interval over each source alone, and its size."""
    said = [
        in_words(source) for source in found.sources if (source.over,) != found.over and isfinite(source.low)
    ]
    if isfinite(found.effect):
        said.append(f"the difference is {found.effect:.2g} standard deviations of single images")
    return said


def in_words(source: Source) -> str:
    """The interval over one source of variance."""
    count = {"images": "image", "seeds": "seed", "units": "unit"}[source.over]
    return f"over {counted(source.count, count)} it is {source.low:.3g} to {source.high:.3g}"


def about_all(claims: int) -> str:
    """What was done about many claims; nothing for one."""
    if claims < 2:
        return ""
    return (
        f"The study has {claims} claims. Each verdict is adjusted for how many its family has (Holm), so that at most "
        "one study in twenty has any that is wrong by chance."
    )


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.2g}"
