"""The checks, each in an environment of its own: `nox -s lint`. What each one does stands in `.ci/step`."""

import nox

nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """The rules and the format of the code."""
    step(session, "dev")


@nox.session
def types(session: nox.Session) -> None:
    """The types of the code."""
    step(session, "dev")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site."""
    step(session, "docs")


@nox.session
def instructions(session: nox.Session) -> None:
    """What a request costs, against the record."""
    step(session, "dev")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that take seconds."""
    step(session, "dev")


@nox.session
def soak(session: nox.Session) -> None:
    """The tests that take minutes."""
    step(session, "dev")


def step(session: nox.Session, extra: str) -> None:
    """Run the step that is called like the session."""
    session.install("-e", f".[{extra}]")
    session.run(".ci/step", session.name, external=True)
