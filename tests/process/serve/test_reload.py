"""A reload reads code and settings again; a generation that does not start changes nothing."""

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%s"})
"""


def test_a_reload_reads_code_and_settings_again(serve):
    files = {"app.py": APP % "one", "serve.toml": "access-log = 'first'\nworkers = 1\n"}
    server = serve("app:app", "--config", "serve.toml", files=files, env={"FDPASS_WORKERS": "1"})
    assert server.get() == (200, "one")
    (server.folder / "app.py").write_text(APP % "two")
    (server.folder / "serve.toml").write_text("access-log = 'second'\nlog-level = 'debug'\n")
    assert server.get() == (200, "one")
    assert server.cli("reload").stdout == "generation 2 serves\n"
    assert server.get("/late") == (200, "two")
    server.wait_connections(finished=3, live=0)
    assert "/late" in (server.folder / "second").read_text()
    assert "/late" not in (server.folder / "first").read_text()


def test_a_changed_setting_that_only_a_restart_changes_is_logged_with_both_values(serve):
    files = {"serve.toml": "backlog = 64\n"}
    server = serve("app:app", "--workers", "1", "--config", "serve.toml", files=files)
    (server.folder / "serve.toml").write_text("backlog = 128\n")
    server.cli("reload")
    assert "reload: --backlog stays 64: only a restart can make it 128" in server.log()


def test_new_workers_get_the_running_value_of_a_setting_that_only_a_restart_changes(serve):
    """Dispatcher and workers have to agree, for instance about which of them accepts."""
    server = serve(
        "app:app", "--workers", "1", "--config", "serve.toml", files={"serve.toml": "accept = 'worker'\n"}
    )
    (server.folder / "serve.toml").write_text("accept = 'dispatcher'\n")
    for _ in range(2):
        server.cli("reload")
        assert server.get()[0] == 200
    assert server.log().count("reload: --accept stays 'worker': only a restart can make it 'dispatcher'") == 2


def test_a_reload_keeps_a_scaled_number_of_workers_until_the_number_in_the_file_changes(serve):
    server = serve("app:app", "--config", "serve.toml", files={"serve.toml": "workers = 2\n"}, workers=None)
    assert len(server.workers()) == 2
    server.cli("scale", "1")
    server.cli("reload")
    assert len(server.workers()) == 1
    (server.folder / "serve.toml").write_text("workers = 3\n")
    server.cli("reload")
    assert len(server.workers()) == 3


def refused(server, said):
    """A reload fails, says why, and the old generation serves on."""
    before = server.workers()
    done = server.cli("reload", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fdpass reload: ")
    assert said in done.stderr
    assert server.workers() == before
    assert server.status()["server"]["generation"] == 1
    assert server.get()[0] == 200
    return done.stderr


def test_a_generation_that_does_not_start_leaves_the_old_one_serving_and_the_command_says_why(serve):
    server = serve(files={"app.py": APP % "one", "serve.toml": ""}, env={"FDPASS_CONFIG": "serve.toml"})
    (server.folder / "app.py").write_text("import missing_module\n")
    told = refused(server, "ModuleNotFoundError: No module named 'missing_module'")
    assert '/app.py", line 1, in <module>\n' in told  # the application's traceback, on lines of its own
    (server.folder / "app.py").write_text("import sys\nsys.exit(3)\n")
    refused(server, "the application failed to start: SystemExit: 3")
    (server.folder / "app.py").unlink()
    refused(server, "there is no module 'app'")
    (server.folder / "app.py").write_text(APP % "two")
    (server.folder / "serve.toml").write_text("workrs = 3")
    refused(server, "there is no setting 'workrs'")
    (server.folder / "serve.toml").write_text("keep_alive = 3")
    assert server.cli("reload").stdout.startswith("generation ")
    assert server.get() == (200, "two")


def test_the_old_generation_finishes_its_requests_in_progress(serve):
    text = """
        import asyncio, os
        async def app(scope, receive, send):
            body = str(os.getpid()).encode()
            headers = [(b"content-length", b"%d" % (6 + len(body)))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": body})
    """
    server = serve("app:app", "--workers", "1", "--lifespan", "off", files={"app.py": text})
    (old,) = server.workers()
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while stream.readline().strip():
            pass
        assert stream.read(6) == b"begun "
        server.cli("reload")
        assert old not in server.workers()
        assert old in server.workers("retiring")
        (server.folder / "go").touch()
        assert stream.read() == str(old).encode()
    server.wait_status(lambda status: old not in [w["pid"] for w in status["workers"]])
    assert server.log().count("lost") == 0
