"""The page: one HTML file, and a Content-Security-Policy that allows exactly the style and the script in it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fdpass._dashboard.http import Response


def page() -> Response:
    """Read the file, and make the response."""
    html = files("fdpass._dashboard").joinpath("page.html").read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash('style', html)}",
            f"script-src {_hash('script', html)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Response(html.encode(), "text/html; charset=utf-8", headers={"content-security-policy": policy})


def _hash(element: str, html: str) -> str:
    """The source expression of the text of the one element of this name (CSP Level 3, 2.3.1)."""
    (text,) = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
