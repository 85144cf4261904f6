"""The results of jobs: listed, fetched in ranges, or many at once as a ZIP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response, StreamingResponse
from zipstream import ZIP_STORED, ZipStream

from vidmatte.service.command import result_stem
from vidmatte.service.context import Context, RequestError, missing

#: Types that a browser shows without running anything in them.
_SHOWN_TYPES = {
    ".mov": "video/quicktime", ".mp4": "video/mp4", ".mkv": "video/x-matroska",
    ".webm": "video/webm", ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg",
    ".webp": "image/webp", ".gif": "image/gif", ".avif": "image/avif", ".tif": "image/tiff",
    ".exr": "image/x-exr",
}  # fmt: skip
_OTHER_TYPE = "application/octet-stream"  # also of XML and JSON, which nobody should open here
_ZIP_TYPE = "application/zip"
_MOST_ZIPPED = 500  # whose ids fit into a URL


def described_results(folder: Path, done: dict[str, Any]) -> list[dict[str, Any]]:
    """What a job has written to its folder: name, bytes and type of each file, the main result
    first. A folder of pictures is one entry, its name with a slash, with its number of files.

    done: the facts of the job's event.
    """
    main = PurePosixPath(str(done.get("output"))).name
    found = [_described(path) for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda one: (one["name"].rstrip("/") != main, one["name"]))


def _described(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        type_ = _SHOWN_TYPES.get(path.suffix.lower(), _OTHER_TYPE)
        return {"name": path.name, "bytes": path.stat().st_size, "type": type_}
    sizes = [file.stat().st_size for file in path.iterdir()]
    return {"name": f"{path.name}/", "bytes": sum(sizes), "type": _ZIP_TYPE, "files": len(sizes)}


def _attachment(name: str, kind: str = "attachment") -> dict[str, str]:
    """The headers of a file that is not run by a browser. RFC 6266: names outside ASCII."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    plain = plain.replace('"', "_").replace("\\", "_")
    return {
        "Content-Disposition": f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _result_file(context: Context, job: str, name: str) -> Path:
    """The file of a result. Raises RequestError (404) for any other name."""
    row = context.jobs.get(job)
    parts = PurePosixPath(name).parts
    names = {one["name"] for one in row["results"]}
    is_listed = name in names or (len(parts) == 2 and f"{parts[0]}/" in names)
    file: Path = context.jobs.folder(job) / "out" / name
    # Pictures of a folder have plain names.
    if not is_listed or ".." in parts or "\0" in name or file.is_symlink() or not file.is_file():
        raise missing("result", name)
    return file


def _is_manifest(name: str, names: set[str]) -> bool:
    """Whether a result is the manifest of another one."""
    of = name.removesuffix(".json")
    return name.endswith(".json") and (of in names or f"{of}/" in names)


def _zip_entries(context: Context, job: str, only: str | None) -> Iterator[tuple[str, Path]]:
    """(name, file) of what a job has written, but for its manifests; of one result with ``only``.
    Raises RequestError."""
    row = context.jobs.get(job)
    if row["state"] != "done":
        raise RequestError(409, "not_done", f"job {job}: it is {row['state']} and has no results")
    names = {one["name"] for one in row["results"]}
    if only is not None and only not in names:
        raise missing("result", only)
    for name in [only] if only is not None else sorted(names):
        path = context.jobs.folder(job) / "out" / name
        if name.endswith("/"):
            yield from ((f"{name}{file.name}", file) for file in sorted(path.iterdir()))
        elif only is not None or not _is_manifest(name, names):
            yield name, path


def _as_zip(entries: list[tuple[str, Path]], name: str) -> StreamingResponse:
    """A ZIP of files, made while it is sent. They are stored as they are: pictures and movies are
    compressed already, and the length is known in advance."""
    stream = ZipStream(sized=True, compress_type=ZIP_STORED)
    for inside, path in entries:
        stream.add_path(str(path), inside)
    headers = {**_attachment(name), "Content-Length": str(len(stream))}
    return StreamingResponse(iter(stream), media_type=_ZIP_TYPE, headers=headers)


def _unique(entries: Iterator[tuple[str, Path]], taken: set[str]) -> Iterator[tuple[str, Path]]:
    """The entries of one job, its names different from those that are taken already: 'a (2).png',
    'frames (2)/000000.png'."""
    renamed: dict[str, str] = {}
    for name, path in entries:
        first, slash, rest = name.partition("/")
        if first not in renamed:
            number, new = 1, first
            while new in taken:
                number += 1
                plain = PurePosixPath(first)
                new = (
                    f"{plain.stem} ({number}){plain.suffix}" if not slash else f"{first} ({number})"
                )
            renamed[first] = new
        yield f"{renamed[first]}{slash}{rest}", path
    taken.update(renamed.values())


_ZIP_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "A ZIP of stored files.", "content": {_ZIP_TYPE: {}}},
    409: {"description": "A job that is not done."},
}


def router(context: Context) -> APIRouter:
    """The routes of results."""
    routes = APIRouter(prefix="/api", tags=["results"])

    @routes.get("/jobs/{job}/results.zip", responses=_ZIP_ANSWER, response_class=Response)
    def zip_of_one(
        job: str,
        name: Annotated[str | None, Query(description="only this result", max_length=300)] = None,
    ) -> Response:
        """All that a job has written, or one of its results, as a ZIP."""
        entries = list(_zip_entries(context, job, name))
        stem = name.rstrip("/") if name else result_stem(context.jobs.get(job)["name"])
        return _as_zip(entries, f"{stem}.zip")

    @routes.get(
        "/jobs/{job}/results/{name:path}",
        responses={
            200: {"description": "The file.", "content": {_OTHER_TYPE: {}}},
            206: {"description": "The range that the header Range asks for."},
            416: {"description": "A range that the file does not have."},
        },
        response_class=Response,
    )
    def one_result(
        job: str,
        name: str,
        inline: Annotated[bool, Query(description="shown, not saved: pictures, movies")] = False,
    ) -> Response:
        """A file that a job has written; ``Range`` is honoured."""
        file = _result_file(context, job, name)
        type_ = _SHOWN_TYPES.get(file.suffix.lower(), _OTHER_TYPE)
        kind = "inline" if inline and type_ != _OTHER_TYPE else "attachment"
        return FileResponse(file, media_type=type_, headers=_attachment(file.name, kind))

    @routes.get("/zip", responses=_ZIP_ANSWER, response_class=Response)
    def zip_of_many(
        jobs: Annotated[str, Query(description="ids, separated by commas", max_length=20000)],
    ) -> Response:
        """The results of many jobs as one ZIP, without their manifests."""
        wanted = list(dict.fromkeys(job for job in jobs.split(",") if job))
        if not 0 < len(wanted) <= _MOST_ZIPPED:
            raise RequestError(422, "invalid", f"jobs: name 1 to {_MOST_ZIPPED} jobs")
        taken: set[str] = set()
        entries: list[tuple[str, Path]] = []
        for job in wanted:
            entries += _unique(_zip_entries(context, job, None), taken)
        return _as_zip(entries, "vidmatte.zip")

    return routes
