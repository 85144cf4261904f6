"""Calls with URLs: inputs are copied to the local disk, results are sent when they are verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidmatte.cli.call import Call, is_shot_list
from vidmatte.cli.shot_list import run_inputs
from vidmatte.core.remote import (
    READERS,
    Staging,
    check_output,
    is_folder,
    parent_of,
    plain_path,
    remote_url,
    send,
)
from vidmatte.errors import UsageError, VidmatteError
from vidmatte.jobs.report import Progress, Reporter

#: Options that compare the source with that of another run, or name files of this machine that
#: refer to the result.
_LOCAL_ONLY = ("resume", "cache", "timeline")


def run_call(call: Call) -> int:
    """Run a call whose inputs and output are paths or URLs; return the exit status. Raises
    VidmatteError for errors that concern the call itself."""
    if not any(map(remote_url, [*call.inputs, call.output or ""])):
        if call.readers is not None:
            raise UsageError(f"--readers {call.readers}: it needs a URL as input")
        inputs, output = list(map(plain_path, call.inputs)), call.output and plain_path(call.output)
        return run_inputs(replace(call, inputs=inputs, output=output))
    readers = call.readers or READERS
    with staged_call(call.inputs, call.output, call.options, readers) as staged:
        reporter = RenamingReporter(call.reporter, staged.names)
        status = run_inputs(
            replace(call, inputs=staged.inputs, output=staged.output, reporter=reporter)
        )
        staged.send_results()
    return status


def _check(inputs: Sequence[str], output: str | None, options: Mapping[str, Any]) -> None:
    """Raise UsageError for what does not work with URLs."""
    url = next(filter(None, map(remote_url, [*inputs, output or ""])), None)
    if url is None:
        return
    for name in _LOCAL_ONLY:
        if options.get(name):
            raise UsageError(f"--{name}: it is for files of this machine, and {url} is a URL")
    if output is None:
        raise UsageError(f"{url}: a result of a URL needs a name: add -o")
    if remote_url(output) and any(is_shot_list(Path(one)) for one in inputs):
        raise UsageError(f"-o {output}: the results of a shot list need a folder on this machine")


@dataclass
class StagedCall:
    """Local paths for a call, and what they stand for. names: URLs by the local text."""

    inputs: list[str]
    output: str | None
    overwrite: bool = False
    names: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    parent: str = ""

    def url_of(self, path: str) -> str:
        """What a local path stands for; itself where for nothing."""
        return str(_renamed(path, self.names))

    def send_results(self) -> None:
        """Send what was written to the output's URL, the manifests last. Raises OutputError."""
        if self.folder is None:
            return
        files = sorted(self.folder.iterdir(), key=lambda one: (one.suffix == ".json", one.name))
        for path in files:
            send(path, self.parent + path.name, overwrite=self.overwrite)

    def keep_results(self) -> Path | None:
        """Keep the results that are finished; the folder in which they are now, None where there
        are none."""
        if self.folder is None:
            return None
        for path in self.folder.iterdir():
            if path.name.startswith("."):  # of a result that is not finished
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
        has_any = any(path.is_file() for path in self.folder.rglob("*"))
        return Staging.release(self.folder) if has_any else None


@contextmanager
def staged_call(
    inputs: Sequence[str],
    output: str | None,
    options: Mapping[str, Any],
    readers: int = READERS,
) -> Iterator[StagedCall]:
    """Copy the inputs that are URLs, and give a local path for an output that is one.

    Without a URL nothing is copied, and the paths stay.

    Errors within name the URLs. Raises UsageError, SourceError, OutputError.
    """
    _check(inputs, output, options)
    with ExitStack() as stack:
        staging = stack.enter_context(Staging(readers))
        inputs, output = list(map(plain_path, inputs)), output and plain_path(output)
        call = StagedCall(inputs, output, bool(options.get("overwrite")))
        if output is not None and (url := remote_url(output)) is not None:
            check_output(url, overwrite=call.overwrite)
            call.folder, call.parent = staging.new_folder(), parent_of(url)
            path = call.folder / url.rstrip("/").rpartition("/")[2]
            if url.endswith("/") or is_folder(url):
                path.mkdir()
            call.output = f"{path}{'/' if url.endswith('/') else ''}"
            call.names[f"{call.folder}/"] = call.parent
        urls = [url for url in map(remote_url, inputs) if url is not None]
        staging.fetch(urls)
        call.inputs = [
            str(staging.copy_of(url)) if (url := remote_url(one)) else one for one in inputs
        ]
        call.names |= {str(staging.copy_of(url)): url for url in urls}
        try:
            yield call
        except (VidmatteError, KeyboardInterrupt) as error:
            error.args = tuple(_renamed(list(error.args), call.names))
            if (kept := call.keep_results()) is not None:
                text = str(error) or "stopped"
                error.args = (f"{text}; what is finished is kept in {kept}, not sent",)
            raise


class RenamingReporter(Reporter):
    """Passes reports on, with URLs instead of the local paths that stand for them."""

    def __init__(self, reporter: Reporter, names: Mapping[str, str]) -> None:
        self._reporter, self._names = reporter, names
        self.is_quiet = reporter.is_quiet

    def plan(self, inputs: Sequence[str]) -> None:
        self._reporter.plan(_renamed(list(inputs), self._names))

    def about(self, source: str | None = None, output: str | None = None) -> None:
        self._reporter.about(_renamed(source, self._names), _renamed(output, self._names))

    def begin(self) -> None:
        self._reporter.begin()

    def failure(self, error: str, line: str) -> None:
        self._reporter.failure(error, _renamed(line, self._names))

    def note(self, line: str) -> None:
        self._reporter.note(_renamed(line, self._names))

    def detail(self, line: str) -> None:
        self._reporter.detail(_renamed(line, self._names))

    def start(self, progress: Progress) -> None:
        self._reporter.start(progress)

    def advance(self, progress: Progress) -> None:
        self._reporter.advance(progress)

    def segment(self, facts: dict[str, Any], line: str) -> None:
        self._reporter.segment(facts, _renamed(line, self._names))

    def finish(self) -> None:
        self._reporter.finish()

    def summary(self, facts: dict[str, Any], line: str) -> None:
        self._reporter.summary(_renamed(facts, self._names), _renamed(line, self._names))

    def closing(self, line: str) -> None:
        self._reporter.closing(_renamed(line, self._names))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A value with URLs in its texts instead of local paths."""
    if isinstance(value, str):
        for path, url in names.items():
            value = value.replace(path, url)
        return value
    if isinstance(value, Path):
        return _renamed(str(value), names)
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(one, names) for one in value]
    return value
