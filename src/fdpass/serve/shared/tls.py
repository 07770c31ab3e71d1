"""Make the TLS context from the settings. Each worker makes its own, so a reload reads the files again."""

from __future__ import annotations

import errno
import os
import re
import ssl

from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config

_CERTIFICATE = re.compile("-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----")
_KEY = re.compile("-----BEGIN ([A-Z]+ )*PRIVATE KEY-----")
_MISMATCHES = {
    "KEY_VALUES_MISMATCH",
    "KEY_TYPE_MISMATCH",
    "NO_CERTIFICATE_ASSIGNED",
}  # the last: keys of two types


class _HasPassword(ValueError):
    """The key has a password, and a server cannot ask for it."""


def context(config: Config) -> ssl.SSLContext | None:
    """Make a context from ``tls_cert``, ``tls_key`` and ``tls_ca``; None without a certificate.

    Raises:
        ConfigError: A file cannot be read or lacks what it should have, the key has a password, or it does not
            belong to the certificate. The sentence names the file and the remedy.
    """
    if not config.tls_cert:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        made.load_cert_chain(config.tls_cert, config.tls_key or None, _no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(_why_no_chain(config.tls_cert, config.tls_key, error)) from error
    if config.tls_ca:
        try:
            made.load_verify_locations(config.tls_ca)
        except (OSError, ValueError) as error:
            raise ConfigError(_why_no_authorities(config.tls_ca, error)) from error
        made.verify_mode = ssl.CERT_REQUIRED
    made.set_alpn_protocols(["http/1.1"])
    return made


def _no_password() -> str:
    raise _HasPassword


def _why_no_chain(cert: str, key: str, error: Exception) -> str:
    """Find out which file is wrong: OpenSSL says neither that, nor more than ``PEM lib`` in most cases."""
    cert_name = f"--tls-cert {cert}"
    key_name = f"--tls-key {key}" if key else cert_name
    cert_text = _text(cert_name, cert)
    key_text = _text(key_name, key) if key else cert_text
    if not _CERTIFICATE.search(cert_text):
        if _CERTIFICATE.search(key_text) and _KEY.search(cert_text):
            return f"{cert_name}: this file has the key, and --tls-key {key} the certificate: exchange the two"
        return f"{cert_name}: there is no PEM certificate in this file: give the file of the certificate chain"
    if not _KEY.search(key_text):
        if not key:
            return f"{cert_name}: there is no private key in this file: give the file of the key with --tls-key"
        return f"{key_name}: there is no PEM private key in this file: give the file of the certificate's key"
    if isinstance(error, _HasPassword):
        return (
            f"{key_name}: the key has a password, and a server cannot ask for it: store the key without one, with "
            f"openssl pkey -in {key or cert} -out FILE"
        )
    if getattr(error, "reason", None) in _MISMATCHES:
        where = cert if key else "this file"
        return (
            f"{key_name}: the private key does not belong to the first certificate in {where}: give the key of "
            "that certificate, or put the server's certificate first"
        )
    files = " or ".join(dict.fromkeys([cert_name, key_name]))
    return f"{files}: the file is damaged, or of a kind that OpenSSL does not know ({error})"


def _why_no_authorities(authorities: str, error: Exception) -> str:
    name = f"--tls-ca {authorities}"
    if not _CERTIFICATE.search(_text(name, authorities)):
        return f"{name}: there is no PEM certificate in this file: give the file of the authorities' certificates"
    return f"{name}: the file is damaged, or of a kind that OpenSSL does not know ({error})"


def _text(name: str, path: str) -> str:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read()
    except OSError as error:
        remedy = ""
        if error.errno == errno.EACCES:
            remedy = f" for user {os.geteuid()}: let the user of the server (--user) read it"
        raise ConfigError(f"{name}: {error.strerror}{remedy}") from error
