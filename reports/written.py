"""When the claims were written: what stands beside the verdicts, and at each claim that was not there before.

Does not own the sentences that the terminal says as well (`vitdsl.runtime.results.provenance`).
"""

from vitdsl.reports.labels import plural
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.provenance import holds, moment, of_earlier, of_seal


def beside(manifest: Manifest) -> list[tuple[str, bool]]:
    """Sentences beside the verdicts, each with whether it is a reason for caution."""
    said = []
    if manifest.earlier:
        said.append((of_earlier(manifest.earlier), not manifest.earlier.as_first))
    if manifest.seal:
        text = of_seal(manifest.seal, study=manifest.study, vitdsl=manifest.vitdsl)
        said.append((text, not holds(manifest.seal, manifest.study)))
    return said


def since(manifest: Manifest) -> dict[str, str]:
    """For each claim that was not there in this form before a run or a seal: how it differs, and since when."""
    found: dict[str, list[str]] = {}
    earlier, seal = manifest.earlier, manifest.seal
    if earlier and not earlier.as_first:
        for name, how in earlier.changes.of_claims.items():
            found.setdefault(name, []).append(f"{how} since the run of {moment(earlier.run.started_at)}")
    if seal:
        for name, how in seal.changes.of_claims.items():
            found.setdefault(name, []).append(f"{how} since the seal")
    return {name: ", ".join(words) for name, words in found.items()}


def finding(manifest: Manifest) -> str:
    """What the head of the page says of what changed after a run or a seal; nothing where nothing did."""
    changed, seal = since(manifest), manifest.seal
    if not changed:
        if seal is None or holds(seal, manifest.study):
            return ""
        late = seal.run_before is not None
        return (
            "The study was sealed after a run of it."
            if late
            else "The study was changed after it was sealed."
        )
    after = " and ".join(
        word
        for word, there in (
            ("a run of this study", manifest.earlier and not manifest.earlier.as_first),
            ("the seal", manifest.seal and manifest.seal.changes.of_claims),
        )
        if there
    )
    return f"{plural(len(changed), 'claim')} changed after {after}."
