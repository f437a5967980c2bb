"""What a run reads: its models with their weights, and its streams.

Does not own how either is made (`models`, `train`, `data`), or what is done with them.
"""

import torch

from vitdsl.dsl.source import placing
from vitdsl.dsl.study import OWN
from vitdsl.runtime.data.stream import Stream, open_stream
from vitdsl.runtime.models.full import model_memory
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.ranks import ALONE, Ranks
from vitdsl.runtime.train.store import obtain
from vitdsl.runtime.train.without import training_form


def model_of(
    plan: Plan, name: str, *, device: torch.device, progress: Progress, ranks: Ranks = ALONE
) -> LoadedModel:
    """A model of a plan with its weights: as it was handed over, or loaded, or trained.

    Raises:
        StudyError: See `obtain`.
        EnvironmentProblem: See `obtain`.
    """
    planned, study = plan.models[name], plan.loaded.study
    progress.say(f"model {name}: {planned.title}")
    if planned.ready is not None:
        return planned.ready
    with placing(plan.loaded.source, ("models", planned.base)), model_memory(name):
        return obtain(
            planned.entry,
            seed=study.seed,
            folder=plan.loaded.folder,
            device=device,
            progress=progress,
            name=name,
            ranks=ranks,
            **training_form(planned),
        )


def stream_of(plan: Plan, name: str) -> Stream:
    """A stream of a plan, for the models that see it.

    Raises:
        StudyError: See `open_stream`.
        EnvironmentProblem: See `open_stream`.
    """
    entry = plan.data[name]
    configs = {model: plan.models[model].config for model in plan.models_on(name)}
    if entry.preprocess != OWN:
        configs[entry.preprocess] = plan.preprocessing(entry)
    with placing(plan.loaded.source, ("data", name.partition("[")[0])):
        return open_stream(
            entry,
            seed=plan.loaded.study.seed,
            folder=plan.loaded.folder,
            transforms=configs,
            entries=plan.data,
            beside={model: plan.models[model].seen for model in configs if plan.models[model].seen},
        )
