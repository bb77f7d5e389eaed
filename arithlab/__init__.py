"""arithlab: how small Transformers generalise, or fail to, on arithmetic.

The names that notebooks use; each is imported when it is first touched, so that `import arithlab` is quick.
"""

import importlib
import os

# Threads that wait by spinning make two busy processes on one machine many times slower than one after the
# other. So they spin briefly. Only heard where torch has not been imported yet.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.2.0"

_HOME = {
    "ArithlabError": "errors",
    "task": "arithmetic.tasks",
    "domain": "arithmetic.domains",
    "format_": "arithmetic.formats",
    "predict": "training.evaluate",
    "Experiment": "training.experiment",
    "InContextExperiment": "training.in_context",
    "by_shots": "training.shots",
    "Answerer": "training.answer",
    "answer": "training.answer",
    "hugging_face": "training.hugging_face",
    "fit": "training.fit",
    "train": "training.fit",
    "train_seeds": "training.fit",
    "evaluate": "training.evaluate",
    "length_map": "training.evaluate",
    "equivalence": "training.evaluate",
    "place_accuracy": "training.evaluate",
    "plateaus": "training.curves",
    "standing": "training.curves",
    "find_run": "training.runs",
    "list_runs": "training.runs",
    "results": "training.grids",
    "recorded": "training.grids",
    "sweep": "training.sweep",
    "attention": "inspection.attention",
    "cut_parts": "inspection.cuts",
    "temperatures": "inspection.cuts",
    "ideal_share": "inspection.ideal",
    "carry_test": "inspection.carry",
    "carry_map": "inspection.patching",
    "carry_followed": "inspection.patching",
    "hide_unread": "inspection.unread",
    "attribution": "inspection.lens",
    "logit_lens": "inspection.lens",
    "digit_spectra": "inspection.representations",
    "read_outs": "inspection.representations",
    "digit_reading": "inspection.reading",
    "digit_r2": "inspection.reading",
    "progress": "inspection.progress",
    "scrambled": "inspection.recording",
    "train_stages": "training.stages",
    "dependence": "arithmetic.dependence",
    "formula": "arithmetic.formula",
    "mistakes": "inspection.mistakes",
    "lattice": "inspection.outputs",
    "last_input": "inspection.outputs",
    "stream_at": "inspection.outputs",
    "output_distribution": "inspection.outputs",
    "principal_components": "inspection.outputs",
    "setup": "notebook.setup",
    "show": "notebook.setup",
    "check": "notebook.exercises",
    "TaskPicker": "notebook.widgets",
    "AskBox": "notebook.widgets",
    "TheoryExplorer": "notebook.widgets",
    "LengthExplorer": "notebook.explorer",
    "ContextExplorer": "notebook.context_explorer",
    "AttentionViewer": "notebook.attention_viewer",
    "MistakesBrowser": "notebook.mistakes_browser",
}

__all__ = [*_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'arithlab' has no attribute {name!r}; it has {', '.join(_HOME)}")
    try:
        value = getattr(importlib.import_module(f"arithlab.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "arithlab").startswith("arithlab"):
            raise
        from .errors import PackageMissing

        raise PackageMissing(error.name, "lab") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_HOME, "__version__"]
