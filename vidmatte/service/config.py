"""What ``vidmatte serve`` is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class ServiceConfig:
    """The options of the service. Sizes are in bytes, times in seconds.

    data: the folder of everything that the service stores. token: None only on a loopback host.
    jobs: how many run at once. workers: of each job, as ``vidmatte --workers`` takes it. keep: how
    long clips and results stay. max_upload: of one file.
    max_disk: of all that is stored. min_free: of the disk, below which nothing new is accepted.
    job_memory: resident memory of one job, above which it is ended; None for no limit.
    job_silence: time without any progress after which a job is ended.
    allowed_hosts: further names by which browsers reach the service, as behind a proxy.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    jobs: int = 1
    workers: str = "1"
    keep: float = 7 * 24 * 3600
    max_upload: int = 20 * GIB
    max_disk: int = 100 * GIB
    min_free: int = 1 * GIB
    max_clips: int = 1000
    max_jobs: int = 1000
    max_megapixels: float = 200.0
    job_memory: int | None = None
    job_silence: float = 600.0
    models_dir: str | None = None
    allowed_hosts: tuple[str, ...] = ()

    @property
    def database(self) -> Path:
        """The file of the database."""
        return self.data / "vidmatte.sqlite"

    @property
    def clips(self) -> Path:
        """The folder of the clips, one folder each, named by the clip's id."""
        return self.data / "clips"

    @property
    def uploads(self) -> Path:
        """The folder of unfinished uploads."""
        return self.data / "uploads"

    @property
    def results(self) -> Path:
        """The folder of the jobs, one folder each, named by the job's id."""
        return self.data / "jobs"

    @property
    def views(self) -> Path:
        """The folder of rendered frames and raw alphas, which may be emptied at any time."""
        return self.data / "views"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of subprocesses (their TMPDIR), emptied at each start."""
        return self.data / "tmp"
