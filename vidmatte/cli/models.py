"""``vidmatte models``: the catalogue, and the weights in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidmatte.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from vidmatte.models.weights.catalogue import Entry
    from vidmatte.models.weights.store import Store

app = typer.Typer(
    help="List, fetch, check and remove the networks' weights.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_WIDTH = 80

_ModelsDir = Annotated[
    Path | None,
    typer.Option(
        "--models-dir",
        metavar="DIR",
        help="where weights are stored (default: VIDMATTE_MODELS_DIR, else the platform's"
        " cache folder)",
        show_default=False,
    ),
]
_NAME_HELP = "names or aliases from the list"
_Names = Annotated[list[str], typer.Argument(metavar="NAME", help=_NAME_HELP)]
_OptionalNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", help=_NAME_HELP)]
_OptionalName = Annotated[str | None, typer.Argument(metavar="NAME", help=_NAME_HELP)]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    models_dir: _ModelsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the models: purpose, licence, size, fetched or not."""
    context.obj = models_dir
    if context.invoked_subcommand is not None:
        if as_json:
            raise UsageError(
                f"--json has no effect on 'models {context.invoked_subcommand}': it is an option of"
                " 'models' alone"
            )
        return
    store = _store(context, None)
    rows = _rows(store)
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
        return
    for line in _table(rows, store.folder):
        typer.echo(line)


@app.command()
def pull(
    context: typer.Context,
    names: _Names,
    models_dir: _ModelsDir = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing on success")] = False,
    accept_licence: Annotated[
        str | None,
        typer.Option("--accept-licence", metavar="NAME", help="accept the licence of this model"),
    ] = None,
) -> None:
    """Fetch the weights of models by name."""
    from vidmatte.models.weights.licences import check_acceptance

    store, entries = _store(context, models_dir), _entries(names)
    if accept_licence is not None:
        check_acceptance(accept_licence, entries)
    for entry in entries:
        store.accepted_at(entry, accept_licence)
    report = None if quiet else _say
    for entry in entries:
        path = store.ensure(entry, report=report, quiet=quiet, accepted=accept_licence)
        if not quiet:
            typer.echo(f"{entry.name}: {path}")


@app.command()
def verify(
    context: typer.Context, names: _OptionalNames = None, models_dir: _ModelsDir = None
) -> None:
    """Hash the fetched weights and compare them with the published hashes."""
    from vidmatte.models.weights.catalogue import CATALOGUE

    store = _store(context, models_dir)
    entries = _entries(names or []) or [one for one in CATALOGUE if store.path(one).exists()]
    if not entries:
        typer.echo(f"no weights in {store.folder}")
    failures: list[str] = []
    for entry in entries:
        try:
            typer.echo(f"{entry.name}: as published, SHA-256 {store.verify(entry)}")
        except WeightsError as error:
            failures.append(str(error))
    if failures:
        raise WeightsError("\n".join(failures))


@app.command()
def path(context: typer.Context, name: _OptionalName = None, models_dir: _ModelsDir = None) -> None:
    """Print the folder of the weights, or the file of one model (status 1: not fetched)."""
    store = _store(context, models_dir)
    if name is None:
        typer.echo(str(store.folder))
        return
    entries = _entries([name])
    for entry in entries:
        typer.echo(str(store.path(entry)))
    if missing := [entry.name for entry in entries if not store.path(entry).exists()]:
        names = " ".join(missing)
        raise WeightsError(f"{names}: not fetched yet: 'vidmatte models pull {names}' fetches it")


@app.command()
def remove(context: typer.Context, names: _Names, models_dir: _ModelsDir = None) -> None:
    """Delete the weights of models by name."""
    store = _store(context, models_dir)
    for entry in _entries(names):
        freed = store.remove(entry)
        typer.echo(
            f"{entry.name}: removed, {_size(freed)} freed"
            if freed
            else f"{entry.name}: not fetched"
        )


def _store(context: typer.Context, models_dir: Path | None) -> Store:
    from vidmatte.models.weights.store import Store

    return Store(models_dir if models_dir is not None else context.find_object(Path))


def _entries(names: list[str]) -> list[Entry]:
    """The entries of all names, each once. Raises ModelError for an unknown one."""
    from vidmatte.core.families import AUTO, AUTO_PARTS
    from vidmatte.models.weights.catalogue import lookup

    parts = [part for name in names for part in (AUTO_PARTS if name == AUTO else [name])]
    return list(dict.fromkeys(lookup(name) for name in parts))


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _rows(store: Store) -> list[dict[str, Any]]:
    from vidmatte.models.weights.catalogue import CATALOGUE

    rows = []
    for entry in CATALOGUE:
        file = store.path(entry)
        exists = file.is_file()
        rows.append(
            {
                "name": entry.name,
                "aliases": list(entry.aliases),
                "family": entry.family,
                "purpose": entry.purpose,
                "licence": entry.licence,
                "commercial": entry.commercial,
                "needs_acceptance": entry.needs_acceptance,
                "size_bytes": file.stat().st_size if exists else entry.size_bytes,
                "state": ("fetched" if store.has(entry) else "damaged")
                if exists
                else "not fetched",
                "path": str(file),
                "accepted": [str(one) for one in entry.fingerprints],
                "sources": [source.describe() for source in entry.sources],
            }
        )
    return rows


def _table(rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """The list in ``_WIDTH`` columns, notes on licences below it."""
    import textwrap

    notes = list(dict.fromkeys(row["commercial"] for row in rows if row["commercial"]))
    lines = [f"{'name':<22}{'what for':<29}{'licence':<13}{'size':>7}  state"]
    for row in rows:
        mark = f" {notes.index(row['commercial']) + 1}" if row["commercial"] else ""
        lines.append(
            f"{row['name']:<22}{row['purpose']:<29}{row['licence'] + mark:<13}"
            f"{_size(row['size_bytes']):>7}  {row['state'].replace('not fetched', '-')}"
        )
    lines.append("")
    for number, note in enumerate(notes, 1):
        lines += textwrap.wrap(f"{number} {note}", _WIDTH, subsequent_indent="  ")
    aliases = ", ".join(f"{one} = {row['name']}" for row in rows for one in row["aliases"])
    lines += textwrap.wrap(f"Also known as: {aliases}", _WIDTH)
    lines += textwrap.wrap(
        "auto: isnet, and rvm where that clearly sees a person; 6 % more core-seconds than isnet on"
        " a CPU without bfloat16",
        _WIDTH,
    )
    lines += textwrap.wrap(
        "Without weights: chroma (a green or blue screen) and difference (from a clean plate); both"
        " also beside a network, as in isnet+chroma",
        _WIDTH,
    )
    lines.append(f"Folder: {folder}")
    return lines
