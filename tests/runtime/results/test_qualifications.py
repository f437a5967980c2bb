"""What is said beside a verdict."""

from typing import Any

from vitdsl.runtime.results.qualifications import about_all, background, qualifications
from vitdsl.runtime.results.verdicts import Estimate, Side, Source, Verdict

SIDE = Side(value=1.0, low=0.9, high=1.1, text="mean of m.v", units="1")


def verdict(**fields: Any) -> Verdict:
    given = {
        "say": "so", "verdict": "supported", "raw": "supported", "reason": "", "is_": "greater", "by": 0.0,
        "left": SIDE, "right": SIDE, "difference": Estimate(value=0.5, low=0.1, high=0.9), "p": 0.004,
        "p_adjusted": 0.02, "claims": 5,
    }  # fmt: skip
    return Verdict(**{**given, **fields})


def test_one_training_stands_beside_every_verdict_that_has_one() -> None:
    assert qualifications(verdict())[:2] == ["the interval is over images alone", "one training each"]
    assert qualifications(verdict(right=None))[1] == "one training"
    assert qualifications(verdict(over=("units",)))[:2] == ["the interval is over units", "one training each"]
    assert qualifications(verdict(over=("images", "seeds")))[1] == "one side has one training"
    seeded = qualifications(verdict(over=("images", "seeds"), trainings=3))
    assert seeded[0] == "the interval is over images and seeds" and "training" not in " ".join(seeded)


def test_p_values_are_said_alone_and_in_their_family() -> None:
    assert "p-value 0.004 (0.02 among 5 claims, Holm)" in qualifications(verdict())
    assert "p-value below 0.001" in qualifications(verdict(p=1e-5, claims=1))
    undecided = qualifications(verdict(verdict="undecided", raw="undecided", p=1.0, images=2048))
    assert undecided[-1] == "about 2,048 images would decide it, if the numbers stay"
    assert not any("p-value" in said for said in undecided)


def test_other_sources_of_variance_are_told() -> None:
    sources = (
        Source(over="images", count=512, low=0.1, high=0.9),
        Source(over="units", count=8, low=-0.2, high=1.2),
        Source(over="seeds", count=1, low=float("nan"), high=float("nan")),
    )
    said = background(verdict(sources=sources, effect=0.42))
    assert said == [
        "over 8 units it is -0.2 to 1.2",
        "the difference is 0.42 standard deviations of single images",
    ]


def test_many_claims_are_explained_once() -> None:
    assert not about_all(1) and "3 claims" in about_all(3)
