"""``python -m fdpass.serve.worker N``: a worker, whose end of the channel is descriptor N."""

from __future__ import annotations

from fdpass.serve.worker.worker import main

main()
