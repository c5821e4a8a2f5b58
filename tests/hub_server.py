"""A Hub on loopback that hands out files, as hf_hub_download asks for them."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serving(files: dict[str, bytes], gated: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Serve `owner/name/file` -> bytes at every revision; gives the endpoint and the list of what was asked for.

    A gated Hub shows nothing to those who have not asked.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            data = self.answer()
            if data is not None:
                self.wfile.write(data)

        def answer(self) -> bytes | None:
            owner, name, _, revision, file = unquote(self.path).strip("/").split("/", 4)
            asked.append(f"{self.command} {owner}/{name}/{file}@{revision}")
            data = None if gated else files.get(f"{owner}/{name}/{file}")
            if data is None:
                self.send_response(401 if gated else 404)
                self.send_header("X-Error-Code", "GatedRepo" if gated else "EntryNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            return data

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
