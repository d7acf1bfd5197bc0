#!/usr/bin/env python3
"""A procedure at an agent's WAMP router, registered and called.

    pip install autobahn msgpack
    cli/examples/wamp.py rs://127.77.0.1:7072         # an address that `pipes context ls` shows

Realm `default` is for applications of one's own, and open to every client on the agent's machine. A procedure that is
registered at one agent can be called at every other.
"""

import sys

from autobahn.asyncio.component import Component, run

URL = sys.argv[1] if len(sys.argv) > 1 else "rs://127.0.0.1:7072"

component = Component(
    transports=[{"type": "rawsocket", "url": URL, "serializer": "msgpack", "max_retries": 0}],
    realm="default",
)


@component.on_join
async def joined(session, details):
    await session.register(lambda first, second: first + second, "com.example.add")
    print("2 + 3 =", await session.call("com.example.add", 2, 3))
    session.leave()


if __name__ == "__main__":
    run([component], log_level="error")
