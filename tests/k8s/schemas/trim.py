"""Trims a generated schema to what people write: no status, and no definition that nothing refers to."""

import json
import sys


def references(node: object) -> set[str]:
    """The definitions that `node` refers to."""
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


schema = json.load(sys.stdin)
definitions = schema.pop("definitions")
kind = definitions.pop(schema.pop("$ref").rpartition("/")[2])
kind["properties"].pop("status", None)
kept: dict[str, object] = {}
wanted = references(kind)
while wanted:
    name = wanted.pop()
    kept[name] = definitions[name]
    wanted |= references(kept[name]) - kept.keys()
print(json.dumps(schema | kind | {"definitions": dict(sorted(kept.items()))}, indent=1))
