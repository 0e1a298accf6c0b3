"""HTTP/2 and gRPC on asyncio: frames, header fields, connections, streams, each in a module of its own."""
