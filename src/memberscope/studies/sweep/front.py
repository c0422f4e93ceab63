"""The result of a search, once its trials are finished: the best points, the Pareto front, importances and Optuna's plots."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memberscope.audit import artifacts
from memberscope.audit.wording import markdown
from memberscope.metrics.rounding import logged
from memberscope.plots import drawn
from memberscope.studies.result import StudyResult
from memberscope.studies.sweep.answer import Conclusion, compact
from memberscope.sweeps.answer import ADVANTAGE
from memberscope.sweeps.search import OF_CANARIES, Search
from memberscope.sweeps.trials import RESULT, TrialQueue
from memberscope.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd


def of_search(found: Conclusion, search: Search, tracker: Tracker) -> StudyResult:
    """Log the result of a search, the best points with metrics on records that the search did not use, and return it for the terminal."""
    frame = points_frame(found.queue, search)
    if not len(frame):
        raise RuntimeError(f"no trial is finished: {found.reasons()}; the next start tries them again")
    tracker.table(frame, artifacts.RESULTS)
    tracker.table(compact(frame), artifacts.RESULTS_TABLE)
    best = frame[frame["best"]]
    for path, figure in search_figures(found.queue, search).items():
        tracker.figure(figure, path)
    weights = importances(found.queue, search)
    tracker.table(weights, artifacts.IMPORTANCES)
    names = [factor.name for factor in search.factors]
    final = [name for name in (ADVANTAGE, "auc", OF_CANARIES, "accuracy", "train_accuracy") if name in frame]
    shown = best[["trial", *names, *final]]
    lines = [point_sentence(row, search, names, final) for row in best.to_dict("records")]
    lines.append(
        "A search changes all factors at once: it finds settings but does not assess the effect of a factor, as sampler=grid does. "
        "Metrics after 'final' are on records that the search did not use."
    )
    if len(search.objectives) == 1:
        for name in final:
            tracker.metrics(logged(f"best_{name}", "", float(best[name].iloc[0])))
    tracker.text("\n".join(lines) + "\n", artifacts.ANSWER)
    about = [
        f"**{lines[0]}**",
        f"# Search of {found.config.space} on {found.data.name}",
        f"{len(frame)} trials by {search.kind}, {search.seeds} seeds each; objectives: {', '.join(search.objectives)}. "
        f"Optuna study `{found.name}` in `{found.storage}`.",
        markdown(shown.round(4)),
        "\n".join(f"- {line}" for line in lines),
    ]
    tracker.describe("\n\n".join(about) + "\n")
    return StudyResult(table=f"{found.head(len(frame))}\n{shown.round(4).to_string(index=False)}", answer="\n".join(lines))


def points_frame(queue: TrialQueue, search: Search) -> pd.DataFrame:
    """A row per finished point: trial, whether it is (Pareto-)best, its values, its objectives (on tuning records), its final metrics."""
    import pandas as pd

    best = {trial.number for trial in queue.study.best_trials} if queue.trials("COMPLETE") else set()
    if len(search.objectives) == 1 and best:
        best = {queue.study.best_trial.number}
    rows = [
        {
            "trial": trial.number, "best": trial.number in best, **trial.params,
            **{f"objective_{name}": value for name, value in zip(search.objectives, trial.values or [], strict=True)},
            **{name: value for name, value in trial.user_attrs[RESULT]["figures"].items() if not name.startswith("tuning_")},
        }
        for trial in queue.trials("COMPLETE")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def point_sentence(row: Mapping[str, Any], search: Search, names: Sequence[str], final: Sequence[str]) -> str:
    """One line on a best point."""
    point = ", ".join(f"{name}={row[name]:.4g}" if isinstance(row[name], float) else f"{name}={row[name]}" for name in names)
    objectives = ", ".join(f"{name} {row[f'objective_{name}']:.3f}" for name in search.objectives)
    metrics = ", ".join(f"{name} {row[name]:.3f}" for name in final)
    kind = "on the Pareto front" if len(search.objectives) > 1 else "best"
    return f"trial {row['trial']} is {kind}: {point}; objectives: {objectives}; final: {metrics}"


def importances(queue: TrialQueue, search: Search) -> pd.DataFrame:
    """Optuna's importance of each factor for each objective; if there is none, one row with the reason."""
    import optuna
    import pandas as pd

    from memberscope.sweeps.silence import quiet

    rows: list[dict[str, Any]] = []
    for place, name in enumerate(search.objectives):
        try:
            with quiet:
                found = optuna.importance.get_param_importances(queue.study, target=_low_is_good(search, place))
        except (ValueError, RuntimeError) as error:
            rows.append({"objective": name, "factor": None, "importance": None, "reason": " ".join(str(error).split())})
            continue
        rows += [{"objective": name, "factor": factor, "importance": value, "reason": ""} for factor, value in found.items()]
    return pd.DataFrame(rows)


def search_figures(queue: TrialQueue, search: Search) -> dict[str, Any]:
    """Optuna's own plots: importances and slices for each objective, and the Pareto front of two or three objectives."""
    import matplotlib
    import optuna

    from memberscope.sweeps.silence import quiet

    even = "Attempting to set identical low and high"  # matplotlib warns so if every importance is 0
    plots = optuna.visualization.matplotlib
    found: dict[str, Any] = {}
    if len(queue.trials("COMPLETE")) < 2:
        return found
    # Optuna sets a style for all figures that follow
    with quiet, warnings.catch_warnings(), matplotlib.rc_context(), _without_windows():
        warnings.filterwarnings("ignore", message=even)
        for place, name in enumerate(search.objectives):

            def target(trial: Any, place: int = place) -> float:
                return float(trial.values[place])

            with contextlib.suppress(ValueError, RuntimeError):  # the table of importances has the reason
                axes = plots.plot_param_importances(queue.study, target=_low_is_good(search, place), target_name=name)
                found[artifacts.importances_figure(name)] = _figure_of(axes)
            found[artifacts.slice_figure(name)] = _figure_of(plots.plot_slice(queue.study, target=target, target_name=name))
        if len(search.objectives) in (2, 3):
            front = plots.plot_pareto_front(queue.study, target_names=list(search.objectives))
            found[artifacts.PARETO_FIGURE] = _figure_of(front)
    return found


@contextmanager
def _without_windows() -> Iterator[None]:
    """Keep pyplot, with which Optuna makes its figures, from windows and notebooks; afterwards, its backend is what it was."""
    from matplotlib import pyplot

    before = pyplot.get_backend()
    pyplot.switch_backend("Agg")
    try:
        yield
    finally:
        pyplot.switch_backend(before)


def _low_is_good(search: Search, place: int) -> Callable[[Any], float]:
    """An objective, negated if it is maximized: Optuna's importances (PED-ANOVA) are for reaching low values, whatever the direction."""
    sign = -1.0 if search.directions[place] == "maximize" else 1.0
    return lambda trial: sign * float(trial.values[place])


def _figure_of(axes: Any) -> Any:
    import numpy as np
    from matplotlib import pyplot

    figure = np.ravel(axes)[0].figure if not hasattr(axes, "figure") else axes.figure
    pyplot.close(figure)  # a notebook shows those that are open
    return drawn(figure)  # in its own style
