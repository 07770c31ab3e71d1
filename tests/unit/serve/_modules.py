"""Applications for tests: modules in a folder (the fixture ``folder``), and loading them."""

from fdpass.serve.worker.application import load


def write(folder, name, text):
    path = folder / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def loaded(folder, name, *, factory=False):
    return load(name, str(folder), factory=factory)
