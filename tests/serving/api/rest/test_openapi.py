"""The API's description: true to the API, and to OpenAPI."""

import re
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from serving.api.rest.inference import NOT_OFFERED
from tests.serving.api.rest.client import Client

pytestmark = pytest.mark.asyncio

EXAMPLES = {
    "/v1/sentiment": {"reviews": ["good"], "version": ""},
    "/v1/topic": {"newswires": ["net"], "top_k": 2},
    "/v1/house-price": {"houses": [{"rooms": 6, "tax_rate": None}]},
}


def schema(document: Any, content: Any) -> Any:
    """The schema of a body, complete."""
    return {"$ref": content["application/json"]["schema"]["$ref"], "components": document["components"]}


async def test_every_path_of_the_api_is_described(client: Client) -> None:
    answer = await client.get("/openapi.json")
    document = answer.json
    assert document["openapi"] == "3.1.0"
    served = {route.path for route in client.application.routes if isinstance(route, Route)}
    assert set(document["paths"]) == served - {"/", "/docs", "/openapi.json", *NOT_OFFERED}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method in ("get", "post")
            assert operation["summary"]
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
    names = [operation["operationId"] for each in document["paths"].values() for operation in each.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", EXAMPLES)
async def test_requests_and_answers_are_as_described(client: Client, path: str) -> None:
    document = (await client.get("/openapi.json")).json
    operation = document["paths"][path]["post"]
    request = schema(document, operation["requestBody"]["content"])
    jsonschema.validate(EXAMPLES[path], request, jsonschema.Draft202012Validator)
    answer = await client.post(path, EXAMPLES[path])
    response = schema(document, operation["responses"]["200"]["content"])
    jsonschema.validate(answer.json, response, jsonschema.Draft202012Validator)
    for wrong in ({}, EXAMPLES[path] | {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, request, jsonschema.Draft202012Validator)
        refused = await client.post(path, wrong)
        assert refused.status == 400
        error = schema(document, operation["responses"]["400"]["content"])
        jsonschema.validate(refused.json, error, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_there_is_a_page_for_people(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    page = answer.body.decode()
    assert 'href="/openapi.json"' in page
    assert "POST /v1/house-price" in page
    assert "<script" not in page
    assert "://" not in page, "nothing is fetched from elsewhere"
