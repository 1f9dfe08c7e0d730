"""Recognise secrets in texts: widely where none belongs (a config), for certain where harmless texts look alike (data).

Prefixes and lengths are as their issuers document them; see docs.github.com, "GitHub's token formats", and the rules of
gitleaks. A W&B key is 40 hexadecimal digits, like the commit in model.revision: it cannot be recognised.
"""

import re
from typing import Final

_NAMES = r"(\w+[_-])?(api[_-]?key|key|token|secret|password|passwd|pwd|auth|sig|signature)"
_HEADER = r"(authorization['\"]?\s*[:=]\s*['\"]?(bearer|basic|token|digest)\s+|x-api-key['\"]?\s*[:=]\s*['\"]?)"
_VALUE = r"[^\s&$<>{(\[\\'\"]{4,}"  # no interpolation, no placeholder, no pattern
_LOOKS_LIKE: Final = {
    "a Hugging Face token": r"(?<![^\W_])hf_[A-Za-z0-9]{20,}",
    "an API key": r"(?<![^\W_])sk-[\w-]{0,40}?[A-Za-z0-9]{20,}",  # OpenAI sk-, sk-proj-; Anthropic sk-ant-
    "a GitHub token": r"(?<![^\W_])(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{22,})",
    "a GitLab token": r"(?<![^\W_])glpat-[\w-]{20,}",
    "an AWS access key": r"(?<![^\W_])(AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a Google API key": r"(?<![^\W_])AIza[\w-]{35}",
    "a Slack token": r"(?<![^\W_])xox[abeoprs]-[\w-]{10,}",
    "a token of npm or PyPI": r"(?<![^\W_])(npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,})",
    "a Stripe key": r"(?<![^\W_])([sr]k_(live|test)|whsec)_[A-Za-z0-9]{10,}",
    "an API key of a model's host": r"(?<![^\W_])(gsk_|r8_|nvapi-|xai-|pplx-|tgp_v1_)[\w-]{20,}",
    "a JSON web token": r"(?<![^\W_])eyJ[\w-]{10,999}\.[\w-]{4,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a URL with a password": r"://[^/\s:@]{0,99}:[^/\s@]{1,499}@",
    "a URL with a secret": rf"(?i)://\S{{0,999}}[?&;]{_NAMES}={_VALUE}",
    "a header with a secret": rf"(?i)(?<![^\W_])({_HEADER}|bearer\s+(?=\S*\d)(?=\S{{16}})){_VALUE}",
    "a password": rf"(?i)(?<![^\W_])(password|passwd|pwd)={_VALUE}",
}
_AWS = r"(?i)aws_?secret_?(access_?)?key['\"]?\s*[:=]\s*['\"]?(?P<body>[A-Za-z0-9/+]{40})(?![\w/+])"
_IS_KEY: Final = {
    "hf_": ("a Hugging Face token", r"(?<![^\W_])hf_(?P<body>[A-Za-z0-9]{30,})"),
    "sk-": ("an API key", r"(?<![^\W_])sk-[\w-]{0,40}?(?P<body>(?=[A-Za-z]{0,60}\d)[A-Za-z0-9]{20,})"),
    **{f"gh{kind}_": ("a GitHub token", rf"(?<![^\W_])gh{kind}_(?P<body>[A-Za-z0-9]{{36,}})") for kind in "pousr"},
    "github_pat_": ("a GitHub token", r"(?<![^\W_])github_pat_(?P<body>\w{22,})"),
    "glpat-": ("a GitLab token", r"(?<![^\W_])glpat-(?P<body>[\w-]{20,})"),
    "AKIA": ("an AWS access key", r"(?<![^\W_])AKIA(?P<body>[A-Z0-9]{16})(?![A-Z0-9])"),
    "ASIA": ("an AWS access key", r"(?<![^\W_])ASIA(?P<body>[A-Z0-9]{16})(?![A-Z0-9])"),
    "AIza": ("a Google API key", r"(?<![^\W_])AIza(?P<body>[\w-]{35})"),
    "xox": ("a Slack token", r"(?<![^\W_])xox[abeoprs]-(?P<body>\d{10,}-[\w-]{3,})"),
    "npm_": ("a token of npm", r"(?<![^\W_])npm_(?P<body>[A-Za-z0-9]{36})"),
    "pypi-AgE": ("a token of PyPI", r"(?<![^\W_])pypi-AgE(?P<body>[\w-]{50,})"),
    "k_live_": ("a Stripe key", r"(?<![^\W_])[sr]k_live_(?P<body>[A-Za-z0-9]{20,})"),
    "whsec_": ("a Stripe key", r"(?<![^\W_])whsec_(?P<body>[A-Za-z0-9]{32,})"),
    "gsk_": ("an API key of a model's host", r"(?<![^\W_])gsk_(?P<body>[A-Za-z0-9]{40,})"),
    "r8_": ("an API key of a model's host", r"(?<![^\W_])r8_(?P<body>[A-Za-z0-9]{37})"),
    "nvapi-": ("an API key of a model's host", r"(?<![^\W_])nvapi-(?P<body>[\w-]{60,})"),
    "xai-": ("an API key of a model's host", r"(?<![^\W_])xai-(?P<body>[A-Za-z0-9]{70,})"),
    "pplx-": ("an API key of a model's host", r"(?<![^\W_])pplx-(?P<body>[A-Za-z0-9]{40,})"),
    "eyJ": ("a JSON web token", r"(?<![^\W_])eyJ[\w-]{10,999}\.eyJ[\w-]{4,9999}\.(?P<body>[\w-]{20,})"),
    "glrt-": ("a GitLab token", r"(?<![^\W_])glrt-(?P<body>[\w-]{20,})"),
    "gldt-": ("a GitLab token", r"(?<![^\W_])gldt-(?P<body>[\w-]{20,})"),
    "api_org_": ("a Hugging Face token", r"(?<![^\W_])api_org_(?P<body>[A-Za-z0-9]{34})"),
    **dict.fromkeys(("secret", "SECRET", "Secret"), ("an AWS secret key", _AWS)),
    "ya29.": ("a Google access token", r"(?<![^\W_])ya29\.(?P<body>[\w-]{40,})"),
    "GOCSPX-": ("a Google client secret", r"(?<![^\W_])GOCSPX-(?P<body>[\w-]{28})"),
    "AccountKey=": ("an Azure storage key", r"AccountKey=(?P<body>[A-Za-z0-9+/]{86})=="),
    "xapp-": ("a Slack token", r"(?<![^\W_])xapp-\d-[A-Z0-9]{8,}-\d{10,}-(?P<body>[0-9a-f]{40,})"),
    "hooks.slack.com/": ("a Slack webhook", r"hooks\.slack\.com/services/T\w{6,}/B\w{6,}/(?P<body>\w{20,})"),
    "dapi": ("a Databricks token", r"(?<![^\W_])dapi(?P<body>[0-9a-f]{32})(?![0-9a-f])"),
    "dop_v1_": ("a DigitalOcean token", r"(?<![^\W_])dop_v1_(?P<body>[0-9a-f]{64})"),
    "dckr_pat_": ("a Docker token", r"(?<![^\W_])dckr_pat_(?P<body>[\w-]{27})"),
    "hvs.": ("a Vault token", r"(?<![^\W_])hvs\.(?P<body>[\w-]{24,})"),
    "shp": ("a Shopify token", r"(?<![^\W_])shp(at|ca|pa|ss)_(?P<body>[0-9a-fA-F]{32})"),
    "ntn_": ("a Notion token", r"(?<![^\W_])ntn_(?P<body>[A-Za-z0-9]{40,})"),
    "lin_api_": ("a Linear key", r"(?<![^\W_])lin_api_(?P<body>[A-Za-z0-9]{40})"),
    "sbp_": ("a Supabase token", r"(?<![^\W_])sbp_(?P<body>[0-9a-f]{40})"),
    "ATATT3": ("an Atlassian token", r"(?<![^\W_])ATATT3(?P<body>[\w=-]{100,})"),
    "SG.": ("a SendGrid key", r"(?<![^\W_])SG\.[\w-]{22}\.(?P<body>[\w-]{43})"),
    ":AA": ("a Telegram token", r"(?<![^\W_])\d{8,10}:(?P<body>AA[\w-]{33})(?![\w-])"),
    "glsa_": ("a Grafana token", r"(?<![^\W_])glsa_(?P<body>[A-Za-z0-9]{32})_[0-9a-fA-F]{8}"),
    "pul-": ("a Pulumi token", r"(?<![^\W_])pul-(?P<body>[0-9a-f]{40})"),
    "rubygems_": ("a RubyGems key", r"(?<![^\W_])rubygems_(?P<body>[0-9a-f]{48})"),
    "AGE-SECRET-KEY-1": ("a private key", r"AGE-SECRET-KEY-1(?P<body>[0-9A-Z]{58})"),
    "PRIVATE KEY": (
        "a private key",
        r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----[\s\S]{0,200}?(?P<body>[A-Za-z0-9+/]{40,})",
    ),
}
"""Text that every match holds -> kind of secret, and a pattern of its fixed prefix and its random body."""
_EXAMPLE: Final = re.compile(r"example|placeholder|your|dummy|fake", re.IGNORECASE)
_LEAST_VARIED: Final = 3
"""Different characters of a key; a placeholder (`xxxx...`) has fewer."""


def kind_of_secret(text: str) -> str | None:
    """Name the kind of secret that the text seems to hold (`a GitHub token`); None without one."""
    return next((kind for kind, pattern in _LOOKS_LIKE.items() if re.search(pattern, text)), None) or kind_of_key(text)


def kind_of_key(text: str) -> str | None:
    """Name the kind of key that the text holds for certain; None without one.

    A fixed prefix, the length and a random body make a key. A variable named `password`, an example of documentation
    (`AKIAIOSFODNN7EXAMPLE`) and a placeholder are none.
    """
    for prefix, (kind, pattern) in _IS_KEY.items():
        if prefix in text and any(map(_is_random, re.finditer(pattern, text))):
            return kind
    return None


def _is_random(match: re.Match[str]) -> bool:
    body = match["body"]
    return len(set(body)) >= _LEAST_VARIED and not _EXAMPLE.search(body)
