"""The TLS context of a worker: made from the files in the settings, or refused with their names."""

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
        ({"cert": "cert.pem", "key": "none"}, r"^--tls-cert \S*, --tls-key \S*/none: No such file"),
        ({"cert": "text"}, r"^--tls-cert \S*/text: "),
        ({"cert": "cert.pem"}, r"^--tls-cert \S*/cert.pem: "),
        ({"cert": "cert.pem", "key": "other.pem"}, r"^--tls-cert .*--tls-key \S*/other.pem: .*mismatch"),
        ({"cert": "cert.pem", "key": "locked.pem"}, r"--tls-key \S*/locked.pem: the key has a password"),
        ({"cert": "both.pem", "ca": "none"}, r"^--tls-ca \S*/none: No such file"),
        ({"cert": "both.pem", "ca": "text"}, r"^--tls-ca \S*/text: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(certificates, files, words):
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        tls.context(settings(certificates, **files))
