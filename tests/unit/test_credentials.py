"""Secrets in texts: a data set of code is full of words that only look like one."""

from __future__ import annotations

import time

import pytest

from rlhf_cli.credentials import kind_of_key, kind_of_secret

PEM = "-----BEGIN RSA PRIVATE KEY-----"
KEYS = {
    "a Hugging Face token": "hf_" + "aBc" * 12,
    "an API key": "sk-ant-api03-" + "aB3" * 11,
    "a GitHub token": "github_pat_" + "aB3" * 9,
    "a GitLab token": "glpat-" + "aB3" * 7,
    "an AWS access key": "AKIA" + "ABCD2345" * 2,
    "a Google API key": "AIza" + "aB3-_" * 7,
    "a Slack token": "xoxb-123456789012-aB3",
    "a token of npm": "npm_" + "aB3" * 12,
    "a token of PyPI": "pypi-AgEIcHlwaS5vcmc" + "aB3" * 20,
    "a Stripe key": "sk_live_" + "aB3" * 8,
    "an API key of a model's host": "gsk_" + "aB3" * 18,
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + "aB3" * 14,
    "a private key": f"{PEM}\\nProc-Type: 4,ENCRYPTED\\n\\n" + "aB3/" * 16,
}
OTHERS = (
    ("a GitLab token", "glrt-" + "aB3" * 7),
    ("a Hugging Face token", "api_org_" + "aB3" * 11 + "x"),
    ("an AWS secret key", "aws_secret_access_key = " + "aB3/" * 10),
    ("an AWS secret key", '"AWS_SECRET_KEY": "' + "aB3+" * 10 + '"'),
    ("a Google access token", "ya29." + "aB-3_" * 9),
    ("a Google client secret", "GOCSPX-" + "aB3_" * 7),
    ("an Azure storage key", "AccountKey=" + "aB3" * 28 + "xy=="),
    ("a Slack token", "xapp-1-A0B1C2D3E4-1234567890-" + "a1b2" * 16),
    ("a Slack webhook", "https://hooks.slack.com/services/T0ABCDEFG/B0ABCDEFG/" + "aB3" * 8),
    ("a Databricks token", "dapi" + "0a1b2c3d" * 4),
    ("a DigitalOcean token", "dop_v1_" + "0a1b2c3d" * 8),
    ("a Docker token", "dckr_pat_" + "aB3" * 9),
    ("a Vault token", "hvs." + "aB3" * 10),
    ("a Shopify token", "shpat_" + "0a1b2c3d" * 4),
    ("a Notion token", "ntn_" + "aB3" * 15),
    ("a Linear key", "lin_api_" + "aB3d" * 10),
    ("a Supabase token", "sbp_" + "0a1b2c3d" * 5),
    ("an Atlassian token", "ATATT3xFfGF0" + "aB3_" * 40),
    ("a SendGrid key", "SG." + "aB" * 11 + "." + "aB3" * 14 + "x"),
    ("a Telegram token", "1234567890:AA" + "aB3" * 11),
    ("a Grafana token", "glsa_" + "aB3d" * 8 + "_0a1b2c3d"),
    ("a Pulumi token", "pul-" + "0a1b2c3d" * 5),
    ("a RubyGems key", "rubygems_" + "0a1b2c3d" * 6),
    ("a private key", "AGE-SECRET-KEY-1" + "QP" * 28 + "Z2"),
)
HARMLESS = (
    "password = os.environ['PASSWORD']", "password=hunter2", "curl https://me:pass@host/x?token=abcd1234",
    "Authorization: Bearer abcdefgh12345678", f"if text.startswith('{PEM}'):", f"{PEM}\n...\n-----END PRIVATE KEY-----",
    "AKIAIOSFODNN7EXAMPLE", "hf_" + "x" * 34, "sk-" + "X" * 48, "ghp_" + "your0token0" * 4, "a" * 40,
    "hf_internal-testing/tiny", "xai-explainable-methods-library", "pypi-publish-workflow-of-2024",
    "SG.a.b", "dapi-" + "a" * 32, "AccountKey=" + "x" * 86 + "==", "12:34:AAaa", "secret_key: " + "aB3/" * 10,
    "sk-SomeVeryLongNameOfAClassInCamelCase", "desk-" + "aB3" * 9,
)  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), [*KEYS.items(), *OTHERS])
def test_a_key_is_named_wherever_it_stands(kind: str, key: str) -> None:
    assert kind_of_key(f"export TOKEN='{key}'\n") == kind
    assert kind_of_key(f"x_{key}") == kind
    assert kind_of_secret(key)


@pytest.mark.parametrize("part", ["sk-", "sk-a", "eyJaaaaaaaaaaaa-", "eyJaaaaaaaaaaaa.", f"{PEM}-", "://a:", "xoxb-1"])
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    """A pattern that begins anew at every match of its prefix would take a minute."""
    began = time.process_time()
    kind_of_key(part * (60_000 // len(part)))
    kind_of_secret(part * (60_000 // len(part)))
    assert time.process_time() - began < 3


@pytest.mark.parametrize("text", HARMLESS)
def test_what_may_be_harmless_is_no_key(text: str) -> None:
    assert kind_of_key(text) is None
