"""The OpenAPI document, and what requests made from it are answered with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from service_clips import green_picture
from service_jobs import submit
from service_support import Server, running_server, upload

SECONDS = 15.0
LEAST = 2  # requests to each endpoint where the time is over


@pytest.fixture(scope="module")
def offline_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that fetches no weights, whatever it is asked for."""
    folder = tmp_path_factory.mktemp("service")
    environment = {"VIDMATTE_OFFLINE": "1", "VIDMATTE_MODELS_DIR": str(folder / "models")}
    with running_server(folder / "data", environment=environment) as started:
        yield started


def test_every_endpoint_is_described(offline_server: Server) -> None:
    with offline_server.client() as client:
        document = client.get("/api/openapi.json").json()
        page = client.get("/api")
    operations = [(path, method, one) for path, item in document["paths"].items()
                  for method, one in item.items()]  # fmt: skip
    assert len(operations) > 25
    for path, method, operation in operations:
        assert operation["description"], (method, path)
        assert operation["responses"]["4XX"]["content"]["application/json"]
    assert "example" in json.dumps(document["paths"]["/api/clips"]["post"]["responses"]["201"])
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page.text)
    assert tags.count("dt") == len(operations)
    assert not {"script", "style", "link", "img"} & set(tags)


@pytest.mark.parametrize("each", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_no_request_made_from_the_document_ends_in_an_error_of_the_server(
    each: int, offline_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the requests name a clip and a job that exist."""
    # Read at the import; otherwise it keeps its tables in the working directory.
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path / "hypothesis"))
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import Case

    with offline_server.client() as client:
        clip = upload(client, green_picture(tmp_path / "photo.png"))
        known = {"clip": clip, "job": submit(client, clip)}
    schema = schemathesis.openapi.from_url(f"{offline_server.url}/api/openapi.json")
    answers: dict[str, list[int]] = {}
    began = time.monotonic()

    def call(case: Case) -> None:
        label = f"{case.method} {case.path}"
        count = len(answers.setdefault(label, []))
        is_late = time.monotonic() - began > SECONDS
        if case.path == "/api/events" or (is_late and count >= LEAST):
            return
        if count % 2 and case.method != "DELETE":
            named = {name: known[name] for name in case.path_parameters if name in known}
            case.path_parameters.update(named)
        answer = case.call(timeout=20, allow_redirects=False)
        answers[label].append(answer.status_code)
        allowed = answer.status_code < 500 or answer.status_code in (503, 507)
        assert allowed, (label, answer.status_code, answer.text[:300], answer.request.url)

    for operation in schema.get_all_operations():
        run = given(case=operation.ok().as_strategy())(call)
        settings(
            max_examples=each, deadline=None, database=None, derandomize=True,
            phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck),
        )(run)()  # fmt: skip
    assert len(answers) > 20
    assert 200 in answers["GET /api/clips/{clip}"]
    assert 404 in answers["GET /api/clips/{clip}"]
    assert offline_server.process.poll() is None
    assert not any("Traceback" in line for line in offline_server.lines)
