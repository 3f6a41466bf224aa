"""Building blocks of pages: the templates, styles and scripts that lie beside this file."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

import jinja2


def template(name: str) -> jinja2.Template:
    """A template that escapes whatever is put into it; its `tojson` escapes <, >, & and '."""
    loader = jinja2.PackageLoader("multicl.report", ".")
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True}
    return jinja2.Environment(loader=loader, **options).get_template(name)  # type: ignore[arg-type]


def paragraphs(text: str) -> list[str]:
    """A text, split at empty lines."""
    return [p for p in re.split(r"\n\s*\n", text.strip()) if p]


def joined(*names: str) -> str:
    """The text of files beside this one, concatenated."""
    here = resources.files(__package__)
    return "\n".join((here / name).read_text(encoding="utf-8") for name in names)


def script_of(*names: str) -> str:
    """Scripts concatenated into one, in a scope of its own."""
    return "\n".join(['"use strict";', "{", joined(*names), "}", ""])


def script_hash(script: str) -> str:
    """The hash by which a page's content policy allows this script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def save_html(path: Path, html: str) -> Path:
    """Write a page; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")  # the script's hash holds on Windows, too
    return path
