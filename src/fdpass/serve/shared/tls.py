"""Make the TLS context from the settings. Each worker makes its own, so a reload reads the files again."""

from __future__ import annotations

import ssl

from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config


def context(config: Config) -> ssl.SSLContext | None:
    """Make a context from ``tls_cert``, ``tls_key`` and ``tls_ca``; None without a certificate.

    Raises:
        ConfigError: A file is missing or is not PEM, or the key does not belong to the certificate.
    """
    if not config.tls_cert:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        what = f"--tls-cert {config.tls_cert}" + (f", --tls-key {config.tls_key}" if config.tls_key else "")
        made.load_cert_chain(config.tls_cert, config.tls_key or None, _no_password)
        if config.tls_ca:
            what = f"--tls-ca {config.tls_ca}"
            made.load_verify_locations(config.tls_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {error.strerror if isinstance(error, OSError) else error}") from error
    made.set_alpn_protocols(["http/1.1"])
    return made


def _no_password() -> str:
    raise ValueError("the key has a password, and a server cannot ask for it: store the key without one")
