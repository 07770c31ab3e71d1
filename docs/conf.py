"""The documentation site: Sphinx over the Markdown pages as they are, so that they read the same on a forge.

The source folder is the root of the repository: a link from one page to another, or to a file, is the same
relative path here and there. `.ci/step docs` builds it.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

from fdpass import __version__

project = "fdpass"
author = "The fdpass developers"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "benchmarks/README.md", "docs/*.md", "docs/decisions/*.md"]
exclude_patterns = [".*", "build", "dist", "src", "tests", "node_modules"]
myst_heading_anchors = 4  # the anchors of a forge: lower case, dashes for spaces
suppress_warnings = ["myst.header"]  # a page may leave a level of headings out

html_theme = "furo"
html_title = f"fdpass {__version__}"
html_copy_source = False
html_show_sphinx = False

NAVIGATION = """

```{toctree}
:hidden:

Start <self>
docs/guide
docs/serve
docs/watching
docs/live
docs/upgrade
docs/moving-in
docs/deploy
docs/fleet
docs/frameworks
docs/keep
docs/dashboard
docs/reference
docs/errors
docs/how-it-works
docs/benchmarks
docs/decisions/README
docs/glossary
CONTRIBUTING
SECURITY
CHANGELOG
```
"""
BELOW = {"docs/benchmarks": ["/benchmarks/README"], "CONTRIBUTING": ["/docs/releasing"]}
"""Pages that stand below another in the navigation."""


def navigated(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a page its part of the navigation, which no page has in its own text: a forge would show it as code."""
    if page == app.config.root_doc:
        source[0] += NAVIGATION
    elif page == "docs/decisions/README":
        records = sorted(path.stem for path in Path(app.srcdir, "docs/decisions").glob("0*.md"))
        source[0] += hidden(records)
    elif page in BELOW:
        source[0] += hidden(BELOW[page])


def hidden(pages: list[str]) -> str:
    """A part of the navigation that the page itself does not show."""
    return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def first_page(app: Sphinx, failure: Exception | None) -> None:
    """A web server shows index.html first: that is the README."""
    if failure is None and app.builder.format == "html":
        shutil.copyfile(app.outdir / "README.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", navigated)
    app.connect("build-finished", first_page)
