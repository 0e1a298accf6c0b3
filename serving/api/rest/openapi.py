"""The API's description as an OpenAPI 3.1 document, made of the types that it is read and written with."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from serving import __version__
from serving.api.rest.ask import Ask
from serving.api.rest.errors import Reply
from serving.api.rest.messages import Error
from serving.api.rest.tensors import InferBody
from serving.api.rest.typed import KINDS

OPENAPI_VERSION: Final = "3.1.0"

_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"

_ERRORS: Final = {
    "400": "Something is wrong with the request; the message names the field and the instance.",
    "401": "The server asks for a token (Authorization: Bearer), and this is none, or not valid.",
    "403": "The token is not for this, or models are managed elsewhere.",
    "404": "There is no such model, version or label.",
    "413": "The body is larger than the server takes.",
    "429": "The queue is full, the answer could not be ready in time, or the client asks more than it may; Retry-After "
    "says in how many seconds to try.",
    "500": "A fault of the server's.",
    "503": "Nothing was started: the server is going, or the model is not loaded.",
    "504": "The answer was not ready in time.",
}

_SUMMARIES: Final = {
    "/v1/sentiment": "Is a movie review positive or negative?",
    "/v1/topic": "Which of the 46 topics of Reuters-21578 is a newswire about?",
    "/v1/house-price": "What is the median price of a home in a Boston suburb, at 1970s prices?",
    "/v2": "The server's name, version and extensions.",
    "/v2/health/live": "Is the server there?",
    "/v2/health/ready": "Is every model ready?",
    "/v2/models/stats": "What was counted of all models.",
    "/v2/models/{model}": "A model's versions, inputs and outputs.",
    "/v2/models/{model}/ready": "Is the model ready?",
    "/v2/models/{model}/config": "The model's configuration.",
    "/v2/models/{model}/stats": "What was counted of the model.",
    "/v2/models/{model}/infer": "Tensors in, tensors out (Open Inference Protocol v2).",
    "/v2/repository/index": "Every version that is in the repository, and whether it is ready.",
    "/v2/repository/models/{model}/load": "Serve a model, or what has changed of it.",
    "/v2/repository/models/{model}/unload": "Serve a model no more.",
}

_VERSION: Final = "/versions/{version}"

_TIMEOUT: Final = {
    "name": "Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "description": "Milliseconds, from its arrival, in which the request is to be answered: what can't be is refused "
    "at once, and what is late is not computed.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def document(routes: Iterable[tuple[str, Iterable[str]]]) -> dict[str, Any]:
    """The OpenAPI document of these paths and their methods; those of which it has no summary are left out."""
    kinds = {kind.path: kind for kind in KINDS.values()}
    types = [each for kind in KINDS.values() for each in (kind.request, kind.response)]
    _, components = msgspec.json.schema_components([*types, InferBody, Error], ref_template=_REF)
    paths: dict[str, Any] = {}
    for path, methods in routes:
        summary = _SUMMARIES.get(path.replace(_VERSION, ""))
        if summary is None:
            continue
        kind = kinds.get(path)
        request = InferBody if path.endswith("/infer") else kind.request if kind else None
        for method in methods:
            paths.setdefault(path, {})[method.lower()] = _operation(
                method, path, summary, request, kind.response if kind else None
            )
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Triptych",
            "version": __version__,
            "description": "Movie-review sentiment, newswire topic, house price: typed predictions under /v1, the "
            "Open Inference Protocol v2 under /v2.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(
    method: str, path: str, summary: str, request: type[Any] | None, response: type[Any] | None
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer."}
    if response is not None:
        answer["content"] = _content(response)
    operation: dict[str, Any] = {
        "operationId": "_".join([method.lower(), *re.findall(r"\w+", path)]),
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ],
        "responses": {"200": answer}
        | {status: {"description": words, "content": _content(Error)} for status, words in _ERRORS.items()},
    }
    if request is not None:
        operation["parameters"].append(_TIMEOUT)
        operation["requestBody"] = {"required": True, "content": _content(request)}
    return operation


def _content(kind: type[Any]) -> dict[str, Any]:
    return {_JSON: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Triptych</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em }}
pre {{ overflow-x: auto; background: #8881; padding: 1em }} td {{ padding-right: 1.5em; vertical-align: top }}</style>
<h1>Triptych {version}</h1>
<p>Predictions over HTTP and JSON. <a href="/openapi.json">openapi.json</a> describes every request and answer.</p>
<pre>curl {example} -d '{{"reviews": ["A wonderful film."]}}'</pre>
<table>
{rows}
</table>
"""

HTML: Final = (b"content-type", b"text/html; charset=utf-8")


class Description:
    """The document and a page for people, made when first asked for."""

    def __init__(self, routes: Iterable[tuple[str, Iterable[str]]]) -> None:
        self._routes = list(routes)
        self._document = b""
        self._page = b""

    def document(self, ask: Ask, _: bytes) -> None:
        """`GET /openapi.json`."""
        self._document = self._document or msgspec.json.encode(document(self._routes))
        ask.end(self._document)

    def page(self, ask: Ask, _: bytes) -> None:
        """`GET /`."""
        self._page = self._page or self._written().encode()
        ask.end(Reply(self._page, fields=(HTML,)))

    def _written(self) -> str:
        rows = "\n".join(
            f"<tr><td><code>{method.upper()} {path}</code><td>{operation['summary']}"
            for path, methods in document(self._routes)["paths"].items()
            if _VERSION not in path
            for method, operation in methods.items()
        )
        return _PAGE.format(version=__version__, example="localhost:8000/v1/sentiment", rows=rows)
