"""HTTP/1.1: uvicorn's protocol over sockets of our own, bounded, timed, and stopped without loss."""
