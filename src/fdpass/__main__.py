"""``python -m fdpass`` is the command ``fdpass``."""

from fdpass._cli import main

if __name__ == "__main__":
    main(prog_name="fdpass")
