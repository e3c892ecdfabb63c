"""How an endpoint is reached: the key from the environment, one pool of connections, the proxy."""

import ipaddress
import os

import httpx

from tunewise.errors import SettingError
from tunewise.models.chat_format import shortened
from tunewise.task import EndpointSpec

CONNECT_TIMEOUT_S = 10.0


def find_key(variable: str | None, host: str, scheme: str) -> tuple[str, str | None]:
    """Where the key comes from, in words for the message of a refusal, and the key; None: none is sent.

    variable: the name from the task file; when given, it must be set. Raises SettingError when it is not,
    or when the value cannot stand in a header.
    """
    names = [variable] if variable else ["TUNEWISE_API_KEY"]
    if not variable and scheme == "https" and (host == "openai.com" or host.endswith(".openai.com")):
        names.append("OPENAI_API_KEY")
    for name in names:
        key = os.environ.get(name, "").strip()
        if not key:
            continue
        if not key.isascii() or not key.isprintable():
            raise SettingError(
                f"the environment variable {name} holds characters that no key has (a line break, a letter "
                "outside ASCII); set it to the bare key"
            )
        return f"It came from the environment variable {name}", key
    if variable:
        raise SettingError(
            f"the task names the environment variable {variable} for the key (`api_key_env`), but it is not "
            f"set; run: export {variable}=..."
        )
    return f"No key was sent: set {' or '.join(names)} in the environment", None


def open_client(
    spec: EndpointSpec, key: str | None, host: str, transport: httpx.BaseTransport | None
) -> httpx.Client:
    """One pool with as many connections as requests may be under way. Raises SettingError for a bad proxy."""
    headers = {"accept": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
        if host.endswith(".openai.azure.com"):
            headers["api-key"] = key  # addresses of deployments there take no other
    try:
        return httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(spec.timeout_s, connect=min(CONNECT_TIMEOUT_S, spec.timeout_s), pool=None),
            limits=httpx.Limits(
                max_connections=spec.concurrency,
                max_keepalive_connections=spec.concurrency,
                keepalive_expiry=30.0,
            ),
            # A proxy that serves the outside world cannot reach a server on this machine.
            trust_env=not is_loopback(host),
            transport=transport,
        )
    except (ImportError, ValueError) as error:  # what httpx makes of a proxy that it cannot use
        raise SettingError(
            "the proxy that the environment names (ALL_PROXY, HTTPS_PROXY, HTTP_PROXY) cannot be used: "
            f"{shortened(str(error))}"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
