"""What all routes of the service share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from vidmatte.service.config import ServiceConfig
from vidmatte.service.database import Database


@dataclass
class Context:
    """The parts of one running service. ``stopping`` is set when it ends: streams end then."""

    config: ServiceConfig
    database: Database
    stopping: threading.Event = field(default_factory=threading.Event)
    #: Set by ``app.create_app``; each part's class is in the module of that name.
    events: Any = None
    clips: Any = None
    jobs: Any = None
    viewer: Any = None
