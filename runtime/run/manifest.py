"""Fills the manifest: the study, the machine, models, conditions, kinds, and what was computed together.

Does not own its fields (`vitdsl.runtime.results.manifest`), when it is written (`run`), or the trust checks and
claims that it also holds (`trust`, `claims`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitdsl import __version__
from vitdsl.dsl.hashing import study_hash
from vitdsl.runtime.data.facts import stream_facts
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.kinds import documentation, summary
from vitdsl.runtime.models.architectures import family_of
from vitdsl.runtime.models.loading import LoadedModel, model_facts
from vitdsl.runtime.plan.plan import Group, Plan, PlannedModel
from vitdsl.runtime.results.manifest import (
    AblationRecord,
    ConditionRecord,
    DataRecord,
    Environment,
    Git,
    Hashes,
    Manifest,
    MetricRecord,
    ModelRecord,
    Work,
)
from vitdsl.runtime.run.before import Before
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.environment import environment_facts


def opening(
    plan: Plan,
    came: Before,
    *,
    source: str,
    argv: Sequence[str],
    run_id: str,
    started_at: str,
    device: str,
    dtype: str,
    fast: bool,
) -> Manifest:
    """What is known before anything is computed.

    Args:
        plan: The bound study.
        came: What came before the run.
        source: The study as written.
        argv: The command line.
        run_id: The run's name: its study, and its folder in that of the study.
        started_at: When it started, as ISO 8601 has it.
        device: Where it computes.
        dtype: In what.
        fast: Whether batch norms are folded.
    """
    study, loaded = plan.loaded.study, plan.loaded
    git, environment = _machine(loaded.folder)
    return Manifest(
        vitdsl=__version__,
        study=study.study,
        title=study.title or study.study,
        question=study.question or "",
        show=study.show or "",
        run_id=run_id,
        status="started",
        started_at=started_at,
        argv=tuple(argv),
        overrides=tuple(loaded.overrides),
        spec=Hashes(hash=study_hash(study), source_sha256=hashlib.sha256(source.encode()).hexdigest()),
        git=git,
        environment=environment,
        device=device,
        dtype=dtype,
        fast=fast,
        seed=study.seed,
        warnings=(*plan.notes, *came.warnings),
        written=came.written,
        earlier=came.earlier,
        seal=came.seal,
    )


def described(plan: Plan, loaded: Mapping[str, LoadedModel], written: Manifest) -> Manifest:
    """The manifest with models and their weights, conditions, metrics and ablations of a run."""
    return written.updated(
        models={name: _model(planned, loaded[name]) for name, planned in plan.own_models.items()},
        conditions={name: _conditions(planned) for name, planned in plan.own_models.items()},
        metrics={name: _metric(plan, name) for name in plan.loaded.study.metrics},
        ablations=_ablations(plan),
    )


def work(data: str, compiled: Compiled) -> Work:
    """What merging saves on one stream: operations for one image, merged and separate, and the share saved."""
    return Work(
        data=data,
        model=compiled.planned.name,
        conditions=tuple(c.id for c in compiled.planned.conditions if c.id in compiled.lanes),
        flops_merged=compiled.work,
        flops_separate=compiled.separate,
        saved=compiled.saved,
        folded=max(part.merged.folded for part in compiled.parts.values()),
        graphs=len(compiled.parts),
    )


def data(read: Stream) -> DataRecord:
    """A stream that was read."""
    return DataRecord(**stream_facts(read))


def _model(planned: PlannedModel, loaded: LoadedModel) -> ModelRecord:
    return ModelRecord(
        **model_facts(loaded),
        family=family_of(loaded.arch),
        coordinates=planned.coordinates,
        prefix_tokens=int(getattr(planned.sites.model, "num_prefix_tokens", 0) or 0),
        sites=len(planned.sites.names("output")),
        units=len(planned.sites.units),
        without=tuple(name for edit in planned.always for name in edit.names),
        title=planned.entry.title or "",
        unfollowed=planned.sites.unfollowed.why if planned.sites.unfollowed else "",
    )


def _conditions(planned: PlannedModel) -> tuple[ConditionRecord, ...]:
    return tuple(
        ConditionRecord(
            id=condition.id,
            ablation=condition.ablation,
            kind=condition.edits[0].kind.name if condition.edits else "",
            sites=condition.sites,
            depth=planned.depth_of(condition),
            coordinates=condition.coordinates,
        )
        for condition in planned.conditions
    )


def _metric(plan: Plan, name: str) -> MetricRecord:
    groups: list[Group] = [group for group in plan.groups if group.metric == name]
    kind = groups[0].kind
    return MetricRecord(
        kind=kind.name,
        version=kind.version,
        title=groups[0].title or name,
        what=summary(type(kind)),
        page=documentation(type(kind)),
        params=kind.params.model_dump(),
        reference=kind.reference,
        cites=kind.cites,
        groups=tuple(group.path for group in groups),
        data=groups[0].data,
    )


def _ablations(plan: Plan) -> dict[str, AblationRecord]:
    kinds = {
        condition.ablation: edit.kind
        for planned in plan.models.values()
        for condition in planned.conditions
        for edit in condition.edits
    }
    return {
        name: AblationRecord(
            kind=kind.name,
            params=kind.params.model_dump(),
            what=summary(type(kind)),
            page=documentation(type(kind)),
            title=plan.loaded.study.ablations[name].title or "",
            cites=kind.cites,
        )
        for name, kind in kinds.items()
    }


def _machine(folder: Path) -> tuple[Git | None, Environment]:
    found = environment_facts(folder)
    git = found.pop("git")
    return git and Git(**git), Environment(**found | {"gpus": tuple(found["gpus"])})
