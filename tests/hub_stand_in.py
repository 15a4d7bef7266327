"""A server on this machine with the few answers of the Hub that `push` and `pull` ask for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

TOKEN, OWNER = "hf_right", "me"


class Repositories:
    """What the server holds: of each repository its commits, each a whole set of files."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # name -> commit -> path -> content
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}  # by SHA-256, as they were uploaded
        self.damaged: set[str] = set()  # paths that are sent with other bytes
        self.calls: list[str] = []

    def head(self, name: str) -> str:
        return list(self.commits[name])[-1]

    def put(self, name: str, files: dict[str, bytes]) -> str:
        """One commit more, of these files over those that were there."""
        commits = self.commits.setdefault(name, {})
        whole = {**(commits[self.head(name)] if commits else {}), **files}
        number = hashlib.sha1(repr((name, len(commits), sorted(whole))).encode()).hexdigest()
        commits[number] = whole
        return number


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".png"))


@contextmanager
def serving() -> Iterator[tuple[str, Repositories]]:
    """Its address and what it holds."""
    held = Repositories()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            held.calls.append(str(arguments[1]).rpartition(" ")[0])

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(
            self, value: Any = b"", *, status: int = 200, error: str | None = None, size: int | None = None,
            headers: dict[str, str] | None = None,
        ) -> None:  # fmt: skip
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for key, each in {"Content-Length": str(size or len(content)), **(headers or {})}.items():
                self.send_header(key, each)
            if error:
                self.send_header("X-Error-Code", error)
                self.send_header("X-Error-Message", error)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        @property
        def known(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def do_PUT(self) -> None:
            content, wanted = self.body(), self.path.rpartition("/")[2]
            if hashlib.sha256(content).hexdigest() != wanted:
                return self.answer(status=400)
            held.large[wanted] = content
            self.answer()

        def do_POST(self) -> None:
            path, body = urlparse(self.path).path, self.body()
            if path == "/api/validate-yaml":
                right = json.loads(body)["content"].startswith("---\nlibrary_name: trilemma\n")
                return self.answer({"errors": [], "warnings": []}, status=200 if right else 400)
            if not self.known:
                return self.answer({"error": "Invalid username or password."}, status=401)
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or OWNER}/{asked['name']}"
                if not name.startswith(f"{OWNER}/"):
                    return self.answer({"error": "no rights"}, status=403, error="Forbidden")
                new = name not in held.commits
                held.commits.setdefault(name, {})
                if new:
                    held.put(name, {".gitattributes": b""})
                    held.private |= {name} if asked.get("visibility") == "private" or asked.get("private") else set()
                return self.answer({"url": f"{address}/{name}"}, status=200 if new else 409)
            if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
                objects = [
                    {**one, "actions": {"upload": {"href": f"{address}/lfs/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                return self.answer({"transfer": "basic", "objects": objects})
            found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
            if found is None or found[1] not in held.commits:
                return self.answer(status=404, error="RepoNotFound")
            if found[2] == "preupload":
                there = held.commits[found[1]][held.head(found[1])]
                return self.answer({
                    "files": [
                        {
                            "path": one["path"], "uploadMode": "lfs" if is_large(one["path"]) else "regular",
                            "shouldIgnore": False, "oid": blob(there[one["path"]]) if one["path"] in there else None,
                        }
                        for one in json.loads(body)["files"]
                    ]
                })  # fmt: skip
            files = {}
            for line in body.decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = held.large[value["oid"]]
            number = held.put(found[1], files)
            self.answer({"commitUrl": f"{address}/{found[1]}/commit/{number}", "commitOid": number})

        def do_GET(self) -> None:
            path = urlparse(self.path).path
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                return self.info(found[1], found[2] or "main")
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                return self.file(found[1], found[2], found[3])
            self.answer(status=404, error="RepoNotFound")

        do_HEAD = do_GET

        def commit(self, name: str, revision: str) -> str | None:
            """The commit of a revision; None where an error was answered."""
            if name not in held.commits or (name in held.private and not self.known):
                return self.answer(status=401 if not self.known else 404, error="RepoNotFound")
            number = held.head(name) if revision == "main" else revision
            if number not in held.commits[name]:
                return self.answer(status=404, error="RevisionNotFound")
            return number

        def info(self, name: str, revision: str) -> None:
            if (number := self.commit(name, revision)) is None:
                return
            siblings = []
            for path, content in held.commits[name][number].items():
                large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
                one = {"rfilename": path, "size": len(content), "blobId": blob(content)}
                siblings.append(one | ({"lfs": large} if is_large(path) else {}))
            self.answer({"id": name, "sha": number, "siblings": siblings})

        def file(self, name: str, revision: str, path: str) -> None:
            if (number := self.commit(name, revision)) is None:
                return
            content = held.commits[name][number].get(path)
            if content is None:
                return self.answer(status=404, error="EntryNotFound")
            tag = hashlib.sha256(content).hexdigest() if is_large(path) else blob(content)
            sent = bytes(len(content)) if path in held.damaged else content
            self.answer(sent, headers={"ETag": f'"{tag}"', "X-Repo-Commit": number, "Accept-Ranges": "bytes"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield address, held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
