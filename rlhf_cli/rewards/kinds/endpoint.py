"""The settings of a reward that asks a server, and the rules for where prompts may be sent."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.kinds.base import IsolatedSource

OWN_HOSTS: Final[Mapping[str, tuple[str, ...]]] = {
    "OPENAI_": ("openai.com", "azure.com"),
    "ANTHROPIC_": ("anthropic.com",),
    **dict.fromkeys(("HF_", "HUGGING"), ("huggingface.co", "huggingface.cloud", "hf.space")),
    **dict.fromkeys(("GITHUB_", "GH_"), ("github.com", "github.ai", "azure.com")),
    "AWS_": ("amazonaws.com",),
    "AZURE_": ("azure.com",),
    **dict.fromkeys(("GOOGLE_", "GEMINI_"), ("googleapis.com",)),
    "WANDB_": ("wandb.ai",),
    "CLOUDFLARE_": ("cloudflare.com",),
    "COHERE_": ("cohere.com", "cohere.ai"),
    "DEEPSEEK_": ("deepseek.com",),
    "FIREWORKS_": ("fireworks.ai",),
    "GITLAB_": ("gitlab.com",),
    "GROQ_": ("groq.com",),
    "KAGGLE_": ("kaggle.com",),
    "MISTRAL_": ("mistral.ai",),
    "NPM_": ("npmjs.org", "npmjs.com"),
    **dict.fromkeys(("NVIDIA_", "NGC_"), ("nvidia.com",)),
    "OPENROUTER_": ("openrouter.ai",),
    "PERPLEXITY_": ("perplexity.ai",),
    "REPLICATE_": ("replicate.com",),
    "SLACK_": ("slack.com",),
    "STRIPE_": ("stripe.com",),
    "TOGETHER_": ("together.ai", "together.xyz"),
    "XAI_": ("x.ai",),
    **dict.fromkeys(("CI_", "DATABASE_", "DB_", "DOCKER", "KUBE", "PG", "TWINE_", "VAULT_"), ()),
}
"""The beginning of a variable's name -> the domains that its token is for: a stranger's settings name both.

One without a domain is for no server of scores.
"""


class Endpoint(IsolatedSource):
    """A server, and how to ask it."""

    is_repeatable: ClassVar[bool] = False

    url: str = Field(min_length=1)
    """https://..., or http://localhost:PORT/..."""
    insecure: bool
    """Whether to allow plain http to another machine. Everyone on the way can then read the texts and forge scores."""
    token_env: str | None = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable with the token, which is sent as `Authorization: Bearer`; null: none."""
    concurrency: int = Field(ge=1, le=256)
    """Requests under way at a time."""
    request_timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one request may take; timeout_s is for all of a rollout."""
    max_response_bytes: int = Field(ge=1)
    """The longest answer that is read."""

    @model_validator(mode="after")
    def _safe_url(self) -> Self:
        if not self.url.isprintable() or set(self.url) & set(" \\"):
            raise ValueError("url must hold no white space and no backslash: programs read them differently")
        parts = urlsplit(self.url)
        if parts.port == 0 or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be https://HOST/..., or http:// on this machine")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must hold no password: give the name of an environment variable as token_env")
        if parts.scheme == "http" and not is_local(self.url) and not self.insecure:
            raise ValueError("url is http and not this machine: take https, or allow it by insecure=true")
        if (owners := self._other_owners()) is not None:
            raise ValueError(
                f"token_env: {self.token_env} is for {' or '.join(owners) or 'another service'}, and would be sent to "
                f"{parts.hostname}: "
                "export that server's own token under another name"
            )
        return self

    def _other_owners(self) -> tuple[str, ...] | None:
        """The domains that the token is for, where the server is none of them; None where it may be sent there."""
        host = f".{(urlsplit(self.url).hostname or '').rstrip('.')}"
        named = (self.token_env or "").upper()
        domains = next((own for name, own in OWN_HOSTS.items() if named.startswith(name)), None)
        is_own = domains is None or is_local(self.url) or any(host.endswith(f".{domain}") for domain in domains)
        return None if is_own else domains

    def check(self, key: str) -> None:
        """Raise UserError where the token's variable is not set, or is no text for a header."""
        if self.token_env is None:
            return
        token = os.environ.get(self.token_env, "")
        if not token:
            wrong = "is not set"
        elif not (token.isascii() and token.isprintable()):
            wrong = "holds a line end or another character that no token has"
        else:
            return
        raise UserError(f"the environment variable {self.token_env} {wrong}", where=f"{key}.token_env", fix="export it")

    def notice(self, log: str | None = None) -> str | None:
        """A note that prompts and completions leave the machine, and where they go; None for this machine."""
        if is_local(self.url):
            return None
        token = f", and the token in {self.token_env}," if self.token_env else ""
        return f"reward: prompts and completions{token} are sent to {urlsplit(self.url).netloc}"


def is_local(url: str) -> bool:
    """Whether the server is this machine: localhost or a loopback address, not a name such as 127.0.0.1.example.com."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "localhost.") or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a host is written as a loopback address, 127.0.0.0/8 or ::1 (also as ::ffff:127.0.0.1)."""
    try:
        address = ip_address(host)
    except ValueError:  # a name, or a way to write numbers that programs read differently: 0177.1, 2130706433
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
