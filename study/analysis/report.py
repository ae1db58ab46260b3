"""One self-contained HTML page of a sweep: verdict, tables, figures, provenance.

Everything is computed from the tables, so the same tables give the same page, byte for byte.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study import files
from study.analysis import figures, scores, verdict
from study.analysis.figures.style import png
from study.analysis.tables import Tables, paper
from study.errors import StudyError
from study.runs.table import table_path
from study.settings.config import load_sweep

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { margin-bottom: .3rem; } img { max-width: 100%; height: auto; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th { text-align: left; font-weight: 600; vertical-align: top; } td { white-space: nowrap; }
summary { cursor: pointer; color: #0072b2; }
"""


def page(tables: Tables) -> str:
    """The report; StudyError where the tables are no study (empty, unlike rows, all diverged)."""
    title = f"Are GANs Created Equal? The sweep “{tables.sweep}”"
    body = [
        f"<h1>{title}</h1>",
        f"<p>{_text(_subject(tables))}</p>",
        "<h2>Verdict</h2>",
        *_verdict(tables),
        "<h2>Limits</h2>",
        f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in limits(tables))}</ul>",
        "<h2>Best distances</h2>",
        *_tables(tables),
        "<h2>Figures</h2>",
        *_figures(tables),
        "<h2>Provenance</h2>",
        *map(_html, [provenance(tables)]),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(
        [*body, "</body></html>\n"]
    )


def write(tables: Tables, folder: Path) -> Path:
    """Write the report as <sweep>.html and return its path."""
    text, path = page(tables), folder / f"{tables.sweep}.html"
    files.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def limits(tables: Tables) -> list[str]:
    """In what the sweep differs from the paper's study, and what its numbers cannot say."""
    config, wide = load_sweep(tables.sweep), load_sweep("wide")
    runs = scores.search(tables.search)
    said = []
    if config.features != wide.features:
        said.append(
            f"Distances are taken in {config.features} features: they are not FID, and their "
            "values cannot be set beside the paper's; ranks may be, with care."
        )
    if config.width != wide.width:
        said.append(f"Networks have {config.width:g} of the paper's width.")
    for dataset in scores.dataset_order(runs):
        ours, theirs = config.datasets.get(dataset), wide.datasets.get(dataset)
        if ours and theirs and ours.d_steps != theirs.d_steps:
            name = scores.dataset_title(dataset)
            said.append(f"{name}: {ours.d_steps:,} D steps a run; the paper {theirs.d_steps:,}.")
    if config.num_images != wide.num_images:
        said.append(f"Distances on {config.num_images:,} images; the paper {wide.num_images:,}.")
    if config.bn_decay != wide.bn_decay:
        decays = f"{config.bn_decay:g}; the paper {wide.bn_decay:g}"
        said.append(f"Batch norm's averages decay with {decays}: they must follow a shorter run.")
    sizes = runs.groupby(["dataset", "loss"]).size()
    if sizes.max() < wide.trials or sizes.nunique() > 1:
        said.append(
            f"{_settings(runs)} settings a loss; the paper {wide.trials}. They are the first of "
            "the paper's own list."
        )
    if tables.seeds.empty:
        said.append("No setting was trained again with other seeds: noise of the seed is unknown.")
    return [*said, "One seed a setting, and one recipe: another recipe may rank losses otherwise."]


def provenance(tables: Tables) -> pd.DataFrame:
    """Where each table comes from: file, hash, rows, runs, and what made it."""
    made_by = [
        "commit",
        "torch",
        "processor",
        "device",
        "threads",
        "cuda_graph",
        "precision",
        "definition",
    ]
    rows = []
    for table in (tables.search, tables.seeds, tables.narrow, tables.full):
        if len(table):
            path = table_path(tables.results, table["sweep"].iloc[0])
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            values = {
                name: ", ".join(sorted(map(str, table[name].dropna().unique())))
                for name in made_by
                if name in table
            }
            counts = {"rows": f"{len(table)}", "runs": f"{len(scores.of_runs(table))}"}
            rows.append({"table": path.name, "sha256": digest, **counts, **values})
    return pd.DataFrame(rows).set_index("table").T


def _subject(tables: Tables) -> str:
    runs = scores.search(tables.search)
    names = ", ".join(map(scores.title, scores.losses(runs)))
    sets = ", ".join(map(scores.dataset_title, scores.dataset_order(runs)))
    distance = scores.distance_name(runs["features"].iloc[0])
    return (
        f"{load_sweep(tables.sweep).title}. {len(runs)} runs: {names}; {_settings(runs)} settings "
        f"each, on {sets}. Measure: {distance}, lower is better."
    )


def _settings(runs: pd.DataFrame) -> str:
    sizes = runs.groupby(["dataset", "loss"]).size()
    return f"{sizes.min()}" if sizes.nunique() == 1 else f"{sizes.min()} to {sizes.max()}"


def _verdict(tables: Tables) -> Iterator[str]:
    for finding in verdict.findings(tables):
        yield f"<h3>{_text(finding.question)}</h3><p>{_text(finding.answer)}</p>"
        if len(finding.table):
            yield f"<details><summary>The numbers</summary>{_html(finding.table)}</details>"


def _tables(tables: Tables) -> Iterator[str]:
    seeds = tables.seeds if len(tables.seeds) else None
    best = scores.best_table(tables.search, seeds, paper("best_fid"))
    distance = best.pop("distance").iloc[0]
    yield (
        f"<p>{_text(distance)}; columns of the paper hold its FID. Diverged: share of the runs. "
        "best_report: the same run on images on which nothing was selected.</p>"
    )
    yield _html(best)
    yield "<h3>Best settings</h3>" + _html(scores.best_settings(tables.search))


def _figures(tables: Tables) -> Iterator[str]:
    frames = tables.frames()
    for kind in figures.names():
        drawn = list(figures.of_kind(kind, frames))
        if drawn:
            yield f"<h3>{_text(figures.load(kind).title)}</h3>"
        for name, make in drawn:
            try:
                yield f'<p><img alt="{name}" src="{_inline(make())}"></p>'
            except StudyError as error:
                yield f"<p>{name} is not drawn: {_text(str(error))}</p>"


def _inline(figure: Any) -> str:
    return "data:image/png;base64," + b64encode(png(figure)).decode()


def _text(words: str) -> str:
    return escape(words, quote=False)


def _html(table: pd.DataFrame) -> str:
    shown = table.apply(lambda column: column.map(_cell))
    return f'<div class="table">{shown.to_html(border=0)}</div>'


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "∞" if value == np.inf else str(value)
