"""A relay in front of a gateway under which its models have other names: GPT-4O for gpt-4o, byte for byte else.

So that a second gateway, which has models of the same names itself, can ask the first one as an OpenAI-compatible
server. It knows nothing of HTTP: what breaks or ends on one side breaks or ends on the other.

    python tests/live/servers/other_names.py HOST PORT
"""

import asyncio
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, old: bytes, new: bytes) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data.replace(old, new))  # of the same length, so that Content-Length stays true
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(host: str, port: int) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            pump(reader, far_writer, b'"GPT-', b'"gpt-'),
            pump(far_reader, writer, b'"gpt-', b'"GPT-'),
        )

    server = await asyncio.start_server(relay, "127.0.0.1")
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
