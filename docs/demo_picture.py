"""Make docs/demo-serve.svg: the picture that `fdpass demo serve --against uvicorn` shows after some seconds.

    python docs/demo_picture.py [--seconds 20]

The figures are those of the run, on the machine on which it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from fdpass._cli import demo_serve
from fdpass._cli.demo_picture import picture
from fdpass._cli.demo_server import running
from fdpass._cli.demo_show import Show
from fdpass._cli.demo_uvicorn import NAME, running_uvicorn

PLACE = Path(__file__).parent / "demo-serve.svg"
COLUMNS = 100
BEFORE_THE_END = 0.5  # seconds
TITLE = f"fdpass demo serve --against {NAME}"


async def play(seconds: float) -> RenderableType:
    with tempfile.TemporaryDirectory(prefix="fdpass-") as folder:
        workers = demo_serve._WORKERS  # noqa: SLF001 - as the command does it
        with (
            running(folder, demo_serve._APP, workers=workers) as place,  # noqa: SLF001
            running_uvicorn(folder, demo_serve._APP, workers=workers) as other,  # noqa: SLF001
        ):
            show = Show(seconds, NAME)
            run = asyncio.create_task(demo_serve._play(show, place, other, live=False))  # noqa: SLF001
            await asyncio.sleep(show.end - time.monotonic() - BEFORE_THE_END)
            found = picture(show)
            await run
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    found = asyncio.run(play(parser.parse_args().seconds))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Group(Text(f"$ {TITLE}", "bold"), Text(), found))
    svg = console.export_svg(title=TITLE, unique_id="fdpass")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts of another host
    PLACE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(PLACE)


if __name__ == "__main__":
    main()
