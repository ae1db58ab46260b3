"""One self-contained HTML page of a sweep: what was found, tables, figures, provenance.

Everything is computed from the tables, so the same tables give the same page, byte for byte. The
page holds no link to elsewhere: it works from a mail.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study import files
from study.analysis import figures, scores, verdict
from study.analysis.figures import style
from study.analysis.figures.processes import together
from study.analysis.tables import Tables, paper
from study.errors import StudyError
from study.measures.columns import distance_name
from study.runs.table import table_path
from study.settings import shipped
from study.settings.config import load_sweep

HERE = Path(__file__).parent
FIRST = "headline"
"""The kind of figure that opens the page."""


class Section(NamedTuple):
    """A part of the page: its id, its heading, and its HTML."""

    key: str
    heading: str
    body: str


def page(tables: Tables, processes: int = 1) -> str:
    """The report; StudyError where the tables are no study (empty, unlike rows, all diverged)."""
    title = f"Are GANs Created Equal? The sweep “{tables.sweep}”"
    pictures = _pictures(tables, processes)
    sections = [
        Section("questions", "The questions", "\n".join(_questions(tables))),
        Section("figures", "Figures", "\n".join(_figures(pictures))),
        Section("settings", "Best settings", _html(scores.best_settings(tables.search))),
        Section("limits", "Limits", _list(map(_text, limits(tables)))),
        Section("provenance", "Provenance", _html(provenance(tables))),
    ]
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>\n{_beside('page.css')}</style>"
    )
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(_subject(tables))}</p>",
        _list(map(_text, verdict.headline(tables)), "findings"),
        *pictures.get(FIRST, []),
        *_main_tables(tables),
        f"<nav><h2>Contents</h2>{_list(map(_link, sections))}</nav>",
        *map(_section, sections),
    ]
    content, looks = _shared_looks("\n".join(body))
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>\n{looks}</style></head><body>\n'
        f"{content}\n<script>\n{_beside('page.js')}</script>\n</body></html>\n"
    )


def write(tables: Tables, folder: Path, processes: int = 1) -> Path:
    """Write the report as <sweep>.html and return its path."""
    text, path = page(tables, processes), folder / f"{tables.sweep}.html"
    try:
        files.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def main_table(tables: Tables, dataset: str) -> pd.DataFrame:
    """A row a loss of one data set, the best first; an untrained generator and real images last.

    Columns: default (the authors'), best (found in the search), again and ± (median and standard
    deviation of the best setting's re-runs), settings, diverged (runs), paper and its ± (FID).
    Sorted by `again` or, where there are no re-runs, by `best`.
    """
    search = tables.search[tables.search["dataset"] == dataset]
    seeds = tables.seeds[tables.seeds["dataset"] == dataset] if len(tables.seeds) else None
    seeds = None if seeds is None or seeds.empty else seeds
    best = scores.best_table(search, seeds, paper("best_fid")).droplevel("dataset")
    runs = scores.search(search)
    default = scores.authors_defaults(runs).groupby("loss")["fid"].first()
    rows = pd.DataFrame({"default": default.reindex(best.index), "best": best["best"]})
    if seeds is not None:
        rows[["again", "±"]] = best[["reseeded_median", "reseeded_std"]]
    rows = rows.assign(settings=best["settings"])
    rows["diverged"] = (best["diverged"] * best["settings"]).round().astype(int)
    rows[["paper: FID", "paper: ±"]] = best[["paper_mean", "paper_std"]]
    by = ["again", "best"] if seeds is not None else ["best"]
    rows = rows.sort_values(by, kind="stable").rename(index=scores.title)
    levels = {
        "an untrained generator": scores.untrained_distance(tables.untrained, runs),
        "real images": scores.real_distance(tables.real, runs),
    }
    for name, level in levels.items():
        if level is not None:
            rows.loc[name, "best"] = level
    rows[["settings", "diverged"]] = rows[["settings", "diverged"]].astype("Int64")
    return rows.dropna(axis="columns", how="all").rename_axis(None)


def limits(tables: Tables) -> list[str]:
    """In what the sweep differs from the paper's study, and what its numbers cannot say."""
    config, wide = load_sweep(tables.sweep), load_sweep("wide", shipped.SWEEPS)
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
    papers = load_sweep("narrow", shipped.SWEEPS) if config.ranges == "narrow" else wide
    if sizes.max() < papers.trials or sizes.nunique() > 1:
        said.append(f"{_settings(runs)} settings a loss; the paper {papers.trials}.")
        if config.draws == "own" and not config.space and set(runs["loss"]) <= {*scores.PAPERS}:
            said[-1] += " They are the first of the paper's own list."
    if tables.seeds.empty:
        said.append("No setting was trained again with other seeds: noise of the seed is unknown.")
    return [*said, "One seed a setting, and one recipe: another recipe may rank losses otherwise."]


def provenance(tables: Tables) -> pd.DataFrame:
    """Where each table comes from: file, hash, rows, runs, and what made it."""
    made_by = [
        *["commit", "torch", "processor", "device", "threads"],
        *["cuda_graph", "precision", "arithmetic", "rounding", "definition"],
    ]
    rows = []
    for table in (tables.search, tables.seeds, tables.narrow, tables.full, tables.longer):
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
    distance = distance_name(runs["features"].iloc[0])
    return (
        f"{load_sweep(tables.sweep).title}. {len(runs):,} runs: {names}; {_settings(runs)} "
        f"settings each, on {sets}. Measure: {distance}, lower is better."
    )


def _settings(runs: pd.DataFrame) -> str:
    sizes = runs.groupby(["dataset", "loss"]).size()
    return f"{sizes.min()}" if sizes.nunique() == 1 else f"{sizes.min()} to {sizes.max()}"


def _questions(tables: Tables) -> Iterator[str]:
    for finding in verdict.findings(tables):
        yield f"<h3>{_text(finding.question)}</h3><p>{_text(finding.answer)}</p>"
        if len(finding.table):
            yield f"<details><summary>The numbers</summary>{_html(finding.table)}</details>"


def _main_tables(tables: Tables) -> Iterator[str]:
    distance = distance_name(tables.search["features"].iloc[0])
    for dataset in scores.dataset_order(tables.search):
        caption = f"{scores.dataset_title(dataset)}: {distance}, lower is better"
        yield _html(main_table(tables, dataset).map(_three_digits), caption)
    yield (
        "<p>default: the authors' own setting; best: the least found in the search; again: the "
        "best setting trained again with other seeds, median and standard deviation; paper: its "
        "table 2, FID, whatever ours is. A click on a heading sorts by it.</p>"
    )


def _figures(pictures: Mapping[str, list[str]]) -> Iterator[str]:
    for kind, shown in pictures.items():
        if kind != FIRST:
            folded = f"<details><summary>{len(shown)} figures</summary>{''.join(shown)}</details>"
            yield f"<h3>{_text(figures.load(kind).title)}</h3>"
            yield folded if len(shown) > 2 else "".join(shown)


def _pictures(tables: Tables, processes: int) -> dict[str, list[str]]:
    """The figures that the tables allow, in the page's order, by their kinds."""
    jobs = [
        (name, make, f"f{place}-{number}-")
        for place, kind in enumerate(figures.names())
        for number, (name, make) in enumerate(figures.of_kind(kind, tables.frames()))
    ]
    pictures: dict[str, list[str]] = {}
    for (_, make, _), picture in zip(jobs, together(_figure, jobs, processes), strict=True):
        pictures.setdefault(make.kind, []).append(picture)
    return pictures


def _figure(name: str, make: figures.Wanted, prefix: str) -> str:
    """A figure inside the page: its title and caption as text, which a phone can read."""
    try:
        figure = make()
    except StudyError as error:
        return f"<p>{_text(name)} is not drawn: {_text(str(error))}</p>"
    title, caption = style.words(figure)
    picture = style.inline(figure, prefix)
    label = f'role="img" aria-label="{_text(title)}"'
    return (
        f"<figure><h4>{_text(title)}</h4>"
        f'<div class="wide">{picture.replace("<svg", f"<svg {label}", 1)}</div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _shared_looks(content: str) -> tuple[str, str]:
    """The page with a class for each of its figures' styles, and the styles: half the size."""
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', content))
    names = {look: f"s{number}" for number, look in enumerate(styles)}
    shared = re.sub(r' style="([^"]*)"', lambda found: f' class="{names[found[1]]}"', content)
    return shared, "".join(f".{name} {{{look}}}\n" for look, name in names.items())


def _section(section: Section) -> str:
    heading = f"<h2>{_text(section.heading)}</h2>"
    return f'<section id="{section.key}">{heading}\n{section.body}</section>'


def _link(section: Section) -> str:
    return f'<a href="#{section.key}">{_text(section.heading)}</a>'


def _list(items: Iterable[str], kind: str = "") -> str:
    """A list of HTML."""
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f'<ul class="{kind}">{rows}</ul>' if kind else f"<ul>{rows}</ul>"


def _beside(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _text(words: str) -> str:
    """Text as HTML, in an attribute, too."""
    return escape(words, quote=True)


def _html(table: pd.DataFrame, caption: str = "") -> str:
    """A table whose columns a click sorts; every name and value is text."""
    names = [str(name or "") for name in table.index.names]
    index: list[Any] = [key if isinstance(key, tuple) else (key,) for key in table.index]
    head = _row("th", [*names, *map(str, table.columns)])
    rows = [
        _row("th", map(str, keys), _row("td", map(_cell, values)))
        for keys, values in zip(index, table.itertuples(index=False), strict=True)
    ]
    title = f"<caption>{_text(caption)}</caption>" if caption else ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(tag: str, cells: Iterable[str], more: str = "") -> str:
    return "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + more


def _three_digits(value: Any) -> Any:
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:#.3g}".rstrip(".")
    return value


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and np.isfinite(value):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "∞" if value == np.inf else str(value)
