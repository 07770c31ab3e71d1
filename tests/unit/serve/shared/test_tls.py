"""The TLS context of a worker: made from the files in the settings, or refused with their names."""

import errno
import ssl
import subprocess

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import Config


def test_without_a_certificate_there_is_no_context():
    assert tls.context(Config()) is None


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """cert.pem, key.pem, other.pem (another key), locked.pem (with a password); made by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        try:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem")
    openssl(*new, "-subj", "/CN=other", "-keyout", "other.pem", "-out", "other-cert.pem")
    openssl("ec", "-in", "key.pem", "-aes128", "-passout", "pass:secret", "-out", "locked.pem")
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=r", "-keyout", "rsa.pem", "-out", "r.pem"
    )
    openssl("pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:secret", "-out", "locked8.pem")
    openssl("x509", "-in", "cert.pem", "-outform", "der", "-out", "cert.der")
    files = [folder / name for name in ("key.pem", "other-cert.pem", "cert.pem")]
    (folder / "order.pem").write_bytes(b"".join(file.read_bytes() for file in files))
    (folder / "cut.pem").write_bytes((folder / "cert.pem").read_bytes()[:200])
    (folder / "text").write_text("no certificate\n")
    return folder


def settings(folder, **files):
    return Config(**{f"tls_{kind}": str(folder / name) for kind, name in files.items()})


@pytest.mark.parametrize(
    "files", [{"cert": "cert.pem", "key": "key.pem"}, {"cert": "both.pem"}, {"cert": "both.pem", "ca": "cert.pem"}]
)
def test_certificate_key_and_authorities_make_a_context(certificates, files):
    context = tls.context(settings(certificates, **files))
    assert (context.verify_mode != 0) == ("ca" in files)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cert": "none"}, r"^--tls-cert \S*/none: No such file"),
        ({"cert": "cert.pem", "key": "none"}, r"^--tls-key \S*/none: No such file"),
        ({"cert": "cert.pem", "key": "."}, r"^--tls-key \S*: Is a directory"),
        ({"cert": "text"}, r"^--tls-cert \S*/text: there is no PEM certificate in this file"),
        (
            {"cert": "cert.der", "key": "key.pem"},
            r"^--tls-cert \S*/cert.der: there is no PEM certificate in this file",
        ),
        ({"cert": "cert.pem"}, r"^--tls-cert \S*/cert.pem: there is no private key .* with --tls-key$"),
        ({"cert": "cert.pem", "key": "text"}, r"^--tls-key \S*/text: there is no PEM private key in this file"),
        ({"cert": "key.pem", "key": "cert.pem"}, r"^--tls-cert \S*/key.pem: this file has the key, .*: exchange"),
        (
            {"cert": "cert.pem", "key": "other.pem"},
            r"^--tls-key \S*/other.pem: .* does not belong .*/cert.pem: give",
        ),
        ({"cert": "cert.pem", "key": "rsa.pem"}, r"^--tls-key \S*/rsa.pem: the private key does not belong"),
        ({"cert": "order.pem"}, r"^--tls-cert \S*/order.pem: .* first certificate in this file: .* first$"),
        (
            {"cert": "cert.pem", "key": "locked.pem"},
            r"^--tls-key \S*/locked.pem: .* password.* -in \S*/locked.pem",
        ),
        ({"cert": "cert.pem", "key": "locked8.pem"}, r"^--tls-key \S*/locked8.pem: the key has a password"),
        ({"cert": "cut.pem", "key": "key.pem"}, r"^--tls-cert \S*/cut.pem or --tls-key \S*/key.pem: .*is damaged"),
        ({"cert": "both.pem", "ca": "none"}, r"^--tls-ca \S*/none: No such file"),
        ({"cert": "both.pem", "ca": "text"}, r"^--tls-ca \S*/text: there is no PEM certificate in this file"),
        ({"cert": "both.pem", "ca": "cut.pem"}, r"^--tls-ca \S*/cut.pem: the file is damaged"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(certificates, files, words):
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        tls.context(settings(certificates, **files))


def test_a_file_that_may_not_be_read_is_refused_with_the_user(certificates, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read every file
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
    with pytest.raises(
        ConfigError, match=r"^--tls-cert \S*: Permission denied for user \d+: let the user of the server"
    ):
        tls.context(settings(certificates, cert="cert.pem", key="key.pem"))
