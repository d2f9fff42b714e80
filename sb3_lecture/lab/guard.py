"""Who may talk to the lab: whoever holds the token, from a page of the lab itself, under a name that cannot be rebound.

Another site open in the same browser can send requests to 127.0.0.1, too, and a name it owns can be made to point there (DNS
rebinding). So every request must carry a Host that is one of ours, an Origin (where there is one; WebSockets must have it)
that is the same, and the token: once in the URL, from then on in a cookie that scripts cannot read.
"""

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORBIDDEN, NOT_ALLOWED, SEE_OTHER = 403, 405, 303
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
NO_TOKEN = "This page needs the token: open the URL that `sb3-lecture lab` has printed."


class Guard:
    """Lets through what comes from the lab's own pages.

    :param app: what lies behind
    :param token: the secret
    :param port: of the server
    :param names: host names that are ours, besides numeric addresses
    """

    def __init__(self, app: ASGIApp, token: str, port: int, names: tuple[str, ...] = ("localhost",)) -> None:
        self.app, self.token, self.port, self.names = app, token, port, names
        self.cookie = f"sb3_lecture_lab_{port}"  # cookies know no ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or hand on one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers, is_socket = Headers(scope=scope), scope["type"] == "websocket"
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        refusal = self._refusal(scope, headers, is_socket)
        given = [value for key, value in query if key == "token"]
        if not refusal and not (self._is_token(given[0]) if given else self._has_cookie(headers)):
            refusal = NO_TOKEN
        if refusal:
            if is_socket:
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            else:
                await PlainTextResponse(refusal + "\n", FORBIDDEN, SECURITY_HEADERS)(scope, receive, send)
            return
        if given and not is_socket:
            await self._welcome(scope, query)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(key.encode(), value.encode()) for key, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, send if is_socket else send_with_headers)

    def _refusal(self, scope: Scope, headers: Headers, is_socket: bool) -> str:
        """Why a request is refused, the token apart; "" if it is not."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "Wrong Host."
        if len(origins) > 1 or (is_socket and not origins) or (origins and origins[0] != f"http://{hosts[0]}"):
            return "Wrong Origin."
        if not is_socket and scope["method"] not in ("GET", "HEAD"):
            return "Only GET is allowed."
        return ""

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if not name:
            name, port = host, "80"
        if port != str(self.port):
            return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True  # a number is no name: nobody can make it point elsewhere

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self.token.encode())

    def _has_cookie(self, headers: Headers) -> bool:
        for line in headers.getlist("cookie"):
            cookie: Any = SimpleCookie()
            try:
                cookie.load(line)
            except CookieError:
                continue
            if self.cookie in cookie and self._is_token(cookie[self.cookie].value):
                return True
        return False

    def _welcome(self, scope: Scope, query: list[tuple[str, str]]) -> RedirectResponse:
        """Put the token into a cookie and out of the address bar."""
        rest = urlencode([(key, value) for key, value in query if key != "token"])
        path = "/" + scope["path"].lstrip("/\\")  # "//elsewhere" would lead to another host
        response = RedirectResponse(path + (f"?{rest}" if rest else ""), SEE_OTHER, SECURITY_HEADERS)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response
