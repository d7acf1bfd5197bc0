#!/usr/bin/env python3
"""A procedure at an agent's WAMP router, registered and called.

    pip install autobahn msgpack
    cli/examples/wamp.py rs://127.77.0.1:7072         # an address that `pipes context ls` shows

Realm `default` is for applications of one's own, and open to every client on the agent's machine. A procedure that is
registered at one agent can be called at every other.
"""

import asyncio
import sys

from autobahn.asyncio.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp.serializer import MsgPackSerializer

URL = sys.argv[1] if len(sys.argv) > 1 else "rs://127.77.0.1:7072"


class Session(ApplicationSession):
    async def onJoin(self, details):
        await self.register(lambda first, second: first + second, "com.example.add")
        print("2 + 3 =", await self.call("com.example.add", 2, 3))
        self.leave()

    def onDisconnect(self):
        asyncio.get_running_loop().stop()


if __name__ == "__main__":
    ApplicationRunner(URL, "default", serializers=[MsgPackSerializer()]).run(Session, log_level="error")
