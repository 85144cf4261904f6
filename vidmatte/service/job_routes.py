"""The routes of jobs: submitted, listed, cancelled, retried, removed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vidmatte.service.command import CLIP_ID, JobOutput
from vidmatte.service.context import Context, RequestError
from vidmatte.service.jobs import JobRequest, Jobs
from vidmatte.service.options import PRESETS

_Id = Annotated[str, Field(pattern=f"^{CLIP_ID}$")]
_State = Literal["queued", "running", "done", "failed", "cancelled"]
_EXAMPLE: dict[str, JsonValue] = {
    "clips": ["5f1e0c9b7a3d2f48"],
    "settings": {"model": "isnet", "subject": ["640,300@f0"], "erode": 1},
    "output": {"format": "prores", "extras": ["matte"]},
}


class JobBody(BaseModel):
    """A request for jobs, one for each clip."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    clips: list[_Id] = Field(description="ids of clips", min_length=1, max_length=1000)
    settings: dict[str, Any] = Field(
        default={},
        description="options of the command line by the names of GET /api/settings; a file is"
        " named as clip:ID",
    )
    output: JobOutput = JobOutput()
    preset: str | None = Field(
        default=None,
        description="a name of GET /api/presets; settings and output that are given replace its"
        " own, null removes one",
        max_length=40,
    )


_SHOWN: dict[str, Any] = {
    "id": "9b2c4d5e6f708192", "clip": "5f1e0c9b7a3d2f48", "name": "clip.mp4", "state": "running",
    "created": "2026-01-31T12:00:00.000Z", "started": "2026-01-31T12:00:01.000Z", "ended": None,
    "expires": None, "phase": "matting", "done": 12, "frames": 250, "fps": 8.1,
    "seconds_left": 29.4, "error": None, "tries": 1, "preset": None, "settings": {"erode": 1},
    "output": {"format": "prores", "extras": ["matte"], "background": None, "timeline": None},
    "command": "vidmatte clip.mp4 -o clip_matte.mov --matte clip_alpha.mov --erode 1",
    "results": [], "warnings": [], "quality": None,
}  # fmt: skip


def _shows(value: Any, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": value}}}


_ENDED: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such job."},
    409: {"description": "Its state does not allow it."},
}


def router(context: Context) -> APIRouter:
    """The routes under ``/api/jobs``, and ``/api/command``."""
    routes = APIRouter(prefix="/api", tags=["jobs"])
    jobs: Jobs = context.jobs

    @routes.post("/jobs", status_code=201, responses={201: _shows({"jobs": [_SHOWN]}, "Queued.")})
    def submit(body: JobBody) -> Any:
        """Queue a job for each clip; all or none. Jobs run first come, first served."""
        return {"jobs": jobs.submit(_requests(body))}

    @routes.get("/jobs", responses={200: _shows({"jobs": [_SHOWN]}, "Jobs.")})
    def all_jobs(
        state: Annotated[list[_State] | None, Query(description="may be repeated")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        before: Annotated[str | None, Query(description="a job's id")] = None,
    ) -> Any:
        """Jobs, the newest first; with ``before`` those that were submitted before that one."""
        return {"jobs": jobs.listed(state or (), limit, before)}

    @routes.get("/jobs/{job}", responses={200: _shows(_SHOWN, "The job.")})
    def one_job(job: str) -> Any:
        """One job."""
        return jobs.get(job)

    _add_changes(routes, jobs)
    _add_command(routes, jobs)
    return routes


def _add_changes(routes: APIRouter, jobs: Jobs) -> None:
    """Add the routes that change a job."""

    @routes.post("/jobs/{job}/cancel", responses=_ENDED)
    def cancel(job: str) -> Any:
        """Cancel a job that is queued or runs."""
        return jobs.cancel(job)

    @routes.post("/jobs/{job}/retry", responses=_ENDED)
    def retry(job: str) -> Any:
        """Queue a job again that failed or was cancelled; finished frames are kept."""
        return jobs.retry(job)

    @routes.delete("/jobs/{job}", status_code=204)
    def delete(job: str) -> None:
        """Remove a job and its results; one that runs is cancelled first."""
        jobs.delete(job)


def _add_command(routes: APIRouter, jobs: Jobs) -> None:
    """Add the route that writes a job as a command line."""

    @routes.post(
        "/command",
        responses={
            200: _shows({"command": _SHOWN["command"], "words": ["vidmatte", "clip.mp4"]}, "It.")
        },
    )
    def command(body: JobBody) -> Any:
        """The command line that does the same as a job with one clip."""
        if len(body.clips) > 1:
            raise RequestError(422, "invalid", "clips: name one clip")
        words, text, _ = jobs.command(_requests(body)[0])
        return {"command": text, "words": words}


def _requests(body: JobBody) -> list[JobRequest]:
    """The jobs that a body asks for. Raises RequestError for a preset that there is not."""
    settings, output = body.settings, body.output
    if body.preset is not None:
        preset = next((one for one in PRESETS if one["name"] == body.preset), None)
        if preset is None:
            names = ", ".join(one["name"] for one in PRESETS)
            raise RequestError(422, "invalid", f"preset {body.preset}: choose from {names}")
        settings = {**preset["settings"], **settings}
        output = JobOutput(**{**preset["output"], **output.model_dump(exclude_unset=True)})
    clips = dict.fromkeys(body.clips)
    return [JobRequest(clip, settings, output, body.preset) for clip in clips]
