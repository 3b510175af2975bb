"""A chat-completions server on this machine that streams, stalls, cuts, refuses and raves."""

import http.server
import json
import threading


class ModelServer:
    """Answers as its `manner` says; `asked` holds every request's body."""

    def __init__(self, manner="stream", pieces=("你好！", "欢迎来", "玩。")):
        self.manner = manner
        self.pieces = pieces
        self.asked = []
        self.let_go = threading.Event()  # ends a stall
        self.waiting = threading.Event()  # set when a stall has begun
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self):  # noqa: C901 - one small method a manner
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.close_connection = True
                self._answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.headers, json.loads(body)))
                self.close_connection = True
                getattr(self, f"_{outer.manner}")()

            def _begin(self, kind="text/event-stream"):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Connection", "close")
                self.end_headers()

            def _say(self, piece, finish=None):
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": finish}
                chunk = {
                    "id": "1",
                    "object": "chat.completion.chunk",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()

            def _stream(self):
                self._begin()
                for piece in outer.pieces:
                    self._say(piece)
                self._say("", finish="stop")
                self.wfile.write(b"data: [DONE]\n\n")

            def _stall(self):
                self._begin()
                self._say(outer.pieces[0])
                outer.waiting.set()
                outer.let_go.wait(30)

            def _cut(self):
                self._begin()
                self._say(outer.pieces[0])

            def _refuse(self):
                self._error(429, "slow down")

            def _break(self):
                self._error(500, "out of memory")

            def _error(self, code, message):
                self._answer(code, {"error": {"message": message}})

            def _answer(self, code, content):
                body = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")  # or the next question goes into its end
                self.end_headers()
                self.wfile.write(body)

            def _rave(self):
                self._begin()
                self.wfile.write(b"data: {this is no JSON\n\n")

            def _page(self):
                self._begin("text/html")
                self.wfile.write(b"<html>login</html>")

        return Handler
