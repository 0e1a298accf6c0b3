"""The floor: a grpc.aio server that takes the same bytes and gives back the same bytes, and does nothing else.

It reads its answers, one constant for each method, from the first line of standard input, and prints its address.
"""

import asyncio
import base64
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio


class _Constant(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Answers every method that has a reply."""

    def __init__(self, replies: dict[str, bytes]) -> None:
        self._handlers = {
            method: grpc.unary_unary_rpc_method_handler(_constant(reply)) for method, reply in replies.items()
        }

    def service(self, details: Any) -> Any:
        return self._handlers.get(details.method)


def _constant(reply: bytes) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def answer(message: bytes, context: Any) -> bytes:
        return reply

    return answer


async def serve(replies: dict[str, bytes]) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((_Constant(replies),))
    await server.start()
    gc.freeze()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve({method: base64.b64decode(reply) for method, reply in json.loads(sys.stdin.readline()).items()}))
